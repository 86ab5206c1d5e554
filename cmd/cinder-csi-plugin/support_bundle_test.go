package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

// TestSupportBundleOfACloudAlone: without Kubernetes there is the configuration and what
// check-config says, and the exit status tells that the rest is missing.
func TestSupportBundleOfACloudAlone(t *testing.T) {
	cloud, err := devcloud.Start(t.Context(), devcloud.Config{StateDir: filepath.Join(t.TempDir(), "cloud"), Disks: devcloud.DisksNone, Ephemeral: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cloud.Close() })
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "away"))
	dir := t.TempDir()
	conf, path := filepath.Join(dir, "cloud.conf"), filepath.Join(dir, "bundle.tar.gz")
	if err := os.WriteFile(conf, []byte(cloud.CloudConf()), 0o600); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(cloud.CloudConf(), "password=")
	password, _, _ := strings.Cut(rest, "\n")
	var out, errs bytes.Buffer
	if got := run([]string{"support-bundle", "--cloud-config=" + conf, "--file=" + path}, &out, &errs); got != 2 || !strings.Contains(out.String(), path) {
		t.Errorf("exit status %d: %s%s", got, out.String(), errs.String())
	}
	if got := run([]string{"support-bundle", "--file=" + path}, &out, &errs); got != 2 || !strings.Contains(errs.String(), "file exists") {
		t.Errorf("a file that is there is overwritten: exit status %d: %s", got, errs.String())
	}
	var piped bytes.Buffer
	if got := run([]string{"support-bundle", "--cloud-config=" + conf, "--file=-"}, &piped, &errs); got != 2 {
		t.Errorf("exit status %d: %s", got, errs.String())
	}
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, archive := range [][]byte{written, piped.Bytes()} {
		zip, err := gzip.NewReader(bytes.NewReader(archive))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(zip)
		if err != nil {
			t.Fatal(err)
		}
		for _, wanted := range []string{"check-config.json", "errors.txt", "cloud default: well", "password = REDACTED"} {
			if !strings.Contains(string(text), wanted) {
				t.Errorf("the bundle lacks %q", wanted)
			}
		}
		if strings.Contains(string(text), password) {
			t.Error("the bundle has the password")
		}
	}
}
