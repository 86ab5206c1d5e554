package charts

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// args returns the arguments of a container as a map; a flag that is given more
// than once is joined with blanks.
func args(container object) map[string]string {
	flags := map[string]string{}
	for _, arg := range container.texts("args") {
		name, value, _ := strings.Cut(arg, "=")
		flags[name] = strings.TrimSpace(flags[name] + " " + value)
	}
	return flags
}

func TestSidecarsAreInTheVersionsThatTheTestsRun(t *testing.T) {
	values := parseFile(t, filepath.Join(chart, "values.yaml"))
	for sidecar, required := range map[string][2]string{
		"provisioner": {provisioner, "github.com/kubernetes-csi/external-provisioner/v6"},
		"attacher":    {sidecars, "github.com/kubernetes-csi/external-attacher/v4"},
		"resizer":     {sidecars, "github.com/kubernetes-csi/external-resizer/v2"},
		"snapshotter": {sidecars, "github.com/kubernetes-csi/external-snapshotter/v8"},
	} {
		version := goCommand(t, required[0], "list", "-m", "-f", "{{.Version}}", required[1])
		if tag := values.text("sidecars", sidecar, "image", "tag"); tag != version {
			t.Errorf("%s: the chart has %s, the tests run %s", sidecar, tag, version)
		}
	}
}

func TestSidecarsLeadAloneAndHaveTimeAndThroughput(t *testing.T) {
	pod := render(t, "default").pods()["controller"]
	common := map[string]string{
		"--csi-address": "/csi/csi.sock", "--leader-election": "true", "--leader-election-namespace": "$(NAMESPACE)",
		"--leader-election-lease-duration": "15s", "--leader-election-renew-deadline": "10s", "--leader-election-retry-period": "1s",
		"--feature-gates":      "ReleaseLeaderElectionOnExit=true",
		"--retry-interval-max": "5m", "--kube-api-burst": "100", "--v": "2",
	}
	for name, own := range map[string]map[string]string{
		"csi-provisioner": {
			"--timeout": "3m", "--worker-threads": "50", "--kube-api-qps": "50", "--default-fstype": "ext4", "--extra-create-metadata": "true",
			"--enable-capacity": "true", "--capacity-ownerref-level": "2", "--capacity-poll-interval": "5m",
			"--kube-api-capacity-qps": "5", "--kube-api-capacity-burst": "10", "--http-endpoint": ":8081",
		},
		"csi-attacher": {"--timeout": "4m", "--worker-threads": "50", "--kube-api-qps": "50", "--default-fstype": "ext4", "--reconcile-sync": "5m", "--http-endpoint": ":8082"},
		// A --timeout would overrule the two of the resizer.
		"csi-resizer": {"--resize-timeout": "3m", "--modify-timeout": "10m", "--workers": "20", "--kube-api-qps": "20", "--handle-volume-inuse-error": "false", "--http-endpoint": ":8083"},
		"csi-snapshotter": {
			"--timeout": "2m", "--worker-threads": "20", "--kube-api-qps": "20", "--extra-create-metadata": "true",
			"--feature-gates": "ReleaseLeaderElectionOnExit=true,CSIVolumeGroupSnapshot=false", "--http-endpoint": ":8084",
		},
	} {
		want := maps.Clone(common)
		maps.Copy(want, own)
		c := pod.container(t, name)
		if diff := cmp.Diff(want, args(c)); diff != "" {
			t.Errorf("%s: wanted (-), got (+):\n%s", name, diff)
		}
		var env []string
		for _, e := range c.list("env") {
			env = append(env, e.text("name")+"="+e.text("valueFrom", "fieldRef", "fieldPath"))
		}
		if got := strings.Join(env, " "); got != "NAMESPACE=metadata.namespace POD_NAME=metadata.name" {
			t.Errorf("%s: environment %s", name, got)
		}
	}
}

