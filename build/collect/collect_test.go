package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// deb makes a package of files by their paths, in a directory of packages.
// Content that begins with "-> " is a symbolic link.
func deb(t *testing.T, dir, name string, files map[string]string) {
	t.Helper()
	root := t.TempDir()
	all := maps.Clone(files)
	all["DEBIAN/control"] = "Package: " + name + "\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: for a test\n"
	if all["usr/share/doc/"+name] == "" {
		all["usr/share/doc/"+name+"/copyright"] = "free: " + name
	}
	for path, content := range all {
		at := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, link := strings.CutPrefix(content, "-> "); link {
			err = os.Symlink(target, at)
		} else {
			err = os.WriteFile(at, []byte(content), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--root-owner-group", "-Znone", "--build", root, filepath.Join(dir, name+".deb")).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v: %s", err, out)
	}
}

// host returns what is in a file of this machine.
func host(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// collected runs collect and returns the paths of what it made.
func collected(t *testing.T, debs string, wanted ...string) (root string, paths []string) {
	t.Helper()
	root = t.TempDir()
	if err := run(t.Context(), append([]string{debs, root}, wanted...)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			paths = append(paths, strings.TrimPrefix(path, root))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return root, paths
}

// mount is a program with libraries, some of which need others.
func mount(t *testing.T) (program, linker string, libraries []string) {
	t.Helper()
	program, err := exec.LookPath("mount")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "ldd", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range regexp.MustCompile(`(?m)^\s*(?:\S+ => )?(/\S+)`).FindAllStringSubmatch(string(out), -1) {
		if strings.HasPrefix(filepath.Base(found[1]), "ld") {
			linker = found[1]
		} else {
			libraries = append(libraries, found[1])
		}
	}
	return program, linker, libraries
}

// packed makes packages of mount and of its libraries.
func packed(t *testing.T) (debs, linker string, libraries []string) {
	t.Helper()
	program, linker, paths := mount(t)
	debs = t.TempDir()
	deb(t, debs, "mount", map[string]string{"bin/mount": host(t, program), "usr/share/man/man8/mount.8": "how to"})
	// As Debian has them: below /lib, under a name with the whole version, and the
	// linker by an absolute link.
	triplet := filepath.Base(filepath.Dir(paths[0]))
	files := map[string]string{
		"usr/lib/" + triplet + "/ld.so": host(t, linker), strings.TrimPrefix(linker, "/"): "-> /lib/" + triplet + "/ld.so",
		"usr/share/doc/libs": "-> mount",
	}
	for _, path := range paths {
		name := filepath.Base(path)
		files["lib/"+triplet+"/"+name+".1.2"] = host(t, path)
		files["lib/"+triplet+"/"+name] = "-> " + name + ".1.2"
		libraries = append(libraries, "/usr/lib/"+triplet+"/"+name)
	}
	deb(t, debs, "libs", files)
	return debs, linker, libraries
}

func TestAProgramComesWithAllThatItLoadsAndRuns(t *testing.T) {
	debs, linker, libraries := packed(t)
	root, paths := collected(t, debs, "mount")
	want := append(libraries, "/usr/bin/mount", linker,
		"/usr/share/doc/mount/copyright", "/usr/share/doc/libs/copyright", "/var/lib/dpkg/status.d/mount", "/var/lib/dpkg/status.d/libs")
	slices.Sort(want)
	slices.Sort(paths)
	if !slices.Equal(paths, want) {
		t.Errorf("got %q\nwant %q", paths, want)
	}
	out, err := exec.CommandContext(t.Context(), "unshare", "--user", "--map-root-user", "chroot", root, "/usr/bin/mount", "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "mount from util-linux") {
		t.Errorf("it says %q, %v", out, err)
	}
}

func TestWhatIsKeptOfAPackageIsWhatScannersAndLawyersWant(t *testing.T) {
	debs := t.TempDir()
	deb(t, debs, "conf", map[string]string{"etc/tool.conf": "key = value"})
	root, _ := collected(t, debs, "/etc/tool.conf")
	for path, want := range map[string]string{
		"etc/tool.conf":                "key = value",
		"usr/share/doc/conf/copyright": "free: conf",
		"var/lib/dpkg/status.d/conf":   "Package: conf\nStatus: install ok installed\nVersion: 1.0\nArchitecture: all\n",
	} {
		if got := host(t, filepath.Join(root, path)); !strings.HasPrefix(got, want) {
			t.Errorf("%s is %q", path, got)
		}
	}
}

func TestTheBundleOfCertificatesIsMadeAsItsPackageWould(t *testing.T) {
	debs := t.TempDir()
	deb(t, debs, "ca-certificates", map[string]string{
		"usr/share/ca-certificates/mozilla/B.crt": "second\n", "usr/share/ca-certificates/mozilla/A.crt": "first\n",
		"usr/share/ca-certificates/README": "no certificate",
	})
	root, _ := collected(t, debs, bundle)
	if got := host(t, filepath.Join(root, bundle)); got != "first\nsecond\n" {
		t.Errorf("it is %q", got)
	}
}

func TestWhatCannotBeCollectedIsNamed(t *testing.T) {
	program, linker, libraries := mount(t)
	triplet := filepath.Base(filepath.Dir(libraries[0]))
	alien := []byte(host(t, libraries[0]))
	alien[18], alien[19] = byte(elf.EM_S390), 0 // e_machine
	for _, test := range []struct {
		name   string
		files  map[string]string
		wanted string
		says   string
	}{
		{"a program that no package has", nil, "mkfs.zfs", "mkfs.zfs: no package has such a program"},
		{"a file that no package has", nil, "/etc/none", "/etc/none: file does not exist"},
		{"a script", map[string]string{"bin/script": "#!/bin/sh"}, "script", "script: neither a program nor a library"},
		{"a link in a circle", map[string]string{"etc/a": "-> b", "etc/b": "-> a"}, "/etc/a", "too many links"},
		{"a linker that is missing", map[string]string{"bin/mount": host(t, program)}, "mount", linker},
		{"a library that is missing", map[string]string{"bin/mount": host(t, program), linker[1:]: host(t, linker)}, "mount", "no package has it"},
		{"a library for another machine", map[string]string{
			"bin/mount": host(t, program), linker[1:]: host(t, linker), "lib/" + triplet + "/" + filepath.Base(libraries[0]): string(alien),
		}, "mount", "it is for EM_S390"},
	} {
		t.Run(test.name, func(t *testing.T) {
			debs := t.TempDir()
			files := maps.Clone(test.files)
			if files == nil {
				files = map[string]string{}
			}
			deb(t, debs, "some", files)
			err := run(t.Context(), []string{debs, t.TempDir(), test.wanted})
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %s", err, test.says)
			}
		})
	}
	if err := run(t.Context(), []string{t.TempDir(), t.TempDir(), "mount"}); err == nil || !strings.Contains(err.Error(), "no packages in") {
		t.Errorf("an empty directory: %v", err)
	}
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "half.deb"), bytes.Repeat([]byte("!"), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), []string{broken, t.TempDir(), "mount"}); err == nil || !strings.Contains(err.Error(), "half.deb") {
		t.Errorf("a broken package: %v", err)
	}
	if err := run(t.Context(), []string{broken}); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a wrong command line: %v", err)
	}
}
