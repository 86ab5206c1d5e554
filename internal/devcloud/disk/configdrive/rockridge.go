package configdrive

import "time"

// role is what a record stands for in its directory.
type role int

const (
	self role = iota
	parent
	named
)

// File types and permissions as Rock Ridge writes them.
const (
	modeDirectory = 0o040555
	modeFile      = 0o100444
)

// extra returns the Rock Ridge entries of a record: permissions, time stamps and
// the true name; in the root's own record also the announcement of Rock Ridge,
// whose text lies in the block continuation because it is too long for a record.
func (t tree) extra(n *node, as role, stamp time.Time, continuation uint32) []byte {
	if t == joliet {
		return nil
	}
	var b []byte
	announce := as == self && n.parent == n
	if announce {
		b = append(b, entry("SP", []byte{0xBE, 0xEF, 0})...)
	}
	b = append(b, permissions(n)...)
	b = append(b, timeStamps(stamp)...)
	if as == named {
		b = append(b, entry("NM", append([]byte{0}, n.name...))...)
	}
	if announce {
		where := append(both32(continuation), both32(0)...)
		b = append(b, entry("CE", append(where, both32(uint32(len(announcement())))...))...)
	}
	return b
}

// entry is a system use entry of version 1.
func entry(signature string, data []byte) []byte {
	return append([]byte{signature[0], signature[1], byte(4 + len(data)), 1}, data...)
}

func permissions(n *node) []byte {
	mode, links := uint32(modeFile), uint32(1)
	if n.isDir {
		mode, links = modeDirectory, 2
		for _, c := range n.children {
			if c.isDir {
				links++
			}
		}
	}
	data := append(both32(mode), both32(links)...)
	data = append(data, both32(0)...) // owner
	return entry("PX", append(data, both32(0)...))
}

func timeStamps(stamp time.Time) []byte {
	const modifyAccessAttributes = 0x0E
	data := []byte{modifyAccessAttributes}
	for range 3 {
		data = append(data, shortTime(stamp)...)
	}
	return entry("TF", data)
}

// announcement is the entry that says which extension is in use.
func announcement() []byte {
	const (
		id          = "RRIP_1991A"
		description = "THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS"
		source      = "SEE THE ROCK RIDGE INTERCHANGE PROTOCOL SPECIFICATION"
	)
	data := []byte{byte(len(id)), byte(len(description)), byte(len(source)), 1}
	return entry("ER", append(data, id+description+source...))
}