func TestWhatIsSwitchedOffIsGone(t *testing.T) {
	all := render(t, "minimal")
	for _, container := range all.pods()["controller"].list("spec", "containers") {
		if flags := args(container); flags["--enable-capacity"] != "" || container.text("name") == "csi-snapshotter" {
			t.Errorf("%s has %v", container.text("name"), flags)
		}
	}
	for component, pod := range all.pods() {
		if got := args(pod.container(t, "cinder-csi-plugin"))["--with-topology"]; got != "false" {
			t.Errorf("%s: --with-topology=%s", component, got)
		}
	}
	if got := granted(all, "cinder-csi-provisioner"); got["nodes"] != "" || got["kube-system:pods"] != "" || got["snapshot.storage.k8s.io/volumesnapshots"] != "" {
		t.Errorf("the provisioner may still %v", got)
	}
	if driver := all.only(t, "CSIDriver"); driver.at("spec", "storageCapacity") != false || driver.at("spec", "nodeAllocatableUpdatePeriodSeconds") != nil {
		t.Errorf("CSIDriver %v", driver)
	}
	if len(all.ofKind("PodDisruptionBudget")) > 0 {
		t.Error("there is still a PodDisruptionBudget")
	}
	if nodeless := render(t, "default", "--set", "node.enabled=false"); len(nodeless.ofKind("DaemonSet")) > 0 || len(nodeless.ofKind("ServiceAccount")) != 1 {
		t.Error("node.enabled=false leaves something of the node")
	}
}

func TestTheZoneOfServersWithoutOneIsAskedForInThreeWays(t *testing.T) {
	for set, want := range map[string]string{"zoneFallback=null": "none", "zoneFallback=": "", "zoneFallback=nova": "nova"} {
		flags := args(render(t, "default", "--set", "topology."+set).pods()["node"].container(t, "cinder-csi-plugin"))
		got, given := flags["--zone-fallback"]
		if !given {
			got = "none"
		}
		if got != want || flags["--node-name"] != "$(NODE_NAME)" {
			t.Errorf("%s: --zone-fallback is %q, want %q; --node-name=%s", set, got, want, flags["--node-name"])
		}
	}
}

func TestAnotherStrategyHasNoSettingsOfRollingUpdates(t *testing.T) {
	all := render(t, "default", "--set", "controller.strategy.type=Recreate,node.updateStrategy.type=OnDelete")
	if got := all.only(t, "Deployment").object("spec", "strategy"); len(got) != 1 || got["type"] != "Recreate" {
		t.Errorf("strategy %v", got)
	}
	if got := all.only(t, "DaemonSet").object("spec", "updateStrategy"); len(got) != 1 || got["type"] != "OnDelete" {
		t.Errorf("strategy %v", got)
	}
}

// TestPodsThatShareTheNodesPortsAreReplacedOneByOne: a surge would wait for ports
// that the pods to be replaced have.
func TestPodsThatShareTheNodesPortsAreReplacedOneByOne(t *testing.T) {
	const given = "controller.strategy.rollingUpdate."
	for set, want := range map[string][2]string{
		"controller.hostNetwork=false": {"1", "0"},
		"controller.hostNetwork=true":  {"0", "1"},
		// With a node to spare that is fine.
		"controller.hostNetwork=true," + given + "maxSurge=1," + given + "maxUnavailable=0": {"1", "0"},
		"controller.hostNetwork=true," + given + "maxUnavailable=2":                         {"0", "2"},
		"controller.hostNetwork=true," + given + "maxSurge=25%":                             {"25%", "1"},
		"controller.hostNetwork=false," + given + "maxUnavailable=50%":                      {"1", "50%"},
		"controller.hostNetwork=true,controller.strategy.rollingUpdate=null":                {"0", "1"},
	} {
		got := render(t, "default", "--set", set).only(t, "Deployment").object("spec", "strategy")
		if got["type"] != "RollingUpdate" || got.text("rollingUpdate", "maxSurge") != want[0] || got.text("rollingUpdate", "maxUnavailable") != want[1] {
			t.Errorf("%s: %v, want %q", set, got, want)
		}
	}
}

