package openstack

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Fingerprint returns a hash of the files that a configuration was read from and
// of those that they name: it changes when one of them does, however that was
// done. A file that is missing, or can't be read, counts as empty. What a
// file contained when cfg was read, rather than now, is not known here: read the
// fingerprint first.
func Fingerprint(paths []string) string {
	sum := sha256.New()
	for _, path := range paths {
		addFile(sum, path)
	}
	if cfg, err := ReadConfig(paths...); err == nil {
		for _, name := range slices.Sorted(maps.Keys(cfg.Global)) {
			for _, path := range cfg.Global[name].files() {
				addFile(sum, path)
			}
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// files are those that a section names.
func (c *CloudConfig) files() []string {
	paths := []string{c.CAFile, c.CertFile, c.KeyFile}
	if c.UseClouds {
		if path, err := cloudsFile(c.CloudsFile); err == nil {
			paths = append(paths, path, filepath.Join(filepath.Dir(path), "secure.yaml"))
		}
	}
	return slices.DeleteFunc(paths, func(path string) bool { return path == "" })
}

func addFile(sum hash.Hash, path string) {
	_, _ = fmt.Fprintf(sum, "%q", path)
	f, err := os.Open(path)
	if err != nil {
		return
	}
	// What was read until an error counts: the next look finds the difference.
	n, _ := io.Copy(sum, io.LimitReader(f, maxConfigSize))
	_ = f.Close()
	_, _ = fmt.Fprintf(sum, "%d", n)
}
