package rpc

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// A pod that is replaced by force ends after its successor has begun.
func TestAnOldPluginLeavesTheSocketOfItsSuccessor(t *testing.T) {
	endpoint, err := ParseEndpoint("unix://" + filepath.Join(t.TempDir(), "csi.sock"))
	if err != nil {
		t.Fatal(err)
	}
	listen := func() net.Listener {
		l, err := endpoint.Listen(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	old, successor := listen(), listen()
	if err := old.Close(); err != nil {
		t.Fatalf("close the old one: %v", err)
	}
	conn, err := net.Dial("unix", endpoint.Address)
	if err != nil {
		t.Fatalf("the successor can't be reached: %v", err)
	}
	_ = conn.Close()
	if err := successor.Close(); err != nil {
		t.Fatalf("close the successor: %v", err)
	}
	if _, err := os.Lstat(endpoint.Address); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}
