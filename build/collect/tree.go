package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// bundle is the file that ca-certificates makes when it is installed: all the
// certificates that it brings, one after another.
const (
	bundle       = "/etc/ssl/certs/ca-certificates.crt"
	certificates = "/usr/share/ca-certificates/"
)

// pkg is a Debian package.
type pkg struct {
	name   string
	status string // its entry in dpkg's database
}

// entry is a file of a package, or a symbolic link.
type entry struct {
	pkg      *pkg
	mode     fs.FileMode
	modified time.Time
	body     []byte
	link     string
}

// tree is what the packages bring, by path.
type tree map[string]*entry

// readPackages reads all packages of a directory.
func readPackages(ctx context.Context, dir string) (tree, error) {
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err == nil && len(debs) == 0 {
		err = fmt.Errorf("no packages in %s", dir)
	}
	if err != nil {
		return nil, err
	}
	t := tree{}
	for _, deb := range debs {
		if err := t.readPackage(ctx, deb); err != nil {
			return nil, fmt.Errorf("%s: %w", deb, err)
		}
	}
	t.makeBundle()
	return t, nil
}

func (t tree) readPackage(ctx context.Context, deb string) error {
	fields, err := exec.CommandContext(ctx, "dpkg-deb", "--field", deb).Output() // #nosec G702 -- an argument, not a command
	if err != nil {
		return fmt.Errorf("dpkg-deb --field: %w", err)
	}
	first, rest, _ := strings.Cut(string(fields), "\n")
	name, ok := strings.CutPrefix(first, "Package: ")
	if !ok {
		return fmt.Errorf("it begins with %q", first)
	}
	p := &pkg{name: name, status: first + "\nStatus: install ok installed\n" + rest}

	unpack := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb) // #nosec G702 -- an argument, not a command
	content, err := unpack.StdoutPipe()
	if err != nil {
		return err
	}
	if err := unpack.Start(); err != nil {
		return err
	}
	err = t.readFiles(p, content)
	_, drained := io.Copy(io.Discard, content)
	return errors.Join(err, drained, unpack.Wait())
}

// readFiles adds the files of a package, as a tar archive.
func (t tree) readFiles(p *pkg, content io.Reader) error {
	archive := tar.NewReader(content)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := place(header.Name)
		if !useful(name) {
			continue
		}
		e := &entry{pkg: p, mode: header.FileInfo().Mode().Perm(), modified: header.ModTime}
		switch header.Typeflag {
		case tar.TypeReg:
			if e.body, err = io.ReadAll(archive); err != nil {
				return err
			}
		case tar.TypeSymlink:
			e.link = header.Linkname
		case tar.TypeLink:
			e.link = "/" + header.Linkname // from the top of the archive
		default:
			continue
		}
		t[name] = e
	}
}

// useful tells whether a file may be wanted: the rest, such as the modules of
// Python, isn't worth the memory.
func useful(name string) bool {
	for _, dir := range []string{"/usr/bin/", "/usr/sbin/", "/etc/", certificates, "/usr/share/doc/"} {
		if strings.HasPrefix(name, dir) {
			return true
		}
	}
	return strings.HasPrefix(name, "/usr/lib") && strings.Contains(path.Base(name), ".so")
}

// place returns a path as it is where /bin, /sbin and /lib are links into /usr,
// as on every Debian. Some packages know their files by the older path.
func place(name string) string {
	name = path.Join("/", name)
	if regexp.MustCompile(`^/(s?bin|lib(32|64|x32)?)/`).MatchString(name) {
		return "/usr" + name
	}
	return name
}

// makeBundle makes what the package makes when it is installed.
func (t tree) makeBundle() {
	var names []string
	for name := range t {
		if strings.HasPrefix(name, certificates) && strings.HasSuffix(name, ".crt") {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	all := &entry{pkg: t[names[0]].pkg, mode: 0o644, modified: t[names[0]].modified}
	for _, name := range names {
		all.body = append(all.body, t[name].body...)
	}
	t[bundle] = all
}

// resolve returns the file at a path, links followed.
func (t tree) resolve(name string) (*entry, error) {
	const limit = 40 // links, as in the kernel
	at := place(name)
	for range limit {
		if e := t[at]; e != nil && e.link == "" {
			return e, nil
		}
		link := ""
		for dir := at; dir != "/"; dir = path.Dir(dir) {
			if e := t[dir]; e != nil {
				link = dir
				break
			}
		}
		if link == "" {
			return nil, fmt.Errorf("%s: %w in any of the packages", name, fs.ErrNotExist)
		}
		target := t[link].link
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(link), target)
		}
		at = place(path.Join(target, strings.TrimPrefix(at, link)))
	}
	return nil, fmt.Errorf("%s: too many links", name)
}
