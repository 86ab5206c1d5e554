package image

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// list reads an archive again: the mode and the content of everything in it.
func list(t *testing.T, data []byte) string {
	t.Helper()
	var lines []string
	for at := 0; ; {
		var magic, inode, mode, uid, gid, links, changed, size, major, minor, rmajor, rminor, length, check int
		n, err := fmt.Sscanf(string(data[at:at+110]), "%6x%8x%8x%8x%8x%8x%8x%8x%8x%8x%8x%8x%8x%8x",
			&magic, &inode, &mode, &uid, &gid, &links, &changed, &size, &major, &minor, &rmajor, &rminor, &length, &check)
		if err != nil || magic != 0x070701 {
			t.Fatalf("header at %d: %d fields, %v", at, n, err)
		}
		at += 110
		name := string(data[at : at+length-1])
		at = (at + length + 3) / 4 * 4
		content := string(data[at : at+size])
		at = (at + size + 3) / 4 * 4
		if name == "TRAILER!!!" {
			return strings.Join(lines, "\n")
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%06o %s %s", mode, name, content)))
	}
}

func TestAnArchiveHoldsWhatWasAdded(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "share", "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"program": "#!", "share/deep/one": "1", "share/two": "22222"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	a := newArchive(&out)
	for _, add := range []error{
		a.copy(filepath.Join(dir, "program"), "/usr/bin/program"),
		a.copy(filepath.Join(dir, "share/two"), "/usr/bin/program"), // the first one stays
		a.link("/bin", "usr/bin"),
		a.tree(dir, "/share"),
		a.close(),
	} {
		if add != nil {
			t.Fatal(add)
		}
	}
	want := strings.Join([]string{
		"040755 usr", "040755 usr/bin", "100600 usr/bin/program #!", "120777 bin usr/bin",
		"040755 share", "040755 share/deep", "100600 share/deep/one 1", "100600 share/two 22222",
	}, "\n")
	if got := list(t, out.Bytes()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestADirectoryIsNoFile(t *testing.T) {
	if err := newArchive(&bytes.Buffer{}).copy(t.TempDir(), "/file"); err == nil {
		t.Error("a directory was taken for a file")
	}
}
