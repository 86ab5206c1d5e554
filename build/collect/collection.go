package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// collection is what an image gets, by path.
type collection struct {
	tree    tree
	files   map[string]*entry
	machine elf.Machine // of all programs
}

// add adds something that is wanted, with what it needs.
func (c *collection) add(wanted string) error {
	switch {
	case strings.HasPrefix(wanted, "/"):
		e, err := c.tree.resolve(wanted)
		if err != nil {
			return err
		}
		return c.put(wanted, e)
	case strings.Contains(wanted, ".so."):
		return c.addLibrary(wanted)
	}
	for _, dir := range []string{"/usr/sbin/", "/usr/bin/"} {
		e, err := c.tree.resolve(dir + wanted)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		return c.addProgram(dir+wanted, e)
	}
	return errors.New("no package has such a program")
}

// addProgram adds a program, its dynamic linker and its libraries.
func (c *collection) addProgram(name string, e *entry) error {
	program, err := c.open(e)
	if err != nil {
		return err
	}
	if err := c.put(name, e); err != nil {
		return err
	}
	linker, err := interpreter(program)
	if err != nil || linker == "" {
		return err
	}
	found, err := c.tree.resolve(linker)
	if err != nil {
		return err
	}
	// The kernel wants it at that very path.
	if err := c.put(linker, found); err != nil {
		return err
	}
	return c.addLibraries(program)
}

func (c *collection) addLibraries(of *elf.File) error {
	names, err := of.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.addLibrary(name); err != nil {
			return err
		}
	}
	return nil
}

// addLibrary adds a library and those that it needs itself, in the place where
// the dynamic linker looks first.
func (c *collection) addLibrary(name string) error {
	if strings.HasPrefix(name, "ld") {
		return nil // the dynamic linker, which programs bring
	}
	var at string
	for candidate := range c.tree {
		// There are packages of one architecture only, so there is one such directory.
		if ok, err := path.Match("/usr/lib/*-linux-gnu*/"+name, candidate); err == nil && ok {
			at = candidate
		}
	}
	if at == "" {
		return fmt.Errorf("library %s: no package has it", name)
	}
	if c.files[at] != nil {
		return nil
	}
	e, err := c.tree.resolve(at)
	if err != nil {
		return err
	}
	library, err := c.open(e)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if err := c.put(at, e); err != nil {
		return err
	}
	return c.addLibraries(library)
}

// open reads a program or library, which must be for the same machine as all
// others.
func (c *collection) open(e *entry) (*elf.File, error) {
	file, err := elf.NewFile(bytes.NewReader(e.body))
	if err != nil {
		return nil, fmt.Errorf("neither a program nor a library: %w", err)
	}
	if c.machine == elf.EM_NONE {
		c.machine = file.Machine
	}
	if file.Machine != c.machine {
		return nil, fmt.Errorf("it is for %v, what was collected before is for %v", file.Machine, c.machine)
	}
	return file, nil
}

// interpreter returns the path of a program's dynamic linker, nothing for a
// static one.
func interpreter(program *elf.File) (string, error) {
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			name, err := io.ReadAll(segment.Open())
			return strings.TrimRight(string(name), "\x00"), err
		}
	}
	return "", nil
}

// put takes a file to a path, along with the papers of its package.
func (c *collection) put(name string, e *entry) error {
	c.files[name] = e
	status := "/var/lib/dpkg/status.d/" + e.pkg.name
	if c.files[status] != nil {
		return nil
	}
	papers := "/usr/share/doc/" + e.pkg.name + "/copyright"
	copyright, err := c.tree.resolve(papers)
	if err != nil {
		return err
	}
	c.files[papers] = copyright
	c.files[status] = &entry{pkg: e.pkg, mode: 0o644, modified: copyright.modified, body: []byte(e.pkg.status)}
	return nil
}

// write writes everything below a directory.
func (c *collection) write(root string) error {
	for name, e := range c.files {
		at := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(at), 0o755) // #nosec G301 -- the directories of an image
		if err == nil {
			err = os.WriteFile(at, e.body, 0o600)
		}
		if err == nil {
			err = errors.Join(os.Chmod(at, e.mode), os.Chtimes(at, e.modified, e.modified))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
