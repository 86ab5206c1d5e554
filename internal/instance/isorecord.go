package instance

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

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