// TestEveryArgumentIsUnderstood holds the driver's arguments against the driver, and those
// of the sidecars against the flags in their source.
func TestEveryArgumentIsUnderstood(t *testing.T) {
	code := sidecarSources(t)
	common := goFiles(t, module(t, sidecars, "github.com/kubernetes-csi/csi-lib-utils"))
	files, err := filepath.Glob("testdata/[vf]*/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%v, %q", err, files)
	}
	for _, file := range files {
		for component, pod := range render(t, "", "--values", file).pods() {
			if containers := pod.list("spec", "containers"); len(containers) == 0 {
				t.Errorf("%s: %s has no containers", file, component)
			}
			for _, c := range pod.list("spec", "containers") {
				name := c.text("name")
				if name == "cinder-csi-plugin" {
					// --version ends the driver once all flags are understood.
					if _, said, err := plugin.try(t, append(c.texts("args"), "--version")...); err != nil {
						t.Errorf("%s, %s: %s", file, component, said)
					}
					continue
				}
				source, ok := code[strings.TrimPrefix(name, "csi-")]
				source += common + `"v"` // klog's
				for flag := range args(c) {
					if quoted := `"` + strings.TrimLeft(flag, "-") + `"`; ok && !strings.Contains(source, quoted) {
						t.Errorf("%s: %s has no flag %s", file, name, flag)
					}
				}
			}
		}
	}
}

func TestAnArgumentIsPassedAsItIs(t *testing.T) {
	all := render(t, "default", "--set-json", `controller.extraArgs=["--user-agent=\"a, b\": {c}"]`)
	got := all.pods()["controller"].container(t, "cinder-csi-plugin").texts("args")
	if last := got[len(got)-1]; last != `--user-agent="a, b": {c}` {
		t.Errorf("got %s", last)
	}
}

func TestANodeRegistersItselfOrLeavesThatToSideContainers(t *testing.T) {
	alone := render(t, "default").pods()["node"]
	if n := len(alone.list("spec", "containers")); n != 1 {
		t.Errorf("%d containers", n)
	}
	flags := args(alone.container(t, "cinder-csi-plugin"))
	if flags["--kubelet-registration-path"] != "/var/lib/kubelet/plugins/cinder.csi.openstack.org/csi.sock" || flags["--plugin-registration-path"] != "/registration" {
		t.Errorf("flags %v", flags)
	}
	if !mounts(alone.container(t, "cinder-csi-plugin"), "registration") {
		t.Error("the driver can't reach the registration directory")
	}

	helped := render(t, "default", "--set", "node.selfRegistration=false,node.kubeletDir=/data/kubelet").pods()["node"]
	plugin, registrar := helped.container(t, "cinder-csi-plugin"), helped.container(t, "node-driver-registrar")
	if flags := args(plugin); flags["--kubelet-registration-path"] != "" || mounts(plugin, "registration") {
		t.Errorf("both register: %v", flags)
	}
	if got := args(registrar)["--kubelet-registration-path"]; got != "/data/kubelet/plugins/cinder.csi.openstack.org/csi.sock" || !mounts(registrar, "registration") {
		t.Errorf("the registrar registers %s", got)
	}
	probe := helped.container(t, "liveness-probe")
	if endpoint := args(probe)["--http-endpoint"]; endpoint != "127.0.0.1:9809" || plugin.text("livenessProbe", "httpGet", "port") != "9809" {
		t.Errorf("the kubelet asks port %s, the side container serves %s", plugin.text("livenessProbe", "httpGet", "port"), endpoint)
	}
}

func TestTheKubeletsDirectoryIsTheSameEverywhere(t *testing.T) {
	pod := render(t, "default", "--set", "node.kubeletDir=/var/snap/microk8s/common/var/lib/kubelet").pods()["node"]
	dir := "/var/snap/microk8s/common/var/lib/kubelet"
	paths := map[string]string{}
	for _, v := range pod.list("spec", "volumes") {
		paths[v.text("name")] = v.text("hostPath", "path")
	}
	want := map[string]string{
		"kubelet": dir, "plugin": dir + "/plugins/cinder.csi.openstack.org", "registration": dir + "/plugins_registry", "dev": "/dev", "tmp": "", "run": "",
	}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Error(diff)
	}
	// The kubelet tells the driver paths of the host: they have to be the container's.
	mount := pod.container(t, "cinder-csi-plugin").list("volumeMounts").one(t, "kubelet", "name")
	if mount.text("mountPath") != dir || mount.text("mountPropagation") != "Bidirectional" {
		t.Errorf("mounted as %v", mount)
	}
}

