package image

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// archive writes a cpio archive in the form that the kernel unpacks ("newc").
type archive struct {
	w     io.Writer
	inode int
	there map[string]bool
}

func newArchive(w io.Writer) *archive {
	return &archive{w: w, there: map[string]bool{"/": true}}
}

// Types of what is in an archive, as in st_mode.
const (
	typeDir  = 0o040000
	typeFile = 0o100000
	typeLink = 0o120000
)

// dir adds a directory, and its parents, unless it is there.
func (a *archive) dir(name string) error {
	if a.there[name] {
		return nil
	}
	if err := a.dir(path.Dir(name)); err != nil {
		return err
	}
	return a.entry(name, typeDir|0o755, 0, strings.NewReader(""))
}

// link adds a symbolic link.
func (a *archive) link(name, target string) error {
	if err := a.dir(path.Dir(name)); err != nil {
		return err
	}
	return a.entry(name, typeLink|0o777, int64(len(target)), strings.NewReader(target))
}

// copy adds the file at source, following links, under a name, unless there is
// one already.
func (a *archive) copy(source, name string) error {
	if a.there[name] {
		return nil
	}
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", source)
	}
	if err := a.dir(path.Dir(name)); err != nil {
		return err
	}
	return a.entry(name, typeFile|int(info.Mode().Perm()), info.Size(), f)
}

// tree adds every regular file below root, under its path below root.
func (a *archive) tree(root, below string) error {
	return filepath.WalkDir(filepath.Join(root, below), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return a.copy(p, strings.TrimPrefix(p, root))
	})
}

// close adds the end mark.
func (a *archive) close() error {
	return a.entry("/TRAILER!!!", 0, 0, strings.NewReader(""))
}

// entry writes a header, the name and the content, each padded to four bytes.
func (a *archive) entry(name string, mode int, size int64, content io.Reader) error {
	a.there[name] = true
	a.inode++
	name = strings.TrimPrefix(name, "/")
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0, name)
	if _, err := io.WriteString(a.w, header+padding(len(header))); err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	n, err := io.CopyN(a.w, content, size)
	if err != nil {
		return fmt.Errorf("archive %s: %d of %d bytes: %w", name, n, size, err)
	}
	if _, err := io.WriteString(a.w, padding(int(size%4))); err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	return nil
}

// padding returns what is missing from n bytes to a multiple of four.
func padding(n int) string {
	return "\x00\x00\x00"[:(4-n%4)%4]
}
