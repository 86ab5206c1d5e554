package charts

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"
)

// kubernetes is the version that the end-to-end cluster runs. It is read from
// the go.mod, since starting the go command for each rendering takes its time.
func kubernetes(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../e2e/tools/kube/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\s*(?:require )?k8s\.io/kubernetes v(\S+)`).FindSubmatch(text)
	if found == nil {
		t.Fatal("../e2e/tools/kube/go.mod has no version of k8s.io/kubernetes")
	}
	return string(found[1])
}

// template returns the arguments that render the chart. Values are a name below
// testdata/values, or none; settings are more arguments.
func template(t *testing.T, values string, settings ...string) []string {
	t.Helper()
	args := []string{"template", release, chart, "--namespace", namespace, "--kube-version", kubernetes(t)}
	if values != "" {
		args = append(args, "--values", filepath.Join("testdata", "values", values+".yaml"))
	}
	return append(args, settings...)
}

// render returns the objects of the chart.
func render(t *testing.T, values string, settings ...string) objects {
	t.Helper()
	return parse(t, helm3.run(t, template(t, values, settings...)...))
}

// refused fails the test unless rendering fails for each of the reasons.
func refused(t *testing.T, reasons []string, settings ...string) {
	t.Helper()
	_, said, err := helm3.try(t, template(t, "", settings...)...)
	if err == nil {
		t.Errorf("%s is accepted", strings.Join(settings, " "))
		return
	}
	for _, reason := range reasons {
		if !strings.Contains(said, reason) {
			t.Errorf("%s is refused without the word %q: %s", strings.Join(settings, " "), reason, said)
		}
	}
}

// object is an object of Kubernetes, or a part of one.
type object map[string]any

type objects []object

func parse(t *testing.T, text string) objects {
	t.Helper()
	var all objects
	for part := range strings.SplitSeq("\n"+text, "\n---") {
		if o := parseObject(t, part+"\n"); len(o) > 0 {
			all = append(all, o)
		}
	}
	return all
}

func parseObject(t *testing.T, text string) object {
	t.Helper()
	var content any
	if err := yaml.Unmarshal([]byte(text), &content); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	o, _ := stringKeys(content).(object)
	return o
}

func parseFile(t *testing.T, path string) object {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parseObject(t, string(text))
}

// stringKeys makes an object of each map.
func stringKeys(v any) any {
	switch v := v.(type) {
	case map[any]any:
		o := object{}
		for key, value := range v {
			o[fmt.Sprint(key)] = stringKeys(value)
		}
		return o
	case []any:
		for i := range v {
			v[i] = stringKeys(v[i])
		}
	}
	return v
}

// id is what no two objects of a cluster share.
func (o object) id() string {
	return strings.Trim(fmt.Sprintf("%v %v/%v", o["kind"], o.at("metadata", "namespace"), o.at("metadata", "name")), "<nil>/")
}

// at returns what is at the end of a path of keys, nil if there is nothing.
func (o object) at(path ...string) any {
	var v any = o
	for _, key := range path {
		part, ok := v.(object)
		if !ok {
			return nil
		}
		v = part[key]
	}
	return v
}

func (o object) object(path ...string) object {
	part, _ := o.at(path...).(object)
	return part
}

func (o object) text(path ...string) string {
	v := o.at(path...)
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// list returns the objects of a list.
func (o object) list(path ...string) objects {
	var all objects
	items, _ := o.at(path...).([]any)
	for _, item := range items {
		if part, ok := item.(object); ok {
			all = append(all, part)
		}
	}
	return all
}

// texts returns the scalars of a list.
func (o object) texts(path ...string) []string {
	var all []string
	items, _ := o.at(path...).([]any)
	for _, item := range items {
		all = append(all, fmt.Sprint(item))
	}
	return all
}

func (all objects) ofKind(kind string) objects {
	var some objects
	for _, o := range all {
		if o["kind"] == kind {
			some = append(some, o)
		}
	}
	return some
}

// one returns the only object with the value at the path.
func (all objects) one(t *testing.T, value string, path ...string) object {
	t.Helper()
	var found objects
	for _, o := range all {
		if o.text(path...) == value {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects with %s %q", len(found), strings.Join(path, "."), value)
	}
	return found[0]
}

func (all objects) only(t *testing.T, kind string) object {
	t.Helper()
	return all.one(t, kind, "kind")
}

// pods returns the pod templates by the name of their component.
func (all objects) pods() map[string]object {
	pods := map[string]object{}
	for _, kind := range []string{"Deployment", "DaemonSet"} {
		for _, o := range all.ofKind(kind) {
			template := o.object("spec", "template")
			pods[template.text("metadata", "labels", "app.kubernetes.io/component")] = template
		}
	}
	return pods
}

// container returns a container of a pod template.
func (o object) container(t *testing.T, name string) object {
	t.Helper()
	return o.list("spec", "containers").one(t, name, "name")
}

// same compares two values by their JSON.
func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
