package charts

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// says checks that rendering fails with all of these words.
func says(words ...string) func(t *testing.T, out, said string, err error) {
	return func(t *testing.T, _, said string, err error) {
		t.Helper()
		if err == nil {
			t.Fatal("it is accepted")
		}
		for _, word := range words {
			if !strings.Contains(said, word) {
				t.Errorf("refused without the words %q: %s", word, said)
			}
		}
	}
}

// makes checks that rendering succeeds with all of these patterns, and none of those
// that begin with "no ".
func makes(patterns ...string) func(t *testing.T, out, said string, err error) {
	return func(t *testing.T, out, said string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(said)
		}
		for _, pattern := range patterns {
			pattern, absent := strings.CutPrefix(pattern, "no ")
			if regexp.MustCompile(`(?m)`+pattern).MatchString(out) == absent {
				t.Errorf("%s: found is %t", pattern, !absent)
			}
		}
	}
}

// TestWhatOperatorsTry is a table of what people set, and what becomes of it: it has an
// effect, or it is refused with what to do.
func TestWhatOperatorsTry(t *testing.T) {
	const class = "storageClasses: [{name: a, parameters: {%s}}]"
	parameters := func(p string) string { return strings.Replace(class, "%s", p, 1) }
	const secretOf = `csi.storage.k8s.io/%s-secret-name: nm, csi.storage.k8s.io/%s-secret-namespace: ns`
	secret := func(use string) string { return strings.ReplaceAll(secretOf, "%s", use) }
	const noCapacity = "\nstorageCapacity: {enabled: false}"
	crds := []string{"monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PodMonitor", "snapshot.storage.k8s.io/v1"}
	const wantsCRDs = "metrics: {serviceMonitor: {enabled: true%s}, podMonitor: {enabled: true, targets: [node]%s}}\nvolumeSnapshotClasses: [{name: a}]\nsidecars: {snapshotter: {enabled: true%s}}"
	wants := func(more string) string { return strings.ReplaceAll(wantsCRDs, "%s", more) }

	for _, test := range []struct {
		name, values string
		args         []string
		check        func(t *testing.T, out, said string, err error)
	}{
		{"a switch outside of a parent chart", "enabled: false", nil, says("enabled: false", "condition")},
		{"a registry for all", "global: {imageRegistry: registry.corp:5000/}", nil, makes(`image: "registry.corp:5000/sig-storage/csi-provisioner:v`, `image: "registry.corp:5000/cinder-csi/cinder-csi-node:`, `no image: "(ghcr|registry\.k8s)`)},
		{"a registry for images without a host", "global: {imageRegistry: r.corp}\ncontroller: {image: {repository: team/controller}}\nnode: {image: {repository: localhost/node}}", nil, makes(`"r.corp/team/controller:`, `"r.corp/node:`)},
		{"pull secrets for all", "global: {imagePullSecrets: [a, {name: b}]}\nimagePullSecrets: [{name: b}]", nil, makes(`imagePullSecrets:\n +- name: b\n +- name: a\n`)},
		{"other values for all", "global: {storageClass: x, imageRegistri: y}", nil, makes("kind: Deployment")},
		{"nodes only", "controller: {enabled: false}", nil, makes("kind: DaemonSet", "no kind: (Deployment|PodDisruptionBudget|ClusterRole|Role|RoleBinding)$")},
		{"a controller only", "node: {enabled: false}", nil, makes("kind: Deployment", "no kind: DaemonSet", "no -node$")},
		{"nodes only, by replicas", "controller: {replicas: 0}", nil, makes("replicas: 0")},
		{"another cluster's controller with nodes of its own", "controller: {kubeconfig: {secretName: k}}", nil, says("controller.kubeconfig", "node.enabled=false", "csiDriver.create=false")},
		{"a namespace of its own for nodes", "node: {namespaceOverride: privileged}", nil, makes(`name: cinder-csi-node\n  namespace: privileged$`, `name: cinder-csi-controller\n  namespace: kube-system$`)},
		{"a namespace for all", "namespaceOverride: storage", nil, makes("namespace: storage$", "no namespace: kube-system$")},

		{"a class whose Secret the sidecars read", parameters(secret("provisioner")) + noCapacity, nil, makes(`namespace: ns\n(.*\n)*rules:\n.*\n +resources: \[secrets\]\n +resourceNames:\n +- nm\n +verbs: \[get\]`)},
		{"a class by the words of the sidecars before", parameters("csiProvisionerSecretName: nm, csiProvisionerSecretNamespace: ns") + noCapacity, nil, makes(`resourceNames:\n +- nm$`)},
		{"a class whose Secret the kubelet reads", parameters(secret("node-stage")), nil, makes(`no resources: \[secrets\]`)},
		{"a class whose Secret is named after its claim", parameters("csi.storage.k8s.io/provisioner-secret-name: '${pvc.name}', csi.storage.k8s.io/provisioner-secret-namespace: ns") + noCapacity, nil, says(`storageClasses "a"`, "ns/${pvc.name}", "rbac.allSecrets=true")},
		{"the same with rights for it", parameters("csi.storage.k8s.io/provisioner-secret-name: '${pvc.name}', csi.storage.k8s.io/provisioner-secret-namespace: ns") + noCapacity + "\nrbac: {allSecrets: true}", nil, makes(`resources: \[secrets\]\n +verbs: \[get\]`)},
		{"the same where roles are made otherwise", parameters("csi.storage.k8s.io/provisioner-secret-name: '${pvc.name}', csi.storage.k8s.io/provisioner-secret-namespace: ns") + noCapacity + "\nrbac: {create: false}", nil, makes("kind: StorageClass", "no kind: Role")},
		{"a Secret without its namespace", parameters("csi.storage.k8s.io/node-stage-secret-name: nm"), nil, says(`"a"`, "csi.storage.k8s.io/node-stage-secret-namespace")},
		{"a namespace of Secrets that is there twice", "rbac: {secrets: [{namespace: ns, names: [a]}, {namespace: ns, names: [b, a]}]}", nil, makes(`resourceNames:\n +- a\n +- b\n`)},

		{"a typing error", parameters("tpye: ssd"), nil, says(`storageClasses "a"`, `"tpye"`, "availability, ", "type, ")},
		{"a typing error among the sidecars' parameters", parameters("csi.storage.k8s.io/fstpye: xfs"), nil, says(`"csi.storage.k8s.io/fstpye"`, "csi.storage.k8s.io/fstype")},
		{"a parameter of the sidecars in capitals", parameters("CSI.storage.k8s.io/fstype: xfs"), nil, says(`"CSI.storage.k8s.io/fstype"`)},
		{"a parameter of the driver in other capitals", parameters("TYPE: ssd, Availability: az1"), nil, makes("TYPE: ssd")},
		{"unknown parameters that are to pass", parameters("tpye: ssd") + "\nallowUnknownParameters: true", nil, makes("tpye: ssd")},
		{"a typing error in a VolumeSnapshotClass", "volumeSnapshotClasses: [{name: s, parameters: {typ: backup}}]", nil, says(`volumeSnapshotClasses "s"`, `"typ"`)},
		{"a typing error in a VolumeAttributesClass", "allowUnknownParameters: true\nvolumeAttributesClasses: [{name: v, parameters: {tier: fast}}]", nil, says(`volumeAttributesClasses "v"`, `"tier"`)},
		{"metadata in a VolumeAttributesClass", "volumeAttributesClasses: [{name: v, parameters: {metadata/team: a, migrationPolicy: never}}]", nil, makes("metadata/team: a")},
		{"encryption without a passphrase", parameters("encrypted: luks2"), nil, says(`storageClasses "a"`, "encryptionPassphrase", "csi.storage.k8s.io/node-stage-secret-name")},
		{"encryption in other capitals without one", parameters("Encrypted: luks2"), nil, says("encryptionPassphrase")},
		{"encryption by the Secret for everything", parameters("encrypted: luks2, csi.storage.k8s.io/secret-name: nm, csi.storage.k8s.io/secret-namespace: ns"), nil, makes("encrypted: luks2")},
		{"encryption that is off", parameters("encrypted: 'False'"), nil, makes("kind: StorageClass")},
		{"encryption of another kind", parameters("encrypted: luks1"), nil, says(`storageClasses "a"`, "encrypted", "luks2")},
		{"a filesystem that there isn't", parameters("csi.storage.k8s.io/fstype: ntfs"), nil, says("csi.storage.k8s.io/fstype", "xfs")},
		{"a number with a unit", parameters("blockSize: 4Ki"), nil, says("blockSize", `"4Ki"`)},
		{"values with white space, in capitals, or empty", parameters("blockSize: ' 4096 ', Encrypted: ' LUKS2 ', inodeSize: '', appendVolumeMetadata: '{\n}', " + secret("node-stage")), nil, makes("kind: StorageClass")},
		{"a kind of snapshots that there isn't", "volumeSnapshotClasses: [{name: s, parameters: {type: bakcup}}]", nil, says(`volumeSnapshotClasses "s"`, `"bakcup"`, "snapshot|backup")},
		{"a policy that there isn't", "volumeAttributesClasses: [{name: v, parameters: {migrationPolicy: sometimes}}]", nil, says(`volumeAttributesClasses "v"`, "migrationPolicy", "never|on-demand")},
		{"parameters that have no effect", parameters("allowVolumeExpansion: 'true', reclaimPolicy: delete, fstype: xfs, multiattach: 'false'"), nil, makes("kind: StorageClass")},
		{"two default classes", "storageClasses: [{name: a, default: true}, {name: b, default: true}]", nil, says("storageClasses", "a, b")},
		{"two default classes, one by its annotation", `storageClasses: [{name: a, default: true}, {name: b, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}]`, nil, says("a, b")},
		{"two default classes of snapshots", "volumeSnapshotClasses: [{name: a, default: true}, {name: b, default: true}]", nil, says("volumeSnapshotClasses", "a, b")},

		{"capacity without the cloud that it is of", "cloudNames: [region-a, region-b]", nil, says("[Global]", "storageCapacity.enabled=false")},
		{"capacity and a class that chooses its cloud", parameters(secret("provisioner")), nil, says(`storageClasses "a"`, "storageCapacity.enabled=false")},

		{"a port of the driver that a sidecar has", "controller: {httpPort: 8081}", nil, says("controller.httpPort", "sidecars.provisioner.httpPort", "8081")},
		{"a port that two sidecars have", "sidecars: {attacher: {httpPort: 9000}, resizer: {httpPort: 9000}}", nil, says("sidecars.attacher.httpPort", "sidecars.resizer.httpPort")},
		{"a port of a sidecar that doesn't run", "controller: {httpPort: 8084}\nsidecars: {snapshotter: {enabled: false}}", nil, makes("containerPort: 8084")},
		{"a port of the node's two containers", "node: {healthPort: 9809, selfRegistration: false}", nil, says("node.healthPort", "sidecars.livenessProbe.httpPort")},
		{"the same in one container", "node: {healthPort: 9809}", nil, makes("containerPort: 9809")},
		{"a port of both pods, each on its own network", "node: {healthPort: 8080}", nil, makes("containerPort: 8080")},
		{"a port of both pods on the node's network", "node: {healthPort: 8080}\ncontroller: {hostNetwork: true}", nil, says("node.healthPort", "controller.httpPort", "node's network")},
		{"a port of a pool's side container", "node: {healthPort: 9809}\nadditionalDaemonSets: {a: {nodeSelector: {p: a}, selfRegistration: false}}", nil, says("node.healthPort", "sidecars.livenessProbe.httpPort")},

		{"credentials from elsewhere", "secret: {enabled: false}\ncontroller: {extraVolumes: [{name: v, csi: {driver: secrets-store.csi.k8s.io}}], extraVolumeMounts: [{name: v, mountPath: /etc/config}]}", nil, makes("mountPath: /etc/config$", "no name: cloud-config$", "no secretName")},
		{"credentials from nowhere", "secret: {enabled: false}", nil, says("secret.enabled", "controller.extraVolumes", "/etc/config")},
		{"credentials beside", "secret: {enabled: false, create: true, data: {cloud.conf: x}}", nil, says("secret.create", "secret.enabled")},
		{"rights for a controller elsewhere and one here", "rbac: {subjects: [{kind: User, name: u}]}", nil, says("rbac.subjects", "controller.enabled=false")},
		{"OpenShift's objects elsewhere", "openshift: {enabled: true}", knownCluster(), says("openshift.enabled", "security.openshift.io")},
		{"OpenShift's objects there", "openshift: {enabled: true}", knownCluster("security.openshift.io/v1"), makes("kind: SecurityContextConstraints")},
		{"a budget that keeps every replica", "controller: {podDisruptionBudget: {minAvailable: 3}}", nil, says("controller.podDisruptionBudget", "2 replicas", "drained")},
		{"a budget that lets none be missing", "controller: {podDisruptionBudget: {maxUnavailable: 0}}", nil, says("controller.podDisruptionBudget", "drained")},
		{"leases that a leader can't renew in time", "controller: {leaderElection: {renewDeadline: 15s}}", nil, says("controller.leaderElection", "leaseDuration (15s)")},
		{"leases that are asked for too seldom", "controller: {leaderElection: {retryPeriod: 9s}}", nil, says("controller.leaderElection", "retryPeriod (9s)")},
		{"annotations as tags without reading any", "tagAnnotationPrefix: tags.example.org/", nil, says("tagAnnotationPrefix", "pvcAnnotations=true")},
		{"annotations as tags", "pvcAnnotations: true\ntagAnnotationPrefix: tags.example.org/", nil, makes(`"--tag-annotation-prefix=tags.example.org/"`, `resources: \[volumesnapshots\]\n +verbs: \[get\]\n`)},
		{"replicas that have to be there", "controller: {podDisruptionBudget: {minAvailable: 50%}}", nil, makes("minAvailable: 50%", "no maxUnavailable: 1$")},
		{"no replica that has to be there", "controller: {podDisruptionBudget: {minAvailable: 0}}", nil, makes("minAvailable: 0$")},
		{"relabelling and a timeout of scrapes", "metrics: {serviceMonitor: {enabled: true, scrapeTimeout: 5s, relabelings: [{action: drop}]}}", nil, makes("scrapeTimeout: 5s", `relabelings:\n +- action: drop`)},
		{"a scheduler, environment, DNS", "controller: {schedulerName: s, envFrom: [{secretRef: {name: e}}], dnsConfig: {searches: [d]}}", nil, makes("schedulerName: s", `envFrom:\n +- secretRef:\n +name: e`, `searches:\n +- d`)},

		{"traces to nowhere", "tracing: {enabled: true}", nil, says("tracing.endpoint", ":4318")},
		{"traces", "tracing: {enabled: true, endpoint: 'http://c:4318', ratio: 0.05}\nnode: {extraEnv: [{name: OTEL_TRACES_SAMPLER, value: always_on}]}", nil, makes(
			`--tracing=true\n(.*\n)*.*--tracing=true\n`, `name: OTEL_EXPORTER_OTLP_ENDPOINT\n +value: http://c:4318\n`, `name: OTEL_TRACES_SAMPLER_ARG\n +value: "0.05"\n`,
			`value: k8s.namespace.name=.*\n(.*\n)+ +- name: OTEL_TRACES_SAMPLER\n +value: always_on\n`)},
		{"no traces", "tracing: {endpoint: 'http://c:4318'}", nil, makes("no tracing", "no OTEL")},

		{"a clusterID by template", `clusterID: "{{ .Release.Name }}-{{ .Values.global.region }}"` + "\nglobal: {region: r1}", nil, makes(`--cluster=cinder-csi-r1"`)},
		{"a clusterID that is empty", `clusterID: "{{ .Values.global.region }}"`, nil, says("clusterID")},
		{"a clusterID that is no template", `clusterID: "{{ .Values"`, nil, says("clusterID")},

		{"monitors and snapshots without CRDs", wants(""), knownCluster(), makes("kind: Deployment", "no Monitor", "no kind: Service$", "no csi-snapshotter", "no VolumeSnapshotClass", "no snapshot.storage")},
		{"the same by force", wants(", forceEnable: true"), knownCluster(), makes("kind: ServiceMonitor", "kind: PodMonitor", "name: csi-snapshotter", "kind: VolumeSnapshotClass")},
		{"the same with CRDs", wants(""), knownCluster(crds...), makes("kind: ServiceMonitor", "kind: PodMonitor", "name: csi-snapshotter", "kind: VolumeSnapshotClass")},
		{"the same where no cluster was asked", wants(""), nil, makes("kind: ServiceMonitor", "kind: PodMonitor", "name: csi-snapshotter", "kind: VolumeSnapshotClass")},
		{"alerts without their CRD", "metrics: {prometheusRule: {enabled: true}}", knownCluster(crds...), makes("kind: Deployment", "no PrometheusRule")},
		{"the same by force", "metrics: {prometheusRule: {enabled: true, forceEnable: true}}", knownCluster(crds...), makes("kind: PrometheusRule")},
		{"the same with their CRD", "metrics: {prometheusRule: {enabled: true, labels: {release: p}, interval: 1m}}", knownCluster("monitoring.coreos.com/v1/PrometheusRule"), makes("kind: PrometheusRule", "    release: p$", "interval: 1m$")},
		{"one of the monitors without its CRD", wants(""), knownCluster(crds[1:]...), makes("no kind: ServiceMonitor", "kind: PodMonitor")},

		{"no resources", "controller: {resources: null}\nnode: {resources: null}\nsidecars: {provisioner: {resources: null}}", nil, makes("no resources: *null", "no resources:$\n *$")},
		{"a kubelet's directory with a slash at its end", "node: {kubeletDir: /var/lib/kubelet/, selfRegistration: false}", nil, makes("mountPath: /var/lib/kubelet$", "no kubelet//", "no kubelet/$")},
		{"a kubelet's directory with several", "node: {kubeletDir: //data/kubelet//}", nil, makes("path: //data/kubelet$")},

		{"scheduling by drivers where Kubernetes has it", "csiDriver: {preventPodSchedulingIfMissing: true}", []string{"--kube-version", "1.37.0-gke.1"}, makes("preventPodSchedulingIfMissing: true")},
		{"scheduling by drivers by default", "{}", []string{"--kube-version", "1.37.0"}, makes("preventPodSchedulingIfMissing: false")},
		{"scheduling by drivers where Kubernetes lacks it", "csiDriver: {preventPodSchedulingIfMissing: true}", []string{"--kube-version", "1.36.9"}, makes("no preventPodSchedulingIfMissing")},
		{"leases that run out", "controller: {leaderElection: {releaseOnExit: false, retryPeriod: 5s}}", nil, makes("no ReleaseLeaderElectionOnExit", "--feature-gates=CSIVolumeGroupSnapshot=false$", "--leader-election-retry-period=5s")},

		{"a pool without a label", "additionalDaemonSets: {a: {tolerations: []}}", nil, says("/additionalDaemonSets/a", "nodeSelector")},
		{"pools that may meet", "additionalDaemonSets: {a: {nodeSelector: {p: a}}, b: {nodeSelector: {q: b}}}", nil, says("additionalDaemonSets", "a and b", "nodeSelectors")},
		{"a pool with a port of its own", "additionalDaemonSets: {a: {nodeSelector: {p: a}, healthPort: 1}}", nil, says("/additionalDaemonSets/a", "healthPort")},
		{"a pool where nodes are off", "node: {enabled: false}\nadditionalDaemonSets: {a: {nodeSelector: {p: a}}}", nil, makes("no kind: DaemonSet")},
		{"a pool that gives nothing up", "node: {hostNetwork: false}\nadditionalDaemonSets: {a: {nodeSelector: {p: a}, selfRegistration: false, extraArgs: []}}", nil, makes("name: cinder-csi-node-a", "name: node-driver-registrar", "no --kubelet-registration-path=.*\n.*\n.*--kubelet-registration-path")},

		{"a test of the installation", "helmTest: {enabled: true, storageClass: fast}\nstorageClasses: [{name: fast}]", nil, makes("kind: PersistentVolumeClaim", "storageClassName: fast", `helm.sh/hook: test`, "claimName: cinder-csi-test")},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out, said, err := helm3.try(t, template(t, "", append(withValues(t, test.values), test.args...)...)...)
			test.check(t, out, said, err)
		})
	}
}

