package devcloud

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOnlyAddressesOfThisMachineAreListenedOn(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:0":        "",
		"localhost:80":       "",
		"[::1]:0":            "",
		"0.0.0.0:0":          "not on loopback",
		":0":                 "not on loopback",
		"198.51.100.7:0":     "not on loopback",
		"somewhere.test:0":   "not on loopback",
		"10.254.253.252:0":   "no interface has it",
		"without-port":       "missing port",
		"[fd00:dead::beef]:": "no interface has it",
	} {
		err := checkListen(address)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
}

func TestABridgeIsInnerUntilSomethingLeadsOut(t *testing.T) {
	class := t.TempDir()
	mkdir := func(parts ...string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(append([]string{class}, parts...)...), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mkdir("eth0", "device")
	mkdir("veth1")
	mkdir("vlan9", "lower_eth0")
	mkdir("empty", "brif")
	mkdir("inner", "brif", "veth1")
	mkdir("outer", "brif", "veth1")
	mkdir("outer", "brif", "eth0")
	mkdir("tagged", "brif", "vlan9")
	for name, want := range map[string]string{
		"empty":  "",
		"inner":  "",
		"outer":  "port eth0 of outer is a network card",
		"tagged": "port vlan9 of tagged lies on eth0",
		"eth0":   "eth0 is no bridge",
	} {
		err := innerBridge(class, name)
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}
