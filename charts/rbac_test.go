package charts

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rights maps a resource, as in storage.k8s.io/csinodes, to the verbs that are
// allowed on it. Verbs in one namespace only have its name before the resource.
type rights map[string]string

// wanted are the rights that the sidecars use, and why. The verbs are those of
// their calls of the API; what they look up in their caches needs no get.
func wanted() map[string]rights {
	events := "create patch" // what happened to an object is told at the object
	return map[string]rights{
		"provisioner": {
			"persistentvolumes":                               "create delete get list patch watch", // makes and deletes them; reads the source's for a clone
			"persistentvolumeclaims":                          "list update watch",                  // what to provision; protects the source of a clone
			"storage.k8s.io/storageclasses":                   "list watch",
			"storage.k8s.io/volumeattributesclasses":          "get",        // parameters of a class that a claim is born with
			"storage.k8s.io/volumeattachments":                "list watch", // what is attached isn't deleted
			"storage.k8s.io/csinodes":                         "list watch", // zones
			"nodes":                                           "list watch", // zones
			"events":                                          events,
			"snapshot.storage.k8s.io/volumesnapshots":         "get list update watch", // the source of a volume, protected meanwhile
			"snapshot.storage.k8s.io/volumesnapshotcontents":  "get",
			"kube-system:storage.k8s.io/csistoragecapacities": "create delete list update watch",
			"kube-system:pods":                                "get", // from the pod
			"kube-system:apps/replicasets":                    "get", // to the Deployment, which owns the capacities
		},
		"attacher": {
			"persistentvolumes":                       "list patch watch", // the finalizer
			"storage.k8s.io/csinodes":                 "list watch",       // the node's id
			"storage.k8s.io/volumeattachments":        "list patch watch", // what to attach
			"storage.k8s.io/volumeattachments/status": "patch",
			"kube-system:events":                      events,
		},
		"resizer": {
			"persistentvolumes":                      "list patch watch", // the new size
			"persistentvolumeclaims":                 "list watch",       // the wished size
			"persistentvolumeclaims/status":          "patch",
			"storage.k8s.io/volumeattributesclasses": "list watch",
			"events":                                 events,
		},
		"snapshotter": {
			"snapshot.storage.k8s.io/volumesnapshotclasses":         "list watch",
			"snapshot.storage.k8s.io/volumesnapshotcontents":        "get list patch watch",
			"snapshot.storage.k8s.io/volumesnapshotcontents/status": "patch update",
			"events": events,
		},
	}
}

// granted returns the rights of the roles with that name.
func granted(all objects, name string) rights {
	got := rights{}
	for _, role := range slices.Concat(all.ofKind("ClusterRole"), all.ofKind("Role")) {
		if role.text("metadata", "name") == name {
			collect(got, role.text("metadata", "namespace"), role)
		}
	}
	return got
}

func collect(into rights, namespace string, role object) {
	for _, rule := range role.list("rules") {
		for _, group := range rule.texts("apiGroups") {
			for _, resource := range rule.texts("resources") {
				key := strings.TrimPrefix(group+"/"+resource, "/")
				if namespace != "" {
					key = namespace + ":" + key
				}
				if names := rule.texts("resourceNames"); len(names) > 0 {
					key += " " + strings.Join(names, ",")
				}
				verbs := slices.Concat(strings.Fields(into[key]), rule.texts("verbs"))
				slices.Sort(verbs)
				into[key] = strings.Join(slices.Compact(verbs), " ")
			}
		}
	}
}

func TestEachSidecarMayDoWhatItDoesAndNothingElse(t *testing.T) {
	all := render(t, "default")
	leases := map[string]string{
		"provisioner": "cinder-csi-openstack-org",
		"attacher":    "external-attacher-leader-cinder-csi-openstack-org",
		"resizer":     "external-resizer-cinder-csi-openstack-org",
		"snapshotter": "external-snapshotter-leader-cinder-csi-openstack-org",
	}
	for sidecar, want := range wanted() {
		want["kube-system:coordination.k8s.io/leases"] = "create"
		want["kube-system:coordination.k8s.io/leases "+leases[sidecar]] = "get update"
		if diff := cmp.Diff(want, granted(all, "cinder-csi-"+sidecar)); diff != "" {
			t.Errorf("%s: what it needs (-) is not what it has (+):\n%s", sidecar, diff)
		}
	}
	names := map[string]bool{}
	for _, role := range slices.Concat(all.ofKind("ClusterRole"), all.ofKind("Role")) {
		names[strings.TrimPrefix(role.text("metadata", "name"), "cinder-csi-")] = true
	}
	if got := slices.Sorted(maps.Keys(names)); len(got) != len(wanted()) {
		t.Errorf("roles for %v", got)
	}
}

