package instance

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

// A reader of ISO 9660 that can do one thing: return a small file by its path.
// Everything that the image says about itself is bounded before it is believed: a label is
// no proof. The reader of github.com/diskfs/go-diskfs 1.9.4, which writes the development
// cloud's drives, isn't for this: it allocates as much as the image asks for, fuzzing it
// ended the process, and it finds nothing below the first directory of a Joliet tree.

const (
	sectorSize     = 2048
	firstVolume    = 16 // sector of the first volume descriptor
	maxVolumes     = 32 // descriptors looked at
	maxDirectory   = 1 << 20
	recordHeader   = 33
	flagDirectory  = 1 << 1
	flagMoreExtent = 1 << 7
)

// errNotISO: the image is no ISO 9660 filesystem.
var errNotISO = errors.New("not an ISO 9660 filesystem")

// extent is a file or a directory on the image.
type extent struct {
	offset int64
	size   int64
	flags  byte
}

// tree is one of the directory trees of an image: the primary one, whose names
// are abridged but for Rock Ridge, or Joliet's with names in UCS-2.
type tree struct {
	root   extent
	block  int64
	joliet bool
}

// readISO returns the file at path, which is written with slashes. It fails
// with errNotISO where there is no such filesystem.
func readISO(r io.ReaderAt, path string) ([]byte, error) {
	trees, err := readVolumes(r)
	for _, t := range trees {
		var file extent
		if file, err = t.lookup(r, path); err != nil {
			continue
		}
		switch {
		case file.flags&flagDirectory != 0:
			return nil, fmt.Errorf("%s is a directory", path)
		case file.flags&flagMoreExtent != 0 || file.size > maxMetadata:
			return nil, fmt.Errorf("%s is %w", path, errTooLarge)
		}
		return readExtent(r, file)
	}
	return nil, err
}

// readVolumes returns the directory trees that the volume descriptors name, at
// least one.
func readVolumes(r io.ReaderAt) ([]tree, error) {
	var trees []tree
	sector := make([]byte, sectorSize)
	for i := range int64(maxVolumes) {
		_, err := r.ReadAt(sector, (firstVolume+i)*sectorSize)
		switch {
		case i == 0 && (errors.Is(err, io.EOF) || err == nil && string(sector[1:6]) != "CD001"):
			return nil, errNotISO
		case err != nil:
			return nil, fmt.Errorf("volume descriptor %d: %w", i, err)
		}
		if string(sector[1:6]) != "CD001" || sector[0] == 255 {
			break
		}
		if t, ok := parseVolume(sector); ok {
			trees = append(trees, t)
		}
	}
	if len(trees) == 0 {
		return nil, errors.New("ISO 9660 without a usable volume descriptor")
	}
	return trees, nil
}

// parseVolume reads one volume descriptor; ok is false for one that names no
// tree.
func parseVolume(d []byte) (t tree, ok bool) {
	t.block = int64(binary.LittleEndian.Uint16(d[128:]))
	t.joliet = d[0] == 2
	escape := string(d[88:91])
	switch {
	case d[0] != 1 && !t.joliet,
		t.joliet && escape != "%/@" && escape != "%/C" && escape != "%/E",
		t.block != 512 && t.block != 1024 && t.block != 2048:
		return tree{}, false
	}
	rec, ok := parseRecord(d[156:190], t.block)
	t.root = rec.extent
	return t, ok
}

func (t tree) lookup(r io.ReaderAt, path string) (extent, error) {
	at := t.root
	for name := range strings.SplitSeq(path, "/") {
		if at.flags&flagDirectory == 0 {
			return extent{}, fmt.Errorf("no directory holds %s of %s", name, path)
		}
		next, found, err := t.find(r, at, name)
		if err != nil {
			return extent{}, fmt.Errorf("%s: %w", path, err)
		}
		if !found {
			return extent{}, fmt.Errorf("it has no %s", path)
		}
		at = next
	}
	return at, nil
}

// find looks for name in one directory. A Rock Ridge name goes before the
// abridged one of the same record.
func (t tree) find(r io.ReaderAt, dir extent, name string) (extent, bool, error) {
	if dir.size > maxDirectory {
		return extent{}, false, fmt.Errorf("a directory of %d bytes", dir.size)
	}
	data, err := readExtent(r, dir)
	if err != nil {
		return extent{}, false, err
	}
	for pos := 0; pos < len(data); {
		n := int(data[pos])
		if n == 0 { // records don't cross sectors: the rest of this one is empty
			pos += sectorSize - pos%sectorSize
			continue
		}
		if n > len(data)-pos {
			return extent{}, false, errors.New("a directory record that is cut off")
		}
		rec, ok := parseRecord(data[pos:pos+n], t.block)
		if !ok {
			return extent{}, false, errors.New("a directory record that makes no sense")
		}
		if rec.named(name, t.joliet) {
			return rec.extent, true, nil
		}
		pos += n
	}
	return extent{}, false, nil
}

func readExtent(r io.ReaderAt, e extent) ([]byte, error) {
	data := make([]byte, e.size)
	if _, err := r.ReadAt(data, e.offset); err != nil && e.size > 0 {
		return nil, fmt.Errorf("read %d bytes at %d: %w", e.size, e.offset, err)
	}
	return data, nil
}

// record is a directory record of ISO 9660.
type record struct {
	extent
	// name is the identifier as it stands on the image.
	name []byte
	// system is the system use area, where Rock Ridge keeps the real name.
	system []byte
}

// parseRecord reads the record that fills b; ok is false where it can't be one.
func parseRecord(b []byte, block int64) (rec record, ok bool) {
	if len(b) < recordHeader+1 {
		return record{}, false
	}
	length := int(b[32])
	if length == 0 || recordHeader+length > len(b) {
		return record{}, false
	}
	first := int64(binary.LittleEndian.Uint32(b[2:])) + int64(b[1])
	rec.extent = extent{
		offset: first * block,
		size:   int64(binary.LittleEndian.Uint32(b[10:])),
		flags:  b[25],
	}
	rec.name = b[recordHeader : recordHeader+length]
	end := recordHeader + length
	end += (length + 1) % 2 // a pad byte makes the length even
	rec.system = b[min(end, len(b)):]
	return rec, true
}

// named reports whether the record is the one of that name.
func (r record) named(name string, joliet bool) bool {
	if len(r.name) == 1 && r.name[0] <= 1 {
		return false // the directory itself and its parent
	}
	if joliet {
		return trimVersion(ucs2(r.name)) == name
	}
	if rr, ok := rockRidgeName(r.system); ok {
		return rr == name
	}
	return strings.EqualFold(trimVersion(string(r.name)), name)
}

// trimVersion cuts the version number, and the dot of a name without extension.
func trimVersion(name string) string {
	name, _, _ = strings.Cut(name, ";")
	return strings.TrimSuffix(name, ".")
}

func ucs2(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.BigEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}

// rockRidgeName joins the NM entries of a system use area. A name that goes on
// in another sector isn't followed: those of the config drive are short.
func rockRidgeName(system []byte) (string, bool) {
	var name strings.Builder
	found := false
	for len(system) >= 4 {
		n := int(system[2])
		if n < 4 || n > len(system) {
			break
		}
		if system[0] == 'N' && system[1] == 'M' && n > 5 && system[4]&^1 == 0 {
			found = true
			name.Write(system[5:n])
		}
		system = system[n:]
	}
	return name.String(), found
}
