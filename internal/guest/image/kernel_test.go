package image

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestOnlyTheKernelAndItsModulesAreUnpacked(t *testing.T) {
	var pkg bytes.Buffer
	w := tar.NewWriter(&pkg)
	for _, name := range []string{
		"./boot/vmlinuz-6.1", "./boot/config-6.1", "./usr/lib/modules/6.1/kernel/fs/xfs.ko", "./lib/modules/6.1/modules.order",
		"./usr/share/doc/readme", "../boot/vmlinuz-../../../escaped",
	} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 1, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "root")
	if err := extract(tar.NewReader(&pkg), root); err != nil {
		t.Fatal(err)
	}
	got, err := filepath.Glob(filepath.Join(root, "*", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0] != filepath.Join(root, "lib", "modules", "6.1") {
		t.Errorf("unpacked %v", got)
	}
	k, err := open(root)
	if err != nil {
		t.Fatal(err)
	}
	if k.release != "6.1" || k.image() != filepath.Join(root, "boot", "vmlinuz-6.1") {
		t.Errorf("opened as %+v", k)
	}
	for _, name := range []string{"lib/modules/6.1/kernel/fs/xfs.ko", "lib/modules/6.1/modules.order"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestTheNewestKernelInTheCacheIsTheOneThatWasUnpackedLast(t *testing.T) {
	cache := t.TempDir()
	if k, ok := newestCached(cache); ok {
		t.Errorf("found %+v in an empty cache", k)
	}
	for _, release := range []string{"6.1", "6.12"} {
		if err := save(bytes.NewReader(nil), filepath.Join(cache, "linux-image-"+release, "boot", "vmlinuz-"+release)); err != nil {
			t.Fatal(err)
		}
	}
	old := filepath.Join(cache, "linux-image-6.1")
	if err := os.Chtimes(old, changed(old).AddDate(-1, 0, 0), changed(old).AddDate(-1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	if k, ok := newestCached(cache); !ok || k.release != "6.12" {
		t.Errorf("found %+v, %t", k, ok)
	}
	if err := prune(cache, filepath.Join(cache, "linux-image-6.12")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("the old kernel is left: %v", err)
	}
}
