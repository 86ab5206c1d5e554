package controller

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"
)

// TestTheChartKnowsEveryParameter holds the chart's list of parameters, by which it
// refuses classes before they are made, to the tables of this package: the same keys,
// and values that the driver takes.
func TestTheChartKnowsEveryParameter(t *testing.T) {
	text, err := os.ReadFile("../../charts/cinder-csi/parameters.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Driver map[string]map[string]string
	}
	if err := yaml.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	values := []string{
		"", "true", "True", "f", "0", "1", "yes", "luks2", "LUKS2", "luks1", "4096", "04096", "4Ki", "-1", "snapshot", "Backup", "incremental",
		"never", "on-demand", "sometimes", "Delete", "retain", "Immediate", "waitforfirstconsumer", "Later",
	}
	for kind, c := range map[string]class{
		"storageClasses": storageClass(), "volumeSnapshotClasses": snapshotClass(), "volumeAttributesClasses": attributesClass(),
	} {
		patterns := list.Driver[kind]
		for _, p := range c.parameters {
			if strings.HasPrefix(p.name, sidecarPrefix) {
				continue // the sidecars' part of the list has it
			}
			pattern, ok := patterns[p.name]
			delete(patterns, p.name)
			if !ok || (p.value != nil && pattern == "") {
				t.Errorf("%s: the chart has %q for %s", kind, pattern, p.name)
			}
			for _, value := range values {
				if p.value == nil || value == "" {
					continue
				}
				_, err := p.value(value)
				if matches := regexp.MustCompile("(?is)^(" + pattern + ")?$").MatchString(value); matches != (err == nil) {
					t.Errorf("%s: %s=%s: the chart takes it: %t, the driver says %v", kind, p.name, value, matches, err)
				}
			}
		}
		for name := range patterns {
			t.Errorf("%s: the chart has %s, which the driver doesn't know", kind, name)
		}
	}
}
