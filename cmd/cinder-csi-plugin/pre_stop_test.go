package main

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/kube/kubetest"
)

func TestTheHookSaysByItsStatusWhatBecameOfTheVolumes(t *testing.T) {
	server := kubetest.New(t, "token")
	kubeconfig := server.Kubeconfig(t, "token")
	node := func(unschedulable bool, inUse ...string) {
		server.Store(kube.Nodes, "", "node", map[string]any{"spec": map[string]any{"unschedulable": unschedulable}, "status": map[string]any{"volumesInUse": inUse}})
	}
	const volume = "kubernetes.io/csi/cinder.csi.openstack.org^11111111-2222-4333-8444-555555555555"
	hook := func(args ...string) (status int, said string) {
		var out bytes.Buffer
		status = run(append([]string{"pre-stop"}, args...), &out, &out)
		return status, out.String()
	}
	on := []string{"--kubeconfig=" + kubeconfig, "--node-name=node", "--timeout=2s"}

	node(false, volume)
	if status, said := hook(on...); status != 0 || said != "" {
		t.Errorf("a node that stays: %d %q", status, said)
	}
	node(true)
	if status, said := hook(on...); status != 0 || said != "" {
		t.Errorf("an empty node: %d %q", status, said)
	}
	node(true, volume)
	if status, said := hook(on...); status != 1 || !strings.Contains(said, "11111111-2222-4333-8444-555555555555") {
		t.Errorf("a volume that stays: %d %q", status, said)
	}
	t.Setenv("NODE_NAME", "node")
	if status, _ := hook(on[0], on[2]); status != 1 {
		t.Errorf("the node of the environment: %d", status)
	}
	server.Instead(func(w http.ResponseWriter, _ *http.Request) {
		kubetest.Status(w, http.StatusForbidden, "Forbidden", "nodes is forbidden", "node")
	})
	if status, said := hook(on...); status != 2 || !strings.Contains(said, "the verb get for nodes") {
		t.Errorf("a node that nobody may read: %d %q", status, said)
	}
	t.Setenv("NODE_NAME", "")
	if status, said := hook(on[0]); status != 2 || !strings.Contains(said, "--node-name") {
		t.Errorf("no node: %d %q", status, said)
	}
}