// TestTheNotesSayWhatIsAmiss renders NOTES.txt, which Helm shows for real clusters only,
// as an object of the chart.
func TestTheNotesSayWhatIsAmiss(t *testing.T) {
	dir := filepath.Join(t.TempDir(), chart)
	if err := os.CopyFS(dir, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	notes := string(document(t, filepath.Join(chart, "templates", "NOTES.txt")))
	wrapped := "{{ define \"notes\" }}" + notes + "{{ end }}\nkind: Notes\ntext: |{{ include \"notes\" . | nindent 2 }}\n"
	if err := os.WriteFile(filepath.Join(dir, "templates", "notes.yaml"), []byte(wrapped), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, values string
		apis         []string
		want, never  []string
	}{
		{"as it is", "{}", nil, []string{"clusterID is the default", "create secret generic cloud-config", "logs daemonset/cinder-csi-node", "There is no StorageClass"}, []string{"CRD", "OpenShift"}},
		{"a cluster with a name", "clusterID: a\nsecret: {create: true, data: {cloud.conf: x}}\nstorageClasses: [{name: a}]", []string{}, []string{"no snapshot CRDs"}, []string{"clusterID", "create secret", "no StorageClass", "Prometheus"}},
		{"OpenShift", "clusterID: a", []string{"operator.openshift.io/v1/ClusterCSIDriver"}, []string{"WARNING: this is OpenShift", "clustercsidriver cinder.csi.openstack.org", "docs/migration/openshift.md"}, nil},
		{"no Prometheus operator", "metrics: {podMonitor: {enabled: true}}", []string{}, []string{"metrics.podMonitor, which is left out", "metrics.podMonitor.forceEnable=true"}, []string{"serviceMonitor"}},
		{"no Prometheus operator for alerts", "metrics: {prometheusRule: {enabled: true}}", []string{}, []string{"metrics.prometheusRule, which is left out"}, []string{"podMonitor"}},
		{"alerts of what nobody scrapes", "metrics: {prometheusRule: {enabled: true}, podMonitor: {enabled: true, targets: [node]}}", nil, []string{"CinderCSIControllerDown fires"}, nil},
		{"alerts of what is scraped", "metrics: {prometheusRule: {enabled: true}, podMonitor: {enabled: true}}", nil, nil, []string{"CinderCSIControllerDown"}},
		{"nodes only", "controller: {enabled: false}", nil, []string{"logs daemonset/cinder-csi-node"}, []string{"cinder-csi-controller", "create secret"}},
		{"pools", "node: {namespaceOverride: own}\nadditionalDaemonSets: {gpu: {nodeSelector: {p: gpu}}}", nil, []string{"-n own logs daemonset/cinder-csi-node-gpu"}, nil},
		{"clouds by Secret", `secretClouds: {authURLs: ["*"]}`, nil, []string{"storageCapacity.enabled=false"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"template", release, dir, "--namespace", namespace, "--kube-version", kubernetes(t)}, withValues(t, test.values)...)
			if test.apis != nil {
				args = append(args, knownCluster(test.apis...)...)
			}
			text := parse(t, helm3.run(t, args...)).only(t, "Notes").text("text")
			for _, words := range test.want {
				if !strings.Contains(text, words) {
					t.Errorf("nothing says %q:\n%s", words, text)
				}
			}
			for _, words := range test.never {
				if strings.Contains(text, words) {
					t.Errorf("the notes say %q:\n%s", words, text)
				}
			}
		})
	}
}