func TestANodesMetricsAreItsOwnUnlessSomebodyScrapesThem(t *testing.T) {
	for _, test := range []struct{ set, endpoint, host string }{
		{"node.enabled=true", "127.0.0.1:9808", "127.0.0.1"},
		{"node.hostNetwork=false", ":9808", ""},
		{"metrics.podMonitor.enabled=true", ":9808", ""},
		{"metrics.podMonitor.enabled=true,metrics.podMonitor.targets={controller}", "127.0.0.1:9808", "127.0.0.1"},
		{"node.healthAddress=0.0.0.0", "0.0.0.0:9808", ""},
		{"node.healthAddress=192.0.2.7", "192.0.2.7:9808", "192.0.2.7"},
		{"node.healthAddress=::", "[::]:9808", ""},
		{"node.healthAddress=0:0:0:0:0:0:0:0", "[0:0:0:0:0:0:0:0]:9808", ""},
		{"node.healthAddress=::1", "[::1]:9808", "::1"},
		{"node.healthAddress=2001:db8::A", "[2001:db8::A]:9808", "2001:db8::A"},
	} {
		plugin := render(t, "default", "--set", test.set).pods()["node"].container(t, "cinder-csi-plugin")
		endpoint := args(plugin)["--http-endpoint"]
		if endpoint != test.endpoint {
			t.Errorf("%s: listens on %s, want %s", test.set, endpoint, test.endpoint)
		}
		if _, err := net.ResolveTCPAddr("tcp", endpoint); err != nil {
			t.Errorf("%s: %v", test.set, err)
		}
		liveness := render(t, "default", "--set", test.set+",node.selfRegistration=false").pods()["node"].container(t, "liveness-probe")
		if got, want := args(liveness)["--http-endpoint"], strings.Replace(test.endpoint, "9808", "9809", 1); got != want {
			t.Errorf("%s: the side container listens on %s, want %s", test.set, got, want)
		}
		for _, probe := range []string{"livenessProbe", "readinessProbe"} {
			if got := plugin.text(probe, "httpGet", "host"); got != test.host {
				t.Errorf("%s: %s asks %q, want %q", test.set, probe, got, test.host)
			}
		}
	}
}

func TestReplicasAreSpreadByRevision(t *testing.T) {
	pod := render(t, "default").pods()["controller"]
	for _, constraint := range pod.list("spec", "topologySpreadConstraints") {
		selector := constraint.object("labelSelector", "matchLabels")
		for key, value := range selector {
			if pod.text("metadata", "labels", key) != value {
				t.Errorf("the constraint selects %s=%v, which no replica has", key, value)
			}
		}
		if len(selector) != 3 || strings.Join(constraint.texts("matchLabelKeys"), "") != "pod-template-hash" {
			t.Errorf("constraint %v", constraint)
		}
	}
	own := render(t, "everything").pods()["controller"].list("spec", "topologySpreadConstraints").one(t, "rack", "topologyKey")
	if own.text("labelSelector", "matchLabels", "own") != "selector" || own["matchLabelKeys"] != nil {
		t.Errorf("a constraint with its own selector became %v", own)
	}
}

