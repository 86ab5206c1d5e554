package configdrive_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/configdrive"
)

const (
	meta    = `{"uuid": "c7b7d04e-9842-4769-93ac-eeba8d184f2f", "name": "node-1", "availability_zone": "nova"}`
	network = `{"links": [], "networks": [], "services": []}`
)

func writeDrive(t *testing.T) (path string, files map[string][]byte) {
	t.Helper()
	files = configdrive.Files(configdrive.Documents{Meta: []byte(meta), Network: []byte(network)})
	path = filepath.Join(t.TempDir(), "config-2.iso")
	if err := configdrive.Write(path, files); err != nil {
		t.Fatal(err)
	}
	return path, files
}

func TestEveryDocumentIsThereUnderItsLongName(t *testing.T) {
	path, files := writeDrive(t)
	for name, want := range files {
		if got := isoinfo(t, "-i", path, "-R", "-x", "/"+name); !bytes.Equal(got, want) {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	listed := paths(isoinfo(t, "-i", path, "-R", "-f"))
	if want := withDirectories(files); !slices.Equal(listed, want) {
		t.Errorf("listed\n%q, want\n%q", listed, want)
	}
}

func TestTheVolumeIdentifierIsTheOneServersLookFor(t *testing.T) {
	path, _ := writeDrive(t)
	if out := isoinfo(t, "-i", path, "-d"); !bytes.Contains(out, []byte("Volume id: config-2\n")) {
		t.Errorf("isoinfo -d says:\n%s", out)
	}
	out, err := exec.Command("blkid", "-p", "-o", "export", path).Output()
	if err != nil {
		t.Fatalf("blkid: %v", err)
	}
	if !bytes.Contains(out, []byte("LABEL=config-2\n")) || !bytes.Contains(out, []byte("TYPE=iso9660\n")) {
		t.Errorf("blkid says:\n%s", out)
	}
}

func TestTheLayoutIsThatOfNova(t *testing.T) {
	files := configdrive.Files(configdrive.Documents{Meta: []byte(meta), User: []byte("#!/bin/sh\n")})
	for name, want := range map[string]bool{
		"openstack/latest/meta_data.json":        true,
		"openstack/latest/network_data.json":     true,
		"openstack/latest/vendor_data2.json":     true,
		"openstack/2018-08-27/meta_data.json":    true,
		"openstack/2012-08-10/meta_data.json":    true,
		"openstack/2012-08-10/user_data":         true,
		"openstack/2012-08-10/vendor_data.json":  false,
		"openstack/2013-10-17/network_data.json": false,
		"openstack/2015-10-15/network_data.json": true,
		"openstack/2016-06-30/vendor_data2.json": false,
	} {
		if _, ok := files[name]; ok != want {
			t.Errorf("%s is there: %t, want %t", name, ok, want)
		}
	}
}

func TestNothingIsLeftWhenAFileCanNotBeWritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config-2.iso")
	if err := configdrive.Write(path, map[string][]byte{"../outside": nil}); err == nil {
		t.Error("a path that leads out of the drive is accepted")
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := configdrive.Write(path, map[string][]byte{"a": nil}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("writing over a file: %v", err)
	}
	if content, err := os.ReadFile(path); string(content) != "mine" {
		t.Errorf("the file was replaced: %q, %v", content, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func isoinfo(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("isoinfo", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s (package genisoimage): %v: %s", cmd, err, stderr.String())
	}
	return out
}

func paths(list []byte) []string {
	found := strings.Fields(string(list))
	slices.Sort(found)
	return found
}

func withDirectories(files map[string][]byte) []string {
	all := map[string]bool{}
	for name := range files {
		for ; name != "."; name = filepath.Dir(name) {
			all["/"+name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func TestDirectoriesAndFilesOfSeveralBlocksAreReadBack(t *testing.T) {
	files := map[string][]byte{"empty": {}, "large/exact": bytes.Repeat([]byte("x"), 4096)}
	for i := range 100 {
		name := fmt.Sprintf("many/file-with-a-long-name-%03d.t", i)
		files[name] = bytes.Repeat([]byte{byte('a' + i%26)}, 37*i)
	}
	path := filepath.Join(t.TempDir(), "drive.iso")
	if err := configdrive.Write(path, files); err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if got := isoinfo(t, "-i", path, "-R", "-x", "/"+name); !bytes.Equal(got, want) {
			t.Errorf("%s holds %d bytes, want %d", name, len(got), len(want))
		}
	}
}

func TestNamesThatCanNotBeWrittenAreRefused(t *testing.T) {
	for name, paths := range map[string][]string{
		"a parent":                   {"../a"},
		"absolute":                   {"/a"},
		"empty":                      {""},
		"a file that is a directory": {"a", "a/b"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string][]byte{}
			for _, path := range paths {
				files[path] = nil
			}
			if err := configdrive.Write(filepath.Join(t.TempDir(), "drive.iso"), files); err == nil {
				t.Errorf("%q are accepted", paths)
			}
		})
	}
}
