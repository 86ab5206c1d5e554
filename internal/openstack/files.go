package openstack

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
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
	filled, paths := *c, []string(nil)
	if c.UseClouds {
		env := environment()
		if path, err := cloudsFile(cmp.Or(c.CloudsFile, env["client_config_file"])); err == nil && path != "" {
			secure, public := besides(path, env)
			paths = append(paths, path, secure, public)
		}
		if with, err := c.withClouds(); err == nil {
			filled = with
		}
	}
	paths = append(paths, filled.CAFile, filled.CertFile, filled.KeyFile)
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