// TestAnUpgradeChangesNothingThatCannotChange compares the fields that
// Kubernetes lets nobody change, for values as different as can be.
func TestAnUpgradeChangesNothingThatCannotChange(t *testing.T) {
	names := []string{"--set", "fullnameOverride=cinder-csi"}
	before, after := byID(t, render(t, "minimal", names...)), byID(t, render(t, "everything", names...))
	for id, paths := range map[string][][]string{
		"CSIDriver cinder.csi.openstack.org":           {{"spec", "attachRequired"}, {"spec", "volumeLifecycleModes"}},
		"Deployment kube-system/cinder-csi-controller": {{"spec", "selector"}},
		"DaemonSet kube-system/cinder-csi-node":        {{"spec", "selector"}},
	} {
		id = strings.Replace(id, "CSIDriver ", "CSIDriver <nil>/", 1)
		for _, path := range paths {
			a, b := before[id].at(path...), after[id].at(path...)
			if a == nil || !same(a, b) {
				t.Errorf("%s: %s was %v and becomes %v", id, strings.Join(path, "."), a, b)
			}
		}
	}
	for id, o := range after {
		if old := before[id]; old != nil && !same(old["roleRef"], o["roleRef"]) {
			t.Errorf("%s: the role was %v and becomes %v", id, old["roleRef"], o["roleRef"])
		}
	}
}

func TestEverySelectorFindsItsPods(t *testing.T) {
	all := render(t, "everything")
	pods := all.pods()
	finds := func(selector object) []string {
		var found []string
		for component, pod := range pods {
			matches := len(selector) > 0
			for key, value := range selector {
				matches = matches && pod.text("metadata", "labels", key) == value
			}
			if matches {
				found = append(found, component)
			}
		}
		slices.Sort(found)
		return found
	}
	for kind, path := range map[string][]string{
		"Deployment": {"spec", "selector", "matchLabels"}, "DaemonSet": {"spec", "selector", "matchLabels"},
		"PodDisruptionBudget": {"spec", "selector", "matchLabels"}, "NetworkPolicy": {"spec", "podSelector", "matchLabels"},
		"Service": {"spec", "selector"}, "PodMonitor": {"spec", "selector", "matchLabels"},
	} {
		o := all.only(t, kind)
		want := o.text("metadata", "labels", "app.kubernetes.io/component")
		if got := finds(o.object(path...)); !slices.Equal(got, []string{want}) {
			t.Errorf("%s finds %q", o.id(), got)
		}
	}
	service, monitor := all.only(t, "Service"), all.only(t, "ServiceMonitor")
	for key, value := range monitor.object("spec", "selector", "matchLabels") {
		if service.text("metadata", "labels", key) != value {
			t.Errorf("the ServiceMonitor doesn't find the Service by %s", key)
		}
	}
	for _, endpoint := range monitor.list("spec", "endpoints") {
		target := service.list("spec", "ports").one(t, endpoint.text("port"), "name").text("targetPort")
		if !hasPort(pods["controller"], target) {
			t.Errorf("port %s of the Service leads nowhere", target)
		}
	}
	for _, endpoint := range all.only(t, "PodMonitor").list("spec", "podMetricsEndpoints") {
		if !hasPort(pods["node"], endpoint.text("port")) {
			t.Errorf("the PodMonitor scrapes port %s, which is none", endpoint.text("port"))
		}
	}
}

func hasPort(pod object, name string) bool {
	return slices.ContainsFunc(pod.list("spec", "containers"), func(c object) bool {
		return slices.ContainsFunc(c.list("ports"), func(p object) bool { return p["name"] == name })
	})
}

func TestClassesHaveDefaultsThatAreSafe(t *testing.T) {
	all := render(t, "everything")
	plain := all.ofKind("StorageClass").one(t, "plain", "metadata", "name")
	if plain.text("volumeBindingMode") != "WaitForFirstConsumer" || plain["allowVolumeExpansion"] != true || plain["reclaimPolicy"] != "Delete" {
		t.Errorf("StorageClass %v", plain)
	}
	if strings.Contains(strings.Join(slices.Collect(maps.Keys(plain.object("metadata", "annotations"))), " "), "default") {
		t.Error("a class is the default one without being asked to be")
	}
	isDefault := all.ofKind("StorageClass").one(t, "all", "metadata", "name")
	if isDefault.text("metadata", "annotations", "storageclass.kubernetes.io/is-default-class") != "true" || isDefault["allowVolumeExpansion"] != false {
		t.Errorf("StorageClass %v", isDefault)
	}
	snapshots := all.ofKind("VolumeSnapshotClass")
	if snapshots.one(t, "plain", "metadata", "name")["deletionPolicy"] != "Delete" ||
		snapshots.one(t, "backup", "metadata", "name").text("metadata", "annotations", "snapshot.storage.kubernetes.io/is-default-class") != "true" {
		t.Errorf("VolumeSnapshotClasses %v", snapshots)
	}
	for _, version := range []string{"1.34.0", "1.34.0-gke.1", "1.36.3"} {
		class := render(t, "everything", "--kube-version", version).only(t, "VolumeAttributesClass")
		if class["apiVersion"] != "storage.k8s.io/v1" {
			t.Errorf("Kubernetes %s gets %v", version, class["apiVersion"])
		}
	}
}

