package charts

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestValuesThatMakeNoSenseAreRefused(t *testing.T) {
	for _, test := range []struct {
		set     string
		reasons []string
	}{
		{"controler.replicas=3", []string{"controler"}},
		{"controller.replica=3", []string{"/controller", "replica"}},
		{"controller.replicas=two", []string{"/controller/replicas"}},
		{"controller.replicas=-1", []string{"/controller/replicas"}},
		{"controller.extraArgs=--v=5", []string{"/controller/extraArgs"}},
		{"controller.extraArgs={v=5}", []string{"/controller/extraArgs/0"}},
		{"controller.image.digest=abc", []string{"/controller/image/digest"}},
		{"controller.image.repository=image@sha256:abc", []string{"/controller/image/repository"}},
		{"controller.image.pullPolicy=Sometimes", []string{"/controller/image/pullPolicy"}},
		{"controller.resources.limit.memory=1Gi", []string{"/controller/resources", "limit"}},
		{"controller.httpPort=123456", []string{"/controller/httpPort"}},
		{"controller.topologySpreadConstraints={zone}", []string{"/controller/topologySpreadConstraints/0"}},
		{"node.kubeletDir=var/lib/kubelet", []string{"/node/kubeletDir"}},
		{"node.kubeletDir=/", []string{"/node/kubeletDir"}},
		{"node.config.Global.password=secret", []string{"/node/config", "Global"}},
		{"node.config.Metadata.search-order=nowhere", []string{"/node/config/Metadata/search-order"}},
		{"node.config.BlockStorage.node-volume-attach-limit=0", []string{"/node/config/BlockStorage"}},
		{"secret.data.password=5", []string{"/secret/data/password"}},
		{"sidecars.provisioner.timeout=60", []string{"/sidecars/provisioner/timeout"}},
		{"sidecars.resizer.timeout=60s", []string{"/sidecars/resizer", "timeout"}},
		{"sidecars.attacher.workers=0", []string{"/sidecars/attacher/workers"}},
		{"sidecars.healthMonitor.image.tag=v1", []string{"/sidecars", "healthMonitor"}},
		{"csiDriver.attachRequired=false", []string{"/csiDriver", "attachRequired"}},
		{"csiDriver.volumeLifecycleModes={Ephemeral}", []string{"/csiDriver", "volumeLifecycleModes"}},
		{"csiDriver.nodeAllocatableUpdatePeriodSeconds=5", []string{"/csiDriver/nodeAllocatableUpdatePeriodSeconds"}},
		{"defaultFSType=ntfs", []string{"/defaultFSType"}},
		{"logging.format=xml", []string{"/logging/format"}},
		{"storageClasses[0].default=true", []string{"/storageClasses/0", "name"}},
		{"storageClasses[0].name=a,storageClasses[0].reclaimpolicy=Retain", []string{"/storageClasses/0", "reclaimpolicy"}},
		{"storageClasses[0].name=a,storageClasses[0].parameters.size=5", []string{"/storageClasses/0/parameters/size"}},
		{"volumeAttributesClasses[0].name=a", []string{"/volumeAttributesClasses/0", "parameters"}},
		{"rbac.secrets[0].namespace=a", []string{"/rbac/secrets/0", "names"}},
		{"node.healthAddress=[::1]", []string{"/node/healthAddress"}},
		{"node.healthAddress=localhost", []string{"/node/healthAddress"}},
		// Two pods of one node would have the same sockets and ports.
		{"node.updateStrategy.rollingUpdate.maxSurge=1", []string{"/node/updateStrategy/rollingUpdate", "maxSurge"}},
		{"node.updateStrategy.rollingUpdate.maxUnavailable=0", []string{"/node/updateStrategy/rollingUpdate"}},
		{"node.updateStrategy.rollingUpdate.maxUnavailable=0%", []string{"/node/updateStrategy/rollingUpdate"}},
		{"metrics.podMonitor.targets={nodes}", []string{"/metrics/podMonitor/targets/0"}},
	} {
		t.Run(test.set, func(t *testing.T) {
			t.Parallel()
			refused(t, test.reasons, "--set", test.set)
		})
	}
}

