package charts

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fleet are the names of the files of values in testdata/fleet, each of which
// stands for a kind of cluster.
func fleet(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/fleet/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("testdata/fleet: %v, %d files", err, len(paths))
	}
	for i := range paths {
		paths[i] = strings.TrimSuffix(filepath.Base(paths[i]), ".yaml")
	}
	return paths
}

// ofFleet returns the objects for a kind of cluster.
func ofFleet(t *testing.T, name string, settings ...string) objects {
	t.Helper()
	return render(t, "", append([]string{"--values", filepath.Join("testdata", "fleet", name+".yaml")}, settings...)...)
}

// withValues returns the arguments for values in YAML.
func withValues(t *testing.T, values string) []string {
	t.Helper()
	// A name without commas, at which Helm would cut it: t.TempDir has the test's.
	file, err := os.CreateTemp("", "values-*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(file.Name()) })
	if _, err := file.WriteString(values); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return []string{"--values", file.Name()}
}

// knownCluster are the arguments for a cluster that was asked for its APIs, and
// has these besides what every cluster has.
func knownCluster(apis ...string) []string {
	args := []string{"--api-versions", "apiregistration.k8s.io/v1"}
	for _, api := range apis {
		args = append(args, "--api-versions", api)
	}
	return args
}

func TestEveryClusterOfAFleetGetsWhatItNeeds(t *testing.T) {
	driver := func(t *testing.T, all objects) object {
		return all.pods()["controller"].container(t, "cinder-csi-plugin")
	}
	checks := map[string]func(t *testing.T, all objects){
		"openshift": func(t *testing.T, all objects) {
			if n := len(all.ofKind("SecurityContextConstraints")); n != 2 {
				t.Errorf("%d SecurityContextConstraints", n)
			}
			endpoint := all.only(t, "ServiceMonitor").list("spec", "endpoints")[0]
			if endpoint["interval"] != "30s" || endpoint["scrapeTimeout"] != "10s" {
				t.Errorf("endpoint %v", endpoint)
			}
		},
		"rke2": func(t *testing.T, all objects) {
			if got := args(driver(t, all))["--cluster"]; got != "kube-system-rke2" {
				t.Errorf("--cluster=%s", got)
			}
			if spec := all.only(t, "PodDisruptionBudget").object("spec"); spec.text("minAvailable") != "1" || spec["maxUnavailable"] != nil {
				t.Errorf("PodDisruptionBudget %v", spec)
			}
		},
		"k0s": func(t *testing.T, all objects) {
			for _, v := range all.pods()["node"].list("spec", "volumes") {
				if path := v.text("hostPath", "path"); strings.Contains(path, "//") || (strings.Contains(path, "k0s") && strings.HasSuffix(path, "/")) {
					t.Errorf("the volume %s is %s", v.text("name"), path)
				}
			}
			if got := args(all.pods()["node"].container(t, "cinder-csi-plugin"))["--kubelet-registration-path"]; got != "/var/lib/k0s/kubelet/plugins/cinder.csi.openstack.org/csi.sock" {
				t.Errorf("registered as %s", got)
			}
		},
		"ipv6": func(t *testing.T, all objects) {
			node := all.pods()["node"]
			if got := args(node.container(t, "cinder-csi-plugin"))["--http-endpoint"] + " " + args(node.container(t, "liveness-probe"))["--http-endpoint"]; got != "[::]:9808 [::]:9809" {
				t.Errorf("listens on %s", got)
			}
			for _, monitor := range all.ofKind("PodMonitor") {
				// The chart's own label of the node is before the operator's.
				want := map[string]string{"cinder-csi-controller": "host", "cinder-csi-node": "node host"}[monitor.text("metadata", "name")]
				var labels []string
				for _, relabeling := range monitor.list("spec", "podMetricsEndpoints")[0].list("relabelings") {
					labels = append(labels, relabeling.text("targetLabel"))
				}
				if got := strings.Join(labels, " "); got != want {
					t.Errorf("%s relabels %q, want %q", monitor.id(), got, want)
				}
			}
		},
		"air-gapped": func(t *testing.T, all objects) {
			specs := []object{all.only(t, "Pod").object("spec")}
			for _, pod := range all.pods() {
				specs = append(specs, pod.object("spec"))
			}
			images := map[string]bool{}
			for _, spec := range specs {
				if got := spec.list("imagePullSecrets"); !same(got, objects{{"name": "regcred"}, {"name": "second"}}) {
					t.Errorf("imagePullSecrets %v", got)
				}
				for _, c := range spec.list("containers") {
					images[strings.Split(c.text("image"), ":")[1]] = strings.HasPrefix(c.text("image"), "registry.corp:5000/mirror/")
				}
			}
			for image, ok := range images {
				if !ok {
					t.Errorf("%s is not from the one registry", image)
				}
			}
			if len(images) != 8 {
				t.Errorf("images %v", images)
			}
		},
		"hosted-controller": func(t *testing.T, all objects) {
			for _, o := range all {
				if kind := o.text("kind"); kind != "Deployment" && kind != "ServiceAccount" && kind != "PodDisruptionBudget" {
					t.Errorf("%s is made in the cluster that has no volumes", o.id())
				}
			}
			pod := all.pods()["controller"]
			for _, c := range pod.list("spec", "containers") {
				if got := args(c)["--kubeconfig"]; got != "/etc/kubeconfig/value" || !mounts(c, "kube-api-access") {
					t.Errorf("%s asks the API server by %q", c.text("name"), got)
				}
			}
			provisioner := pod.container(t, "csi-provisioner")
			if args(provisioner)["--capacity-ownerref-level"] != "-1" || provisioner.list("env").one(t, "NAMESPACE", "name").text("value") != "csi" {
				t.Errorf("leases and capacities are looked for beside the pod: %v", provisioner)
			}
			if pod.text("spec", "schedulerName") != "management" {
				t.Errorf("schedulerName %s", pod.text("spec", "schedulerName"))
			}
		},
		"hosted-nodes": func(t *testing.T, all objects) {
			if n := len(all.ofKind("Deployment")) + len(all.ofKind("PodDisruptionBudget")); n > 0 || len(all.ofKind("DaemonSet")) != 1 || len(all.ofKind("CSIDriver")) != 1 {
				t.Errorf("%d objects of a controller", n)
			}
			bindings := slices.Concat(all.ofKind("ClusterRoleBinding"), all.ofKind("RoleBinding"))
			for _, binding := range bindings {
				if got := binding.list("subjects"); len(got) != 1 || got[0]["name"] != "system:cinder-csi" {
					t.Errorf("%s is for %v", binding.id(), got)
				}
			}
			if len(bindings) != 8 || len(all.ofKind("ServiceAccount")) != 1 || len(all.ofKind("PodMonitor")) != 1 {
				t.Errorf("%d bindings", len(bindings))
			}
		},
		"several-clouds": func(t *testing.T, all objects) {
			got := map[string]string{}
			for _, role := range all.ofKind("Role") {
				if role.text("metadata", "name") == "cinder-csi-secrets" {
					got[role.text("metadata", "namespace")] = strings.Join(role.list("rules")[0].texts("resourceNames"), " ")
				}
			}
			// The passphrase is the kubelet's to read.
			if diff := cmp.Diff(map[string]string{"kube-system": "cloud-b-expand cloud-b", "clouds": "cloud-b cloud-c cloud-d"}, got); diff != "" {
				t.Error(diff)
			}
		},
		"pools": poolsAreApart,
		"vault": func(t *testing.T, all objects) {
			for component, want := range map[string]string{"controller": "fetch-ca vault-agent 5 60 ndots proxy 4", "node": "wait exporter 1 60  proxy 2"} {
				spec := all.pods()[component].object("spec")
				plugin := all.pods()[component].container(t, "cinder-csi-plugin")
				containers, source := spec.list("containers"), plugin.list("envFrom")[0]
				option := ""
				if options := spec.list("dnsConfig", "options"); len(options) > 0 {
					option = options[0].text("name")
				}
				got := strings.Join([]string{
					spec.list("initContainers")[0].text("name"), containers[len(containers)-1].text("name"), plugin.text("lifecycle", "preStop", "sleep", "seconds"),
					plugin.text("startupProbe", "failureThreshold"), option, source.text("secretRef", "name") + source.text("configMapRef", "name"), args(plugin)["--v"],
				}, " ")
				if got != want {
					t.Errorf("%s: %s, want %s", component, got, want)
				}
			}
			if all.pods()["node"].container(t, "cinder-csi-plugin")["resources"] != nil {
				t.Error("resources that are null are there")
			}
			attacher := all.pods()["controller"].container(t, "csi-attacher")
			if args(attacher)["--v"] != "6" || attacher["resources"] != nil || attacher.text("securityContext", "runAsUser") != "1000" {
				t.Errorf("attacher %v", attacher)
			}
			if granted(all, "cinder-csi-provisioner")["populator.storage.k8s.io/volumepopulators"] != "get list watch" {
				t.Error("the provisioner lacks the rule that was added")
			}
		},
	}
	if got := slices.Sorted(maps.Keys(checks)); !slices.Equal(got, fleet(t)) {
		t.Errorf("checked are %q, in testdata/fleet are %q", got, fleet(t))
	}
	for name, check := range checks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, ofFleet(t, name))
		})
	}
}

