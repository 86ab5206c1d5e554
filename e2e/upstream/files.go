package upstream

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
)

// files are the test driver files and the classes that they name.
//
//go:embed *.yaml core.txt
var files embed.FS

// classesFile holds the classes that the test driver files name.
const classesFile = "classes.yaml"

// definitions are the test driver files, the driver itself first.
func definitions() []string {
	return []string{"testdriver.yaml", "testdriver-xfs.yaml", "testdriver-multiattach.yaml"}
}

// writeFiles puts the test driver files and the classes into a directory, where
// e2e.test and kubectl can read them.
func writeFiles(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("directory for the suite's files: %w", err)
	}
	for _, name := range append(definitions(), classesFile) {
		data, err := files.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return fmt.Errorf("write the suite's files: %w", err)
		}
	}
	return nil
}