// The provisioner waits for Nodes and CSINodes with the first PersistentVolumeClaim,
// for the zones and for the capacity alike.
func TestTheProvisionerReadsNodesForTopologyAndForCapacity(t *testing.T) {
	for set, want := range map[string]string{
		"topology.enabled=true,storageCapacity.enabled=true":   "list watch",
		"topology.enabled=false,storageCapacity.enabled=true":  "list watch",
		"topology.enabled=true,storageCapacity.enabled=false":  "list watch",
		"topology.enabled=false,storageCapacity.enabled=false": "",
	} {
		got := granted(render(t, "default", "--set", set), "cinder-csi-provisioner")
		if got["nodes"] != want || got["storage.k8s.io/csinodes"] != want {
			t.Errorf("%s: nodes %q, csinodes %q, want %q", set, got["nodes"], got["storage.k8s.io/csinodes"], want)
		}
	}
}

// TestNoSidecarHasMoreThanItsOwnProjectAsksFor compares with the roles that come
// with the sidecars' source, in the versions that the end-to-end tests run.
func TestNoSidecarHasMoreThanItsOwnProjectAsksFor(t *testing.T) {
	all := render(t, "default")
	for sidecar, published := range map[string]string{
		"provisioner": filepath.Join(module(t, provisioner, "github.com/kubernetes-csi/external-provisioner/v6"), "deploy/kubernetes/rbac.yaml"),
		"attacher":    filepath.Join(module(t, sidecars, "github.com/kubernetes-csi/external-attacher/v4"), "deploy/kubernetes/rbac.yaml"),
		"resizer":     filepath.Join(module(t, sidecars, "github.com/kubernetes-csi/external-resizer/v2"), "deploy/kubernetes/rbac.yaml"),
		"snapshotter": filepath.Join(module(t, sidecars, "github.com/kubernetes-csi/external-snapshotter/v8"), "deploy/kubernetes/csi-snapshotter/rbac-csi-snapshotter.yaml"),
	} {
		text, err := os.ReadFile(published)
		if err != nil {
			t.Fatal(err)
		}
		allowed := rights{}
		for _, role := range parse(t, string(text)) {
			collect(allowed, "", role)
		}
		// What is asked for and not published.
		switch sidecar {
		case "provisioner":
			allowed["storage.k8s.io/volumeattributesclasses"] = "get" // left out there, and called in controller.go
		case "attacher":
			allowed["events"] = "create patch" // of its leader election
		}
		for key, verbs := range granted(all, "cinder-csi-"+sidecar) {
			_, resource, found := strings.Cut(key, ":")
			if !found {
				resource = key
			}
			resource, _, _ = strings.Cut(resource, " ")
			for _, verb := range strings.Fields(verbs) {
				if !slices.Contains(strings.Fields(allowed[resource]), verb) {
					t.Errorf("%s: %s of %s is not among what %s asks for", sidecar, verb, resource, published)
				}
			}
		}
	}
}

func TestNoRuleIsForEverythingAndEveryRoleIsBound(t *testing.T) {
	for _, values := range goldenValues() {
		all := render(t, values)
		for _, kind := range []string{"Role", "ClusterRole"} {
			for _, role := range all.ofKind(kind) {
				for _, rule := range role.list("rules") {
					if strings.Contains(fmt.Sprint(rule), "*") {
						t.Errorf("%s: %s has %v", values, role.id(), rule)
					}
				}
				binding := byID(t, all)[strings.Replace(role.id(), kind, kind+"Binding", 1)]
				if binding.text("roleRef", "name") != role.text("metadata", "name") || binding.text("roleRef", "kind") != kind {
					t.Errorf("%s: %s is bound to nobody", values, role.id())
				}
				for _, subject := range binding.list("subjects") {
					if !same(subject, account(t, all, subject.text("name"))) {
						t.Errorf("%s: %s is bound to %v", values, role.id(), subject)
					}
				}
			}
		}
	}
}

// account returns the subject of a ServiceAccount that is there.
func account(t *testing.T, all objects, name string) object {
	t.Helper()
	a := all.ofKind("ServiceAccount").one(t, name, "metadata", "name")
	return object{"kind": "ServiceAccount", "name": name, "namespace": a.text("metadata", "namespace")}
}