// poolsAreApart checks that on each node one DaemonSet runs, whatever its labels.
func poolsAreApart(t *testing.T, all objects) {
	sets := map[string]object{}
	for _, set := range all.ofKind("DaemonSet") {
		if set.text("metadata", "namespace") != "cinder-csi-nodes" {
			t.Errorf("%s is not in the nodes' namespace", set.id())
		}
		sets[strings.TrimPrefix(set.text("metadata", "name"), "cinder-csi-")] = set
	}
	for _, test := range []struct {
		labels object
		want   string
	}{
		{object{}, "node"},
		{object{"pool": "gpu"}, "node-gpu"},
		{object{"pool": "gpu", "site": "remote"}, "node-gpu"},
		{object{"pool": "edge"}, "node"},
		{object{"site": "remote"}, "node"},
		{object{"pool": "edge", "site": "remote"}, "node-edge"},
		{object{"type": "virtual-kubelet"}, ""},
	} {
		test.labels["kubernetes.io/os"] = "linux"
		var got []string
		for name, set := range sets {
			if runsOn(set.object("spec", "template", "spec"), test.labels) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("on a node with %v runs %q, want %q", test.labels, got, test.want)
		}
	}
	limits := map[string]string{}
	for _, config := range all.ofKind("ConfigMap") {
		limits[config.text("metadata", "name")] = strings.TrimPrefix(config.text("data", "cloud.conf"), "[BlockStorage]\nnode-volume-attach-limit = ")
	}
	if diff := cmp.Diff(map[string]string{"cinder-csi-node": "25\n", "cinder-csi-node-gpu": "12\n", "cinder-csi-node-edge": "25\n"}, limits); diff != "" {
		t.Error(diff)
	}
	edge := sets["node-edge"].object("spec", "template", "spec")
	if image := edge.list("containers")[0].text("image"); image != "ghcr.io/cinder-csi/cinder-csi-node:v9" || len(edge.list("containers")) != 3 || edge.text("terminationGracePeriodSeconds") != "0" {
		t.Errorf("edge: %v", edge)
	}
	if n := len(all.ofKind("PodMonitor")); n != 4 {
		t.Errorf("%d PodMonitors for a controller and three DaemonSets", n)
	}
	for _, monitor := range all.ofKind("PodMonitor") {
		component := monitor.text("metadata", "labels", "app.kubernetes.io/component")
		selected, ok := sets[component]
		if ok && !same(monitor.object("spec", "selector"), selected.object("spec", "selector")) {
			t.Errorf("%s finds other pods than those of %s", monitor.id(), component)
		}
		if ok && selected.text("metadata", "namespace") != monitor.text("metadata", "namespace") {
			t.Errorf("%s is not where its pods are", monitor.id())
		}
	}
	binding := all.ofKind("RoleBinding").one(t, "cinder-csi-node-scc", "metadata", "name")
	if binding.text("metadata", "namespace") != "cinder-csi-nodes" || binding.list("subjects")[0]["namespace"] != "cinder-csi-nodes" {
		t.Errorf("%s is for %v", binding.id(), binding.list("subjects"))
	}
}