func TestValuesThatContradictEachOtherAreRefused(t *testing.T) {
	refused(t, []string{"secret.data", "cloud.conf"}, "--set", "secret.create=true")
	refused(t, []string{"secret.data", "other.conf"}, "--set", `secret.create=true,secret.data.cloud\.conf=x,secret.filename=other.conf`)
	refused(t, []string{"storageCapacity", "cloudNames"}, "--set", "cloudNames={cloud-b}")
	refused(t, []string{"serviceMonitor", "podMonitor"}, "--set", "metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true")
	refused(t, []string{"node.serviceAccount.name"}, "--set", "node.serviceAccount.create=false")
	refused(t, []string{"controller.strategy.rollingUpdate"}, "--set", "controller.strategy.rollingUpdate.maxSurge=0")
	refused(t, []string{"controller.strategy.rollingUpdate"}, "--set", "controller.hostNetwork=true,controller.strategy.rollingUpdate.maxUnavailable=0%")
	for _, sidecar := range []string{"provisioner", "attacher", "resizer", "snapshotter", "nodeDriverRegistrar", "livenessProbe"} {
		refused(t, []string{"sidecars." + sidecar + ".image.tag"}, "--set", "node.selfRegistration=false,sidecars."+sidecar+".image.tag=")
	}
	for _, monitor := range []string{"serviceMonitor", "podMonitor"} {
		scraped := "networkPolicy.enabled=true,metrics." + monitor + ".enabled=true"
		refused(t, []string{"networkPolicy.metricsFrom"}, "--set", scraped)
		render(t, "", "--set", scraped+",controller.hostNetwork=true")
		render(t, "", "--set", scraped+",networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus")
	}
	render(t, "", "--set", "networkPolicy.enabled=true,metrics.podMonitor.enabled=true,metrics.podMonitor.targets={node}")
	refused(t, []string{"volumeAttributesClasses", "1.34"}, "--kube-version", "1.33.9", "--set", "volumeAttributesClasses[0].name=a,volumeAttributesClasses[0].parameters.type=b")
	render(t, "", "--kube-version", "1.33.9")
	if _, said, err := helm3.try(t, "template", release, chart, "--kube-version", "1.30.0"); err == nil || !strings.Contains(said, "kubeVersion") {
		t.Errorf("Kubernetes 1.30 is accepted: %v %s", err, said)
	}
}

// schemaObject is as much of a JSON schema as is needed to walk it.
type schemaObject struct {
	Ref        string                  `json:"$ref"`
	Type       any                     `json:"type"`
	Properties map[string]schemaObject `json:"properties"`
	Additional json.RawMessage         `json:"additionalProperties"`
	Items      *schemaObject           `json:"items"`
	AnyOf      []schemaObject          `json:"anyOf"`

	Definitions map[string]schemaObject `json:"definitions"`
}

func readSchema(t *testing.T) schemaObject {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chart, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema schemaObject
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	return schema
}

func TestTheSchemaKnowsTheValuesAndNoOthers(t *testing.T) {
	schema := readSchema(t)
	resolve := func(s schemaObject) schemaObject {
		if name, ok := strings.CutPrefix(s.Ref, "#/definitions/"); ok {
			return schema.Definitions[name]
		}
		return s
	}
	// These exist in no object until somebody gives them.
	optional := []string{"/node/config/Metadata", "/node/config/BlockStorage"}
	var walk func(path string, s schemaObject, value any)
	walk = func(path string, s schemaObject, value any) {
		s = resolve(s)
		values, isObject := value.(object)
		if len(s.Properties) == 0 || !isObject {
			return
		}
		// What a parent chart has for its other charts is none of this one's business.
		if string(s.Additional) != "false" && path != "/global" {
			t.Errorf("%s: the schema lets typing errors pass", path)
		}
		for key := range values {
			if _, ok := s.Properties[key]; !ok {
				t.Errorf("%s/%s is in values.yaml and not in the schema", path, key)
			}
		}
		for key, property := range s.Properties {
			given, ok := values[key]
			leaf := strings.HasSuffix(path, "/resources") || strings.HasSuffix(path, "Probe") || strings.HasSuffix(path, "/rollingUpdate")
			if !ok && !leaf && !slices.Contains(optional, path+"/"+key) {
				t.Errorf("%s/%s is in the schema and not in values.yaml", path, key)
			}
			walk(path+"/"+key, property, given)
		}
	}
	walk("", schema, parseFile(t, filepath.Join(chart, "values.yaml")))
}

func TestEveryValueIsExplained(t *testing.T) {
	readme := helmDocs.run(t, "--chart-search-root", chart, "--sort-values-order", "file", "--dry-run", "--log-level", "error")
	_, table, found := strings.Cut(readme, "| Key | Type | Default | Description |\n")
	if !found {
		t.Fatal("there is no table of values")
	}
	rows := strings.Split(strings.TrimSpace(table), "\n")[1:]
	if len(rows) < 100 {
		t.Errorf("only %d values are explained", len(rows))
	}
	for _, row := range rows {
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		if len(cells) < 4 || len(strings.Fields(cells[3])) < 1 {
			t.Errorf("no explanation: %s", row)
		}
	}
	golden(t, filepath.Join(chart, "README.md"), readme)
}
