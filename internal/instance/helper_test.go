package instance_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/configdrive"
)

// serverID is the uuid in testdata/config-2.iso.gz.
const serverID = "83679162-1378-4288-a2d4-70e13ec132aa"

// novaDrive returns a config drive as Nova makes it, with genisoimage.
func novaDrive(t testing.TB) []byte {
	t.Helper()
	packed, err := os.ReadFile(filepath.Join("testdata", "config-2.iso.gz"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	image, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// written returns a config drive as the development cloud makes it.
func written(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "drive")
	if err := configdrive.Write(path, files); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// devDir returns a directory of devices in which label leads to a drive with
// that content, as udev would have it.
func devDir(t testing.TB, label string, drive []byte) string {
	t.Helper()
	dev := t.TempDir()
	byLabel := filepath.Join(dev, "disk", "by-label")
	if err := os.MkdirAll(byLabel, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dev, "sr0"), drive, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../sr0", filepath.Join(byLabel, label)); err != nil {
		t.Fatal(err)
	}
	return dev
}
