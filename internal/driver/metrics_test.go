package driver_test

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/driver"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/kube/kubetest"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
)

// With -update, the test writes the page that it otherwise compares.
var update = flag.Bool("update", false, "write docs/metrics.md")

// family is what is known of the metrics of one name.
type family struct {
	kind, help string
	labels     []string
	roles      []string
}

// recorder is a registry that remembers what was registered.
type recorder struct {
	*prometheus.Registry
	mu  sync.Mutex
	all []prometheus.Collector
}

func (r *recorder) Register(c prometheus.Collector) error {
	r.mu.Lock()
	r.all = append(r.all, c)
	r.mu.Unlock()
	return r.Registry.Register(c)
}

func (r *recorder) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

// families returns what the collectors say that they may tell.
func (r *recorder) families(t *testing.T, role string) map[string]family {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]family)
	for _, c := range r.all {
		kinds := make(map[string]string)
		walk(reflect.ValueOf(c), make(map[unsafe.Pointer]bool), kinds)
		for _, desc := range descs(c) {
			name, f := parse(t, desc)
			f.kind, f.roles = cmp.Or(kinds[name], map[bool]string{true: "counter", false: "gauge"}[strings.HasSuffix(name, "_total")]), []string{role}
			all[name] = f
		}
	}
	return all
}

func descs(c prometheus.Collector) (all []*prometheus.Desc) {
	ch := make(chan *prometheus.Desc)
	go func() {
		defer close(ch)
		c.Describe(ch)
	}()
	for desc := range ch {
		all = append(all, desc)
	}
	return all
}

// form is that of a prometheus.Desc as text.
var form = regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"), unit: "[^"]*", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

func parse(t *testing.T, desc *prometheus.Desc) (name string, f family) {
	t.Helper()
	parts := form.FindStringSubmatch(desc.String())
	if parts == nil {
		t.Fatalf("a description of another form: %s", desc)
	}
	name, err := strconv.Unquote(parts[1])
	if err == nil {
		f.help, err = strconv.Unquote(parts[2])
	}
	if err != nil {
		t.Fatalf("%s: %v", desc, err)
	}
	for _, constant := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(parts[3], -1) {
		f.labels = append(f.labels, constant[1])
	}
	for label := range strings.SplitSeq(parts[4], ",") {
		if label != "" {
			f.labels = append(f.labels, label)
		}
	}
	slices.Sort(f.labels)
	return name, f
}

// walk finds the kinds of the metrics that a collector is made of: a description doesn't
// tell, and there may be no series yet.
func walk(v reflect.Value, seen map[unsafe.Pointer]bool, kinds map[string]string) {
	switch v.Kind() {
	case reflect.Interface:
		walk(v.Elem(), seen, kinds)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			walk(v.Index(i), seen, kinds)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			walk(v.Field(i), seen, kinds)
		}
	case reflect.Pointer:
		if v.IsNil() || seen[v.UnsafePointer()] {
			return
		}
		seen[v.UnsafePointer()] = true
		kind := map[string]string{
			"CounterVec": "counter", "counter": "counter", "GaugeVec": "gauge", "gauge": "gauge", "HistogramVec": "histogram", "histogram": "histogram",
		}[v.Type().Elem().Name()]
		if kind == "" || v.Type().Elem().PkgPath() != "github.com/prometheus/client_golang/prometheus" {
			if path := v.Type().Elem().PkgPath(); strings.Contains(path, "cinder-csi") || strings.Contains(path, "prometheus") {
				walk(v.Elem(), seen, kinds)
			}
			return
		}
		c := reflect.NewAt(v.Type().Elem(), v.UnsafePointer()).Interface().(prometheus.Collector)
		for _, desc := range descs(c) {
			if parts := form.FindStringSubmatch(desc.String()); parts != nil {
				kinds[strings.Trim(parts[1], `"`)] = kind
			}
		}
	}
}

