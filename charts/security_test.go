package charts

import (
	"slices"
	"strings"
	"testing"
)

func TestOnlyTheContainerThatMountsIsPrivileged(t *testing.T) {
	for _, values := range goldenValues() {
		for component, pod := range render(t, values).pods() {
			if pod.text("spec", "securityContext", "seccompProfile", "type") != "RuntimeDefault" {
				t.Errorf("%s: the pods of %s have no seccomp profile", values, component)
			}
			for _, c := range pod.list("spec", "containers") {
				name, context := component+"/"+c.text("name"), c.object("securityContext")
				if context["readOnlyRootFilesystem"] != true {
					t.Errorf("%s: %s may write to its root filesystem", values, name)
				}
				if name == "node/cinder-csi-plugin" {
					if context["privileged"] != true {
						t.Errorf("%s: %s can't mount", values, name)
					}
					continue
				}
				if context["privileged"] != nil || context["allowPrivilegeEscalation"] != false || strings.Join(context.texts("capabilities", "drop"), "") != "ALL" ||
					context.at("capabilities", "add") != nil {
					t.Errorf("%s: %s has the security context %v", values, name, context)
				}
			}
		}
	}
}

func TestTheControllerIsNotRoot(t *testing.T) {
	for _, values := range goldenValues() {
		pod := render(t, values).pods()["controller"]
		context := pod.object("spec", "securityContext")
		if context["runAsNonRoot"] != true || context.text("runAsUser") != "65532" || context.text("fsGroup") != "65532" {
			t.Errorf("%s: %v", values, context)
		}
		for _, c := range pod.list("spec", "containers") {
			if c.at("securityContext", "runAsUser") != nil {
				t.Errorf("%s: %s has its own user", values, c.text("name"))
			}
		}
		for _, volume := range pod.list("spec", "volumes") {
			if volume["hostPath"] != nil && values != "everything" {
				t.Errorf("%s: the controller mounts %v", values, volume)
			}
		}
	}
}

// mounts tells whether a container has the volume.
func mounts(container object, volume string) bool {
	return slices.ContainsFunc(container.list("volumeMounts"), func(m object) bool { return m["name"] == volume })
}

func TestNoContainerHasTheCredentialsOfBothTheCloudAndTheCluster(t *testing.T) {
	for _, values := range goldenValues() {
		pods := render(t, values).pods()
		for component, pod := range pods {
			if pod.at("spec", "automountServiceAccountToken") != false {
				t.Errorf("%s: every container of %s gets a token", values, component)
			}
		}
		for _, c := range pods["controller"].list("spec", "containers") {
			isDriver := c.text("name") == "cinder-csi-plugin"
			// Of everything, pvcAnnotations, startupTaint, events and inspect have the driver ask the cluster.
			if mounts(c, "cloud-config") != isDriver || mounts(c, "kube-api-access") == (isDriver && values != "everything") {
				t.Errorf("%s: %s mounts %v", values, c.text("name"), c.list("volumeMounts"))
			}
		}
		for _, volume := range pods["node"].list("spec", "volumes") {
			// Of everything, preStop has nodes ask the cluster.
			if volume["secret"] != nil || volume["projected"] != nil && values != "everything" {
				t.Errorf("%s: nodes mount %v", values, volume)
			}
		}
	}
}

func TestNodesGetTheirSettingsWithoutCredentials(t *testing.T) {
	all := render(t, "everything")
	config := all.only(t, "ConfigMap").text("data", "cloud.conf")
	if want := "[BlockStorage]\nnode-volume-attach-limit = 25\n[Metadata]\nrequest-timeout = 5s\nsearch-order = metadataService,configDrive\n"; config != want {
		t.Errorf("got %q", config)
	}
	plugin := all.pods()["node"].container(t, "cinder-csi-plugin")
	if !mounts(plugin, "config") || !slices.Contains(plugin.texts("args"), "--cloud-config=/etc/config/cloud.conf") {
		t.Error("the driver isn't told of its settings")
	}
	changed := render(t, "everything", "--set", "node.config.BlockStorage.node-volume-attach-limit=26").pods()["node"]
	if same(changed.at("metadata", "annotations"), all.pods()["node"].at("metadata", "annotations")) {
		t.Error("changed settings start no new pods")
	}
	if plain := render(t, "default"); len(plain.ofKind("ConfigMap")) > 0 || mounts(plain.pods()["node"].container(t, "cinder-csi-plugin"), "config") {
		t.Error("there are settings by default")
	}
}

