package charts

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestTheValuesOfTheDocumentsAreTheCharts renders the blocks of documents that begin
// with "# values.yaml".
func TestTheValuesOfTheDocumentsAreTheCharts(t *testing.T) {
	var paths []string
	for _, pattern := range []string{"../docs/*.md", "../docs/migration/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	rendered := 0
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile("(?s)```yaml\n(# values.yaml\n.*?)```").FindAllStringSubmatch(string(content), -1) {
			t.Run(filepath.Base(path), func(t *testing.T) { render(t, "default", withValues(t, block[1])...) })
			rendered++
		}
	}
	if rendered == 0 {
		t.Error("no document has values")
	}
}
