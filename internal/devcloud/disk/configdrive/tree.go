package configdrive

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"
)

// node is a file or a directory of the image.
type node struct {
	name     string
	parent   *node // the root is its own
	children []*node
	isDir    bool
	data     []byte

	// Where the content begins (in blocks) and its length (in bytes), for each
	// tree: a file is at one place for both, a directory is written twice.
	extent, size [2]uint32
}

// The two trees of an image.
type tree int

const (
	primary tree = iota
	joliet
)

// buildTree makes the directories that the paths call for.
func buildTree(files map[string][]byte) (*node, error) {
	root := &node{isDir: true}
	root.parent = root
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if !fs.ValidPath(path) || path == "." {
			return nil, fmt.Errorf("%q is no path in an image", path)
		}
		parts := strings.Split(path, "/")
		dir := root
		for _, part := range parts[:len(parts)-1] {
			next, err := dir.child(part, true)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", path, err)
			}
			dir = next
		}
		file, err := dir.child(parts[len(parts)-1], false)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", path, err)
		}
		file.data = files[path]
	}
	return root, nil
}

// child returns the entry of that name, which it adds if it is missing.
func (n *node) child(name string, isDir bool) (*node, error) {
	if ok, err := regexp.MatchString(`^[A-Za-z0-9._-]{1,30}$`, name); err != nil || !ok {
		return nil, fmt.Errorf("name %q is not 1 to 30 letters, digits, '.', '_' and '-'", name)
	}
	added := &node{name: name, parent: n, isDir: isDir}
	for _, c := range n.children {
		if c.name == name && c.isDir && isDir {
			return c, nil
		}
		if c.name == name || bytes.Equal(primary.identifier(c), primary.identifier(added)) {
			return nil, fmt.Errorf("name %q can not be told from %q in the same directory", name, c.name)
		}
	}
	n.children = append(n.children, added)
	return added, nil
}

// identifier is the name of n in its directory record.
func (t tree) identifier(n *node) []byte {
	switch {
	case n.parent == n:
		return []byte{0}
	case t == joliet:
		return ucs2(n.name)
	}
	id := strings.ReplaceAll(n.name, "-", "_")
	if !n.isDir {
		id += ";1"
	}
	return []byte(id)
}

// sorted returns the entries of a directory in the order of their identifiers.
func (t tree) sorted(n *node) []*node {
	return slices.SortedFunc(slices.Values(n.children), func(a, b *node) int {
		return bytes.Compare(t.identifier(a), t.identifier(b))
	})
}

// directories returns all directories as the path table wants them: by depth,
// then by parent, then by identifier.
func (t tree) directories(root *node) []*node {
	dirs := []*node{root}
	for i := 0; i < len(dirs); i++ {
		for _, c := range t.sorted(dirs[i]) {
			if c.isDir {
				dirs = append(dirs, c)
			}
		}
	}
	return dirs
}

// ucs2 is the encoding of Joliet: big endian, two bytes each.
func ucs2(s string) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		b = append(b, byte(unit>>8), byte(unit))
	}
	return b
}