// scraped returns what a running plugin tells.
func scraped(t *testing.T, address string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(bytes.NewBufferString(get(t, "http://"+address+"/metrics")))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// observed runs a plugin with one role, everything that can be had turned on, and returns
// what it registers and what it tells.
func observed(t *testing.T, cloud *devcloud.Cloud, conf, role string) (map[string]family, map[string]*dto.MetricFamily) {
	t.Helper()
	registry, address := &recorder{Registry: prometheus.NewRegistry()}, freeAddress(t)
	cfg := driver.Config{
		Cluster: "test", CloudConfig: []string{conf}, CloudNames: []string{""},
		MetadataURL: cloud.MetadataURL("node1"), DevelopmentDeviceDir: cloud.DeviceDir("node1"), HTTPEndpoint: address, Metrics: registry,
		Limits:     openstack.Limits{Reads: 1000, Writes: 1000, Burst: 10},
		Kubernetes: kube.Options{ServiceAccountDir: kubetest.New(t, "token").ServiceAccount(t, "token")},
	}
	// Whatever can be turned on.
	for _, field := range reflect.ValueOf(&cfg).Elem().Fields() {
		if field.Kind() == reflect.Bool {
			field.SetBool(true)
		}
	}
	cfg.Controller, cfg.Node, cfg.Tracing = role == "controller", role == "node", false
	if role == "node" {
		cfg.KubeletRegistrationPath, cfg.PluginRegistrationPath = "/csi/csi.sock", t.TempDir()
	}
	s := start(t, cfg)
	if role == "controller" {
		if _, err := csi.NewControllerClient(s.conn).ListVolumes(t.Context(), &csi.ListVolumesRequest{}); err != nil {
			t.Fatal(err)
		}
	} else {
		until(t, "the registration", func() bool { return scraped(t, address)["cinder_csi_node_registered"] != nil })
		if _, err := csi.NewNodeClient(s.conn).NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	scraped(t, address) // the metrics of scrapes are told from the second on
	told := scraped(t, address)
	return registry.families(t, role), told
}

func TestThePageOfTheMetricsIsThatOfTheCode(t *testing.T) {
	cloud, conf := startCloud(t)
	all := make(map[string]family)
	for _, role := range []string{"controller", "node"} {
		registered, told := observed(t, cloud, conf, role)
		for name, f := range told {
			known, ok := registered[name]
			if !ok {
				t.Errorf("the %s tells %s, which nobody registered", role, name)
				continue
			}
			if kind := strings.ToLower(f.GetType().String()); kind != known.kind && kind != "untyped" {
				known.kind = kind
				registered[name] = known
			}
			for _, m := range f.GetMetric() {
				for _, label := range m.GetLabel() {
					if !slices.Contains(known.labels, label.GetName()) && label.GetName() != "quantile" {
						t.Errorf("the %s tells %s with the label %s, which it doesn't describe", role, name, label.GetName())
					}
				}
			}
		}
		for name, f := range registered {
			if before, ok := all[name]; ok {
				f.roles = append(before.roles, role)
			}
			all[name] = f
		}
	}
	for name, where := range named(t) {
		if _, ok := all[name]; !ok {
			t.Errorf("%s: nothing that this test turns on registers %s", where, name)
		}
	}
	compare(t, filepath.Join("..", "..", "docs", "metrics.md"), page(all))
}

// named returns the metrics that the code of the driver names, and where.
func named(t *testing.T) map[string]string {
	t.Helper()
	literal, all := regexp.MustCompile(`"(cinder_csi_[a-z_]+[a-z])"`), make(map[string]string)
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		for _, found := range literal.FindAllSubmatch(code, -1) {
			all[string(found[1])] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func compare(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	there, err := os.ReadFile(path)
	if err != nil || string(there) != want {
		t.Errorf("%s is not what the code says: go test ./internal/driver -run Page -update (%v)\n%s", path, err, want)
	}
}

// page writes the page.
func page(all map[string]family) string {
	var out strings.Builder
	out.WriteString(`# Metrics

The plugin serves these on /metrics of --http-endpoint. The page is made from the code:
` + "`go test ./internal/driver -run Page -update`" + `.

The label cloud is the name of a section of cloud.conf, as in [Global "name"], and default for the one
without a name. The clouds of secrets are secret:1, secret:2 and so on: there are as many as
--max-secret-clouds allows, and their series go when they do. [alerts.md](alerts.md) says which of
these call for somebody.

`)
	for _, section := range []struct {
		title string
		of    func(string) bool
	}{
		{"The driver's own", func(name string) bool { return strings.HasPrefix(name, "cinder_csi_") }},
		{"CSI calls", func(name string) bool { return strings.HasPrefix(name, "grpc_") }},
		{"OpenStack, by the reference driver's names", func(name string) bool { return strings.HasPrefix(name, "openstack_") }},
		{"The process", func(string) bool { return true }},
	} {
		fmt.Fprintf(&out, "## %s\n\n| name | type | labels | role | |\n|---|---|---|---|---|\n", section.title)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if !section.of(name) {
				continue
			}
			f := all[name]
			fmt.Fprintf(&out, "| `%s` | %s | %s | %s | %s |\n", name, f.kind, strings.Join(f.labels, ", "), strings.Join(f.roles, ", "), strings.ReplaceAll(f.help, "|", `\|`))
			delete(all, name)
		}
		out.WriteString("\n")
	}
	return strings.TrimSpace(out.String()) + "\n"
}
