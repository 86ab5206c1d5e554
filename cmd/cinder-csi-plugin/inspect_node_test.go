package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/nodeinspect"
	"github.com/cinder-csi/cinder-csi/internal/report"
)

// asPlugin has this binary be the plugin.
const asPlugin = "CINDER_CSI_TEST_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

const someServer = "83679162-1378-4288-a2d4-70e13ec132aa"

// TestInspectNodeTakesTheFlagsOfThePluginThatRunsHere unless other ones are given.
func TestInspectNodeTakesTheFlagsOfThePluginThatRunsHere(t *testing.T) {
	t.Setenv(asPlugin, "1")
	dir, err := os.MkdirTemp("", "") // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	registry := filepath.Join(dir, "plugins_registry")
	if err := os.Mkdir(registry, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := l.Addr().String()
	_ = l.Close()
	plugin := exec.Command(os.Args[0], "--endpoint=unix://"+filepath.Join(dir, "csi.sock"), "--provide-controller-service=false",
		"--development_device_dir="+dir, "--nodeid="+someServer, "--node-name=worker-1", "--metadata-url=http://127.0.0.1:1", "--with-topology=false",
		"--reserved-volume-attachments=6", "--http-endpoint="+web,
		"--kubelet-registration-path="+filepath.Join(dir, "plugins", "cinder.csi.openstack.org", "csi.sock"), "--plugin-registration-path="+registry)
	if err := plugin.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = plugin.Process.Signal(os.Interrupt)
		_ = plugin.Wait()
	})
	look := func(args ...string) (a nodeinspect.Answer, status int) {
		var out, said bytes.Buffer
		status = run(append([]string{"inspect", "node", "-o", "json"}, args...), &out, &said)
		if err := json.Unmarshal(out.Bytes(), &a); err != nil {
			t.Fatalf("%v: %s%s", err, &out, &said)
		}
		return a, status
	}
	var a nodeinspect.Answer
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if a, _ = look(); a.Registration.Served && a.Registration.Registered == "no" {
			break
		}
	}
	if a.Server.ServerID != someServer || a.Server.Source != "flag" || a.NodeName != "worker-1" || a.Limit.Reserved != 6 || !strings.Contains(a.Plugin, "--nodeid") {
		t.Errorf("%+v", a)
	}
	if !a.Registration.Served || a.Registration.Registered != "no" { // no kubelet is there
		t.Errorf("%+v", a.Registration)
	}
	a, status := look("--nodeid=0b0b4d11-6e0e-4c5c-9f4b-2d7bd8a7c001", "--node_name=worker-2")
	if a.Server.ServerID != "0b0b4d11-6e0e-4c5c-9f4b-2d7bd8a7c001" || a.NodeName != "worker-2" || a.Limit.Reserved != 6 || status != report.SomethingWrong {
		t.Errorf("status %d: %+v", status, a)
	}
}

func TestInspectNodeThatCanNotLook(t *testing.T) {
	t.Setenv(asPlugin, "1")
	for _, args := range [][]string{
		{"inspect", "node", "--cloud-config=/nowhere/cloud.conf"}, {"inspect", "node", "--reserved-volume-attachments=some"},
		{"inspect", "node", "more"}, {"inspect", "node", "-o", "yaml"},
	} {
		var out, said bytes.Buffer
		if status := run(args, &out, &said); status != report.NoAnswer || out.Len() > 0 || said.Len() == 0 {
			t.Errorf("%q: status %d, %q, %q", args, status, &out, &said)
		}
	}
}