func TestNodesHaveNoRights(t *testing.T) {
	all := render(t, "everything", "--set", "openshift.enabled=false,node.preStop.enabled=false")
	for _, kind := range []string{"RoleBinding", "ClusterRoleBinding"} {
		for _, binding := range all.ofKind(kind) {
			for _, subject := range binding.list("subjects") {
				if subject.text("name") != "storage-controller" {
					t.Errorf("%s gives rights to %s", binding.id(), subject.text("name"))
				}
			}
		}
	}
	if mounts(all.pods()["node"].container(t, "cinder-csi-plugin"), "kube-api-access") {
		t.Error("nodes have a token")
	}
}

// With the hook, a node's token reads Nodes: whether it is being emptied, and of what.
func TestNodesReadNodesOnlyForTheirHook(t *testing.T) {
	if got := granted(render(t, "default"), "cinder-csi-node"); len(got) > 0 {
		t.Errorf("by default %v", got)
	}
	for set, pod := range map[string]string{
		"node.preStop.enabled=true": "node",
		"additionalDaemonSets.gpu.nodeSelector.pool=gpu,additionalDaemonSets.gpu.preStop.enabled=true": "node-gpu",
	} {
		all := render(t, "default", "--set", set)
		if diff := cmp.Diff(rights{"nodes": "get"}, granted(all, "cinder-csi-node")); diff != "" {
			t.Errorf("%s: %s", set, diff)
		}
		for name, p := range all.pods() {
			if c := p.container(t, "cinder-csi-plugin"); mounts(c, "kube-api-access") != (name == pod) {
				t.Errorf("%s: %s has a token: %v", set, name, name != pod)
			}
		}
	}
	if made := render(t, "default", "--set", "node.preStop.enabled=true,rbac.create=false").ofKind("ClusterRole"); len(made) > 0 {
		t.Errorf("rbac.create=false makes %s", made[0].id())
	}
}

func TestTheDriverHasRightsOnlyForWhatIsAskedFor(t *testing.T) {
	if got := granted(render(t, "default"), "cinder-csi-driver"); len(got) > 0 {
		t.Errorf("by default %v", got)
	}
	for _, test := range []struct {
		set, flag, value string
		want             rights
	}{
		{"pvcAnnotations=true", "--pvc-annotations", "true", rights{"persistentvolumeclaims": "get"}},
		{"startupTaint=example.org/starting", "--startup-taint", "example.org/starting", rights{"nodes": "list patch watch", "storage.k8s.io/csinodes": "list watch"}},
		{"events.enabled=true", "--events", "true", rights{"events": "create patch"}},
		{"inspect.enabled=true", "--count-orphans", "true", rights{
			"persistentvolumes": "get list", "persistentvolumeclaims": "get list", "pods": "list", "events": "list", "nodes": "get",
			"storage.k8s.io/csinodes": "get list", "storage.k8s.io/volumeattachments": "list",
			"snapshot.storage.k8s.io/volumesnapshotcontents": "list",
		}},
	} {
		all := render(t, "default", "--set", test.set)
		if diff := cmp.Diff(test.want, granted(all, "cinder-csi-driver")); diff != "" {
			t.Errorf("%s: %s", test.set, diff)
		}
		driver := all.pods()["controller"].container(t, "cinder-csi-plugin")
		if args(driver)[test.flag] != test.value || !mounts(driver, "kube-api-access") {
			t.Errorf("%s: arguments %v", test.set, args(driver))
		}
	}
}

func TestSecretsAreReadOnlyWhereThatIsAskedFor(t *testing.T) {
	reads := func(all objects) []string {
		var found []string
		for _, role := range slices.Concat(all.ofKind("ClusterRole"), all.ofKind("Role")) {
			got := rights{}
			collect(got, role.text("metadata", "namespace"), role)
			for key, verbs := range got {
				if strings.Contains(key, "secrets") {
					found = append(found, key+": "+verbs)
				}
			}
		}
		slices.Sort(found)
		return found
	}
	if got := reads(render(t, "default")); got != nil {
		t.Errorf("by default %q", got)
	}
	if diff := cmp.Diff([]string{"kube-system:secrets cloud-b: get", "secrets: get", "tenants:secrets one,two: get"}, reads(render(t, "everything"))); diff != "" {
		t.Error(diff)
	}
}

func TestRolesAreMadeOnlyIfTheyAreWanted(t *testing.T) {
	for _, set := range []string{"rbac.create=false", "rbac.create=false,openshift.enabled=true"} {
		all := render(t, "default", "--set", set)
		for _, kind := range []string{"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"} {
			if made := all.ofKind(kind); len(made) > 0 {
				t.Errorf("%s makes %s", set, made[0].id())
			}
		}
		if constraints := len(all.ofKind("SecurityContextConstraints")); constraints != strings.Count(set, "openshift")*2 {
			t.Errorf("%s makes %d SecurityContextConstraints", set, constraints)
		}
	}
}