// runsOn tells whether a pod may run on a node with these labels.
func runsOn(spec, labels object) bool {
	for key, value := range spec.object("nodeSelector") {
		if labels[key] != value {
			return false
		}
	}
	terms := spec.list("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
	return len(terms) == 0 || slices.ContainsFunc(terms, func(term object) bool {
		return !slices.ContainsFunc(term.list("matchExpressions"), func(e object) bool {
			return e["operator"] == "NotIn" && slices.Contains(e.texts("values"), labels.text(e.text("key")))
		})
	})
}

// TestAParentChartSwitchesAndSettlesThings: an umbrella chart has the chart as a
// dependency, with a condition and with values for all of its charts.
func TestAParentChartSwitchesAndSettlesThings(t *testing.T) {
	parent := t.TempDir()
	if err := os.CopyFS(filepath.Join(parent, "charts", chart), os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	text := "apiVersion: v2\nname: platform\nversion: 1.0.0\ndependencies:\n  - {name: cinder-csi, version: \"*\", condition: cinder-csi.enabled}\n"
	if err := os.WriteFile(filepath.Join(parent, "Chart.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, helm := range []program{helm3, helm4} {
		for values, want := range map[string]int{
			"cinder-csi: {enabled: false}": 0,
			"cinder-csi: {enabled: true}":  1,
			"{}":                           1,
			"global: {imageRegistry: r.example.org, cluster: forty, tier: [a]}\ncinder-csi: {clusterID: '{{ .Values.global.cluster }}', secret: {create: true, data: {cloud.conf: x}}}": 1,
		} {
			all := parse(t, helm.run(t, append([]string{"template", "platform", parent, "--kube-version", kubernetes(t)}, withValues(t, values)...)...))
			if got := len(all.ofKind("Deployment")); got != want {
				t.Errorf("%s, %s: %d Deployments, want %d", helm.name, values, got, want)
			}
			if strings.Contains(values, "forty") {
				driver := all.pods()["controller"].container(t, "cinder-csi-plugin")
				if args(driver)["--cluster"] != "forty" || !strings.HasPrefix(driver.text("image"), "r.example.org/cinder-csi/") {
					t.Errorf("%s: %v", helm.name, driver)
				}
			}
		}
	}
}
