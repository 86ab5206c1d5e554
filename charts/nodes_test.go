package charts

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The taint goes once the plugin of its node has registered, and the controller takes it
// off: neither can wait for that, whatever else they tolerate.
func TestBothRolesTolerateTheTaintOfNodesThatStart(t *testing.T) {
	const key = "example.org/starting"
	tolerates := func(all objects, pod string) bool {
		return slices.ContainsFunc(all.pods()[pod].list("spec", "tolerations"), func(o object) bool {
			return o["key"] == key && o["operator"] == "Exists" && o["effect"] == nil
		})
	}
	own := withValues(t, `
startupTaint: `+key+`
node: {tolerations: [{key: example.org/storage, operator: Exists}]}
additionalDaemonSets: {gpu: {nodeSelector: {pool: gpu}, tolerations: []}}
`)
	with, without := render(t, "", own...), render(t, "default")
	for _, pod := range []string{"controller", "node", "node-gpu"} {
		if !tolerates(with, pod) || tolerates(without, pod) {
			t.Errorf("%s tolerates the wrong taints", pod)
		}
	}
	all := render(t, "everything")
	if n := len(all.pods()["controller"].list("spec", "tolerations")); n != 2 || !tolerates(all, "controller") {
		t.Errorf("%d tolerations", n)
	}
}

func TestANodesHookKnowsItsTimeAndDirectory(t *testing.T) {
	lifecycle := func(all objects, pod string) []string {
		return all.pods()[pod].container(t, "cinder-csi-plugin").object("lifecycle", "preStop", "exec").texts("command")
	}
	if got := lifecycle(render(t, "default"), "node"); got != nil {
		t.Errorf("by default %q", got)
	}
	all := render(t, "everything")
	want := []string{"/bin/cinder-csi-plugin", "pre-stop", "--kubelet-dir=/var/lib/k0s/kubelet", "--timeout=100s"}
	if diff := cmp.Diff(want, lifecycle(all, "node")); diff != "" {
		t.Error(diff)
	}
	// A hook of the operator's own stays beside it.
	own := render(t, "default", "--set", "node.preStop.enabled=true,node.lifecycle.postStart.exec.command={/bin/x}").pods()["node"].container(t, "cinder-csi-plugin")
	if got := own.object("lifecycle", "postStart", "exec").texts("command"); len(got) != 1 {
		t.Errorf("postStart: %v", own["lifecycle"])
	}
	if got := args(all.pods()["node"].container(t, "cinder-csi-plugin"))["--reserved-volume-attachments"]; got != "2" {
		t.Errorf("reserved: %q", got)
	}
	refused(t, []string{"preStop.enabled", "lifecycle.preStop"}, "--set", "node.preStop.enabled=true,node.lifecycle.preStop.exec.command={/bin/x}")
	refused(t, []string{"preStop.enabled", "terminationGracePeriodSeconds", "29"}, "--set", "node.preStop.enabled=true,node.terminationGracePeriodSeconds=29")
	refused(t, []string{"node-gpu", "lifecycle.preStop"}, "--set", "additionalDaemonSets.gpu.nodeSelector.pool=gpu,additionalDaemonSets.gpu.preStop.enabled=true,additionalDaemonSets.gpu.lifecycle.preStop.exec.command={/bin/x}")
	refused(t, []string{"/startupTaint"}, "--set", "startupTaint=a=b:NoExecute")
	refused(t, []string{"/startupTaint"}, "--set", "startupTaint=node.kubernetes.io/not-ready") // the plugin would not start
	refused(t, []string{"/node/reservedVolumeAttachments"}, "--set", "node.reservedVolumeAttachments=-1")
}

// Events are about the pod. Where the volumes are those of another cluster, nobody there
// would look for a pod of this one.
func TestEventsAreAboutThePodUnlessItIsInAnotherCluster(t *testing.T) {
	fields := func(all objects) map[string]string {
		found := map[string]string{}
		for _, e := range all.pods()["controller"].container(t, "cinder-csi-plugin").list("env") {
			found[e.text("name")] = e.text("valueFrom", "fieldRef", "fieldPath")
		}
		return found
	}
	want := map[string]string{"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace", "POD_UID": "metadata.uid"}
	if diff := cmp.Diff(want, fields(render(t, "default", "--set", "events.enabled=true"))); diff != "" {
		t.Error(diff)
	}
	hosted := render(t, "", "--values", "testdata/fleet/hosted-controller.yaml", "--set", "events.enabled=true")
	if got := fields(hosted)["POD_NAME"]; got != "" {
		t.Errorf("hosted: %q", got)
	}
	if got := args(hosted.pods()["controller"].container(t, "cinder-csi-plugin")); got["--events"] != "true" || got["--kubeconfig"] != "/etc/kubeconfig/value" {
		t.Errorf("hosted: %v", got)
	}
}

// TestNoVariableIsGivenTwice: server-side apply, which is Helm 4's, refuses two of one name.
func TestNoVariableIsGivenTwice(t *testing.T) {
	all := render(t, "", withValues(t, `
tracing: {enabled: true, endpoint: "http://c:4318"}
events: {enabled: true}
controller: {extraEnv: [{name: OTEL_TRACES_SAMPLER, value: always_on}, {name: POD_UID, value: x}]}
node: {extraEnv: [{name: OTEL_TRACES_SAMPLER, value: always_on}, {name: NODE_NAME, value: x}]}
`)...)
	for _, pod := range []string{"controller", "node"} {
		seen := map[string]string{}
		for _, e := range all.pods()[pod].container(t, "cinder-csi-plugin").list("env") {
			if _, twice := seen[e.text("name")]; twice {
				t.Errorf("%s: %s is there twice", pod, e.text("name"))
			}
			seen[e.text("name")] = e.text("value")
		}
		if seen["OTEL_TRACES_SAMPLER"] != "always_on" || seen["OTEL_TRACES_SAMPLER_ARG"] != "1" {
			t.Errorf("%s: %v", pod, seen)
		}
	}
}