// TestWhatIsTakenAwayIsLeftToKubernetes takes every list and every object of Kubernetes'
// own away (null): what is rendered without them is as Kubernetes wants it.
func TestWhatIsTakenAwayIsLeftToKubernetes(t *testing.T) {
	var gone []string
	var walk func(path string, value any)
	walk = func(path string, value any) {
		values, isObject := value.(object)
		_, isList := value.([]any)
		whole := regexp.MustCompile(`(\.resources|Probe|ecurityContext)$`).MatchString(path) && path != "sidecars.livenessProbe"
		if isList || isObject && (len(values) == 0 || whole) {
			gone = append(gone, path+"=null")
			return
		}
		for key, part := range values {
			walk(strings.TrimPrefix(path+"."+key, "."), part)
		}
	}
	walk("", parseFile(t, filepath.Join(chart, "values.yaml")))
	if len(gone) < 80 {
		t.Fatalf("only %q", gone)
	}
	path := filepath.Join(t.TempDir(), "all.yaml")
	out := helm3.run(t, template(t, "", "--set", strings.Join(gone, ","), "--set", "node.selfRegistration=false")...)
	if err := os.WriteFile(path, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _, err := kubeconform.try(t, "-strict", "-schema-location", filepath.Join(schemaDir(t), schemaLocation), path); err != nil {
		t.Error(out)
	}
}

// TestTheParametersAreThoseOfTheSidecars holds the list of the chart against the source.
func TestTheParametersAreThoseOfTheSidecars(t *testing.T) {
	code := sidecarSources(t)
	list := parseFile(t, filepath.Join(chart, "parameters.yaml")).object("sidecars")
	for kind, of := range map[string]struct{ sidecar, pattern string }{
		"storageClasses":        {"provisioner", `case (prefixed\w+Key):`},
		"volumeSnapshotClasses": {"snapshotter", `case (Prefixed\w+Key):`},
	} {
		var want []string
		for _, found := range regexp.MustCompile(of.pattern).FindAllStringSubmatch(code[of.sidecar], -1) {
			name := regexp.MustCompile(`\b` + found[1] + ` += csiParameterPrefix \+ "([^"]+)"`).FindStringSubmatch(code[of.sidecar])
			if name == nil {
				t.Fatalf("%s: nothing defines %s", of.sidecar, found[1])
			}
			want = append(want, "csi.storage.k8s.io/"+name[1])
		}
		got := sortedKeys(list.object(kind))
		slices.Sort(want)
		if want = slices.Compact(want); len(want) < 4 || !slices.Equal(got, want) {
			t.Errorf("%s: %q, the %s knows %q", kind, got, of.sidecar, want)
		}
	}
}

// TestTheReadmeLinksToNothingBesideTheChart: a packaged chart has no other files.
func TestTheReadmeLinksToNothingBesideTheChart(t *testing.T) {
	for _, link := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(string(document(t, filepath.Join(chart, "README.md"))), -1) {
		if !strings.HasPrefix(link[1], "https://") && !strings.HasPrefix(link[1], "#") {
			t.Errorf("the link %s leads out of the chart", link[1])
		}
	}
}
