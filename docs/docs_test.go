// Package docs holds the documents to what they name: files, headings, targets of
// make.
package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents are all of the repository's, by their paths below it.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "node_modules" {
			return fs.SkipDir // what npm has installed, in no commit
		}
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		content, err := fs.ReadFile(root, path)
		all[path] = string(content)
		return err
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("%d documents, %v", len(all), err)
	}
	return all
}

func TestEachLinkLeadsToAFileAndAHeading(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]+))?\)`)
	all := documents(t)
	for path, content := range all {
		for _, found := range link.FindAllStringSubmatch(content, -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			target := path
			if found[1] != "" {
				target = filepath.Join(filepath.Dir(path), found[1])
			}
			if _, err := os.Stat(filepath.Join("..", target)); err != nil {
				t.Errorf("%s: %s: %v", path, found[0], err)
			}
			if found[2] != "" && !slices.Contains(anchors(all[target]), found[2]) {
				t.Errorf("%s: %s: %s has no such heading", path, found[0], target)
			}
		}
	}
}

// anchors are those of the headings, as they are made of them where documents are
// read.
func anchors(content string) []string {
	var all []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(content, -1) {
		plain := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		all = append(all, strings.ReplaceAll(plain, " ", "-"))
	}
	return all
}

func TestEachPathOfTheArchitectureExists(t *testing.T) {
	content := documents(t)["docs/architecture.md"]
	for _, found := range regexp.MustCompile("`((?:internal|cmd|charts|e2e|build|sanity)(?:/[^ `*]+)?)`").FindAllStringSubmatch(content, -1) {
		if _, err := os.Stat(filepath.Join("..", found[1])); err != nil {
			t.Errorf("docs/architecture.md: %v", err)
		}
	}
}

func TestTheArchitectureHasEachPackage(t *testing.T) {
	content := documents(t)["docs/architecture.md"]
	entries, err := os.ReadDir("../internal")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !strings.Contains(content, "`internal/"+entry.Name()+"`") {
			t.Errorf("docs/architecture.md: internal/%s is missing", entry.Name())
		}
	}
}

func TestEachTargetOfMakeExists(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile("(?:`|[$#] |=1 )make((?: [a-z][a-z0-9-]*)+)")
	for path, content := range documents(t) {
		for _, found := range command.FindAllStringSubmatch(content, -1) {
			for target := range strings.FieldsSeq(found[1]) {
				if !strings.Contains(string(makefile), fmt.Sprintf("\n%s: ", target)) && !strings.Contains(string(makefile), fmt.Sprintf("\n%s:\n", target)) {
					t.Errorf("%s: make has no target %s", path, target)
				}
			}
		}
	}
}
