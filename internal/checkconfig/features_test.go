package checkconfig_test

import (
	"os"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/openstack"
)

// TestTheFeaturesAreThoseOfTheDocuments: docs/openstack.md names each with its microversion.
func TestTheFeaturesAreThoseOfTheDocuments(t *testing.T) {
	content, err := os.ReadFile("../../docs/openstack.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range openstack.Features() {
		found := false
		for line := range strings.Lines(string(content)) {
			found = found || strings.HasPrefix(line, "|") && strings.Contains(line, f.Needs)
		}
		if !found {
			t.Errorf("docs/openstack.md has no row with %s, of %s", f.Needs, f.Name)
		}
	}
}