// TestTheReferenceChartsValuesAreMapped holds the README's table against a list
// of the values of openstack-cinder-csi.
func TestTheReferenceChartsValuesAreMapped(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(chart, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(readme), "| openstack-cinder-csi | here |")
	table, _, _ = strings.Cut(table, "\n## ")
	for _, value := range []string{
		"extraLabels", "nameOverride", "fullnameOverride", "timeout", "csi.attacher", "csi.provisioner", "csi.snapshotter", "csi.resizer",
		"csi.livenessprobe", "csi.nodeDriverRegistrar", "csi.provisioner.topology", "csi.snapshotter.extraRbac", "csi.resizer.extraRbac",
		"csi.plugin.image", "csi.plugin.volumes", "csi.plugin.volumeMounts", "csi.plugin.resources", "csi.plugin.httpEndpoint", "csi.plugin.podMonitor",
		"csi.plugin.extraArgs", "csi.plugin.extraEnv", "csi.plugin.nodePlugin.", "csi.plugin.controllerPlugin.", "hostAliases", "kubeletDir", "dnsPolicy",
		"logVerbosityLevel", "secret.enabled", "secret.hostMount", "secret.create", "secret.filename", "secret.name", "secret.data", "storageClass.enabled",
		"clusterID", "pvcAnnotations", "priorityClassName", "imagePullSecrets", "commonAnnotations",
	} {
		if !strings.Contains(table, value) {
			t.Errorf("%s is not in the table", value)
		}
	}
	// There the hosts' file is where the controller has its credentials from, by default.
	_, row, _ := strings.Cut(table, "| `secret.hostMount`")
	row, _, _ = strings.Cut(row, "\n")
	if !strings.Contains(row, "/etc/config") || !strings.Contains(row, "create secret") {
		t.Errorf("secret.hostMount: nothing says where credentials come from then: %q", row)
	}
}

// TestTheNamesForOtherChartsUsersExist looks up the values in the right column of the
// README's table.
func TestTheNamesForOtherChartsUsersExist(t *testing.T) {
	_, table, _ := strings.Cut(string(document(t, filepath.Join(chart, "README.md"))), "| aws-ebs-csi-driver, hcloud-csi | here |")
	table, _, _ = strings.Cut(table, "\n## ")
	values := parseFile(t, filepath.Join(chart, "values.yaml"))
	found := 0
	for row := range strings.SplitSeq(table, "\n") {
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		for i, part := range strings.Split(cells[len(cells)-1], "`") {
			name, _, _ := strings.Cut(part, ":")
			root, _, nested := strings.Cut(name, ".")
			if i%2 == 0 || (!nested && values[root] == nil) {
				continue
			}
			found++
			at := values
			keys := strings.Split(name, ".")
			for _, key := range keys[:len(keys)-1] {
				at = at.object(key)
			}
			if _, ok := at[keys[len(keys)-1]]; !ok {
				t.Errorf("%s is no value", name)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d values", found)
	}
}

func TestTheEndToEndTestsValuesAreAccepted(t *testing.T) {
	all := parse(t, helm3.run(t, template(t, "", "--values", "../e2e/values.yaml", "--set", `secret.create=true,secret.data.cloud\.conf=x`)...))
	for component, pod := range all.pods() {
		if image := pod.container(t, "cinder-csi-plugin").text("image"); !strings.HasSuffix(image, ":e2e") {
			t.Errorf("%s is not of this checkout: %s", component, image)
		}
	}
}
