package cluster

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestANodesConfigurationIsItsOwn(t *testing.T) {
	const id = "364ee7bc-240b-4de5-a4e9-55e6524cc390"
	p := Paths{Dir: "/state"}
	s, err := specOf("n2")
	if err != nil {
		t.Fatal(err)
	}
	files, err := p.nodeFiles(s, id)
	if err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for _, f := range files {
		content[f.path] = string(f.content)
	}
	if content["/etc/hostname"] != "n2\n" || content["/etc/machine-id"] != strings.ReplaceAll(id, "-", "")+"\n" {
		t.Errorf("hostname %q, machine id %q", content["/etc/hostname"], content["/etc/machine-id"])
	}
	for _, line := range []string{"127.0.0.1 localhost", "10.99.0.11 n1", "10.99.0.12 n2", "10.99.0.13 n3"} {
		if !strings.Contains(content["/etc/hosts"], line+"\n") {
			t.Errorf("/etc/hosts lacks %q", line)
		}
	}
	var kubelet struct {
		Address, ProviderID, CgroupRoot, TLSCertFile string
	}
	if err := json.Unmarshal([]byte(content[kubeletPath]), &kubelet); err != nil {
		t.Fatal(err)
	}
	if kubelet.Address != "10.99.0.12" || kubelet.ProviderID != "openstack:///"+id ||
		kubelet.CgroupRoot != p.kubeletGroup("n2") || kubelet.TLSCertFile != "/state/run/pki/kubelet-server-n2.crt" {
		t.Errorf("%+v", kubelet)
	}
	for _, path := range []string{proxyPath, "/etc/cni/net.d/10-e2e.conflist"} {
		if !json.Valid([]byte(content[path])) {
			t.Errorf("%s is no JSON: %s", path, content[path])
		}
	}
	if !strings.Contains(content["/etc/cni/net.d/10-e2e.conflist"], `"10.244.2.0/24"`) {
		t.Error("the pods of n2 have another node's addresses")
	}
}

func TestOnlyNodesThatExistAreSpokenOf(t *testing.T) {
	if _, err := specOf("n4"); err == nil || !strings.Contains(err.Error(), "n3 is in az2") {
		t.Errorf("%v", err)
	}
	c := &Cluster{Dir: t.TempDir()}
	if err := c.PowerOff(t.Context(), "../n1"); err == nil {
		t.Error("../n1 was powered off")
	}
	if _, err := c.Exec(t.Context(), "n9", "true"); err == nil {
		t.Error("something ran in n9")
	}
}

func TestTheStateDirectoryHasToMakeSense(t *testing.T) {
	for dir, ok := range map[string]bool{
		"": true, "/var/tmp/other": true, "relative": false, "/" + strings.Repeat("x", 80): false,
	} {
		t.Setenv(DirVariable, dir)
		if _, err := NewPaths(); (err == nil) != ok {
			t.Errorf("%q: %v", dir, err)
		}
	}
}

func TestInitIsTheFirstProcessOfANodeAndNotOfAPod(t *testing.T) {
	for status, want := range map[string]bool{
		"Name:\tcluster\nNSpid:\t4711\t1\nVmPeak:": true,
		"Name:\tkubelet\nNSpid:\t4712\t80\n":       false,
		"Name:\tpause\nNSpid:\t4713\t90\t1\n":      false,
		"Name:\tinit\nNSpid:\t1\n":                 false,
		"":                                         false,
	} {
		if got := isInit(status); got != want {
			t.Errorf("%q: %v", status, got)
		}
	}
}

func TestTheRecordOfAClusterIsReadBack(t *testing.T) {
	p := Paths{Dir: t.TempDir()}
	if _, err := load(p); err == nil || !strings.Contains(err.Error(), "make cluster-up") {
		t.Errorf("without a cluster: %v", err)
	}
	c := &Cluster{Dir: p.Dir, CloudURL: cloudURL(), Nodes: []Node{{Name: "n1", Zone: "az1", Address: "10.99.0.11", ServerID: "x"}}}
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	again, err := load(p)
	if err != nil || again.CloudURL != c.CloudURL || len(again.Nodes) != 1 || again.Nodes[0] != c.Nodes[0] {
		t.Errorf("%+v %v", again, err)
	}
}
