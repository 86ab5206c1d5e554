package controller

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestTheDocumentNamesEveryParameter holds docs/parameters.md to the tables of this
// package: the keys in the first column of a section's table, those that have an effect
// and those that have none.
func TestTheDocumentNamesEveryParameter(t *testing.T) {
	text, err := os.ReadFile("../../docs/parameters.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := func(heading string) []string {
		_, section, found := strings.Cut(string(text), "\n"+heading+"\n")
		if !found {
			return nil
		}
		if end := strings.Index(section, "\n#"); end >= 0 {
			section = section[:end]
		}
		var keys []string
		for _, row := range regexp.MustCompile("(?m)^\\| `[^|]*").FindAllString(section, -1) {
			for _, key := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(row, -1) {
				keys = append(keys, key[1])
			}
		}
		return keys
	}
	for _, c := range []class{storageClass(), snapshotClass(), attributesClass()} {
		keys := map[string][]string{"## " + c.kind: nil, "### Without effect in a " + c.kind: nil}
		for _, p := range c.parameters {
			heading := "## " + c.kind
			if p.unused != "" {
				heading = "### Without effect in a " + c.kind
			}
			keys[heading] = append(keys[heading], p.name)
		}
		if c.kind == "VolumeAttributesClass" {
			keys["## "+c.kind] = append(keys["## "+c.kind], metadataPrefix+"KEY")
		}
		for heading, want := range keys {
			if got := documented(heading); !slices.Equal(got, want) {
				t.Errorf("%s documents %q, want %q", heading, got, want)
			}
		}
	}
}