func TestTheSecretIsAnExistingOneOrMade(t *testing.T) {
	volume := func(all objects) string {
		return all.pods()["controller"].list("spec", "volumes").one(t, "cloud-config", "name").text("secret", "secretName")
	}
	existing := render(t, "default", "--set", "secret.name=mine,secret.filename=my.conf")
	if len(existing.ofKind("Secret")) > 0 || volume(existing) != "mine" {
		t.Errorf("Secret %q", volume(existing))
	}
	if args := existing.pods()["controller"].container(t, "cinder-csi-plugin").texts("args"); !slices.Contains(args, "--cloud-config=/etc/config/my.conf") {
		t.Errorf("arguments %q", args)
	}

	made := render(t, "everything")
	secret := made.only(t, "Secret")
	if secret.text("metadata", "name") != volume(made) || secret.text("data", "ca.crt") != "Y2VydGlmaWNhdGU=" || secret.text("data", "openstack.conf") == "" {
		t.Errorf("Secret %v for %q", secret, volume(made))
	}
	other := render(t, "everything", "--set", `secret.data.ca\.crt=other`)
	if same(other.pods()["controller"].at("metadata", "annotations"), made.pods()["controller"].at("metadata", "annotations")) {
		t.Error("a changed Secret starts no new pods")
	}
}

func TestImagesAreNamedByDigestOrTag(t *testing.T) {
	version := parseFile(t, chart+"/Chart.yaml").text("appVersion")
	for component, pod := range render(t, "default").pods() {
		image := pod.container(t, "cinder-csi-plugin").text("image")
		if want := "ghcr.io/cinder-csi/cinder-csi-" + component + ":" + version; image != want {
			t.Errorf("image %s, want %s", image, want)
		}
		tagged := render(t, "default", "--set", component+".image.tag=v9").pods()[component].container(t, "cinder-csi-plugin").text("image")
		if !strings.HasSuffix(tagged, ":v9") {
			t.Errorf("image %s", tagged)
		}
	}
	seen := map[string]bool{}
	for component, pod := range render(t, "everything").pods() {
		for _, c := range pod.list("spec", "containers") {
			name, digest, _ := strings.Cut(c.text("image"), "@sha256:")
			if len(digest) != 64 || strings.Contains(name, ":v") || seen[digest] {
				t.Errorf("%s/%s has the image %s", component, c.text("name"), c.text("image"))
			}
			seen[digest] = true
		}
	}
	if len(seen) != 8 {
		t.Errorf("%d containers", len(seen))
	}
}

func TestOpenShiftAllowsTheNodeMoreThanTheController(t *testing.T) {
	all := render(t, "default", "--set", "openshift.enabled=true").ofKind("SecurityContextConstraints")
	controller := all.one(t, "cinder-csi-controller", "metadata", "name")
	node := all.one(t, "cinder-csi-node", "metadata", "name")
	for _, key := range []string{"allowPrivilegedContainer", "allowPrivilegeEscalation", "allowHostDirVolumePlugin", "allowHostNetwork", "allowHostPorts"} {
		if controller[key] != false || node[key] != true {
			t.Errorf("%s: controller %v, node %v", key, controller[key], node[key])
		}
	}
	for _, key := range []string{"allowHostIPC", "allowHostPID"} {
		if controller[key] != false || node[key] != false {
			t.Errorf("%s: controller %v, node %v", key, controller[key], node[key])
		}
	}
	if got := strings.Join(controller.texts("volumes"), " "); got != "configMap emptyDir projected secret" {
		t.Errorf("volumes of the controller: %s", got)
	}
	if controller.text("runAsUser", "type") != "MustRunAsNonRoot" || strings.Join(controller.texts("requiredDropCapabilities"), "") != "ALL" {
		t.Errorf("controller %v", controller)
	}
}

// TestOpenShiftAllowsTheVolumesThatThePodsHave holds the constraints against the
// kinds of volumes that the pods have.
func TestOpenShiftAllowsTheVolumesThatThePodsHave(t *testing.T) {
	const extra = `{"extraVolumes": [{"name": "a", "hostPath": {"path": "/etc/ssl"}}, {"name": "b", "nfs": {"server": "s", "path": "/"}}]}`
	all := render(t, "default", "--set", "openshift.enabled=true", "--set-json", "controller="+extra, "--set-json", "node="+extra)
	for component, pod := range all.pods() {
		allowed := all.ofKind("SecurityContextConstraints").one(t, "cinder-csi-"+component, "metadata", "name")
		volumes := allowed.texts("volumes")
		if sorted := slices.Compact(slices.Sorted(slices.Values(volumes))); len(sorted) != len(volumes) {
			t.Errorf("%s: a kind of volume is there twice: %q", component, volumes)
		}
		for _, volume := range pod.list("spec", "volumes") {
			for kind := range volume {
				if kind != "name" && !slices.Contains(volumes, kind) {
					t.Errorf("%s: the volume %s is a %s, which isn't among %q", component, volume.text("name"), kind, volumes)
				}
			}
		}
		if allowed["allowHostDirVolumePlugin"] != true {
			t.Errorf("%s: directories of the host aren't allowed", component)
		}
	}
}
