package guest_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// relayVariable tells this binary to speak for the service at that address.
const relayVariable = "CINDER_CSI_GUEST_RELAY"

// relay connects its standard input and output with an address. QEMU runs it
// for every connection that the guest opens to the metadata service, whose own
// address and port nothing on this machine could listen on.
func relay(address string) error {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return err
	}
	go func() { _, _ = io.Copy(conn, os.Stdin) }()
	_, err = io.Copy(os.Stdout, conn)
	return err
}

// metadataOf returns the meta_data.json of a server as Nova writes it.
func metadataOf(t *testing.T, id, name string) []byte {
	t.Helper()
	data, err := json.Marshal(map[string]any{
		"uuid": id, "name": name, "hostname": name + ".novalocal", "availability_zone": "nova", "launch_index": 0,
		"project_id": "0f6e1a4f1c9b4d8e9a2b3c4d5e6f7081", "devices": []any{}, "dedicated_cpus": []any{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// serveMetadata serves a server's metadata until the test ends, and returns the
// address. The first request of all is turned away, as a busy service does.
func serveMetadata(t *testing.T, document []byte) (address string) {
	t.Helper()
	var asked atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /openstack/latest/meta_data.json", func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}
