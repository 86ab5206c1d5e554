package configdrive

import (
	"encoding/binary"
	"time"
)

// both32 is a number in both byte orders, as ISO9660 has nearly all of them.
func both32(v uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, v), v)
}

func both16(v uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, v), v)
}

// shortTime is the time stamp of directory records and Rock Ridge, in UTC.
func shortTime(t time.Time) []byte {
	t = t.UTC()
	return []byte{
		byte(t.Year() - 1900), byte(t.Month()), byte(t.Day()),
		byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0,
	}
}

// flagDirectory marks a directory in a record.
const flagDirectory = 2

// record is one entry of a directory: n under the identifier id, with extra bytes
// for a system to use (Rock Ridge).
func (t tree) record(n *node, id, extra []byte, stamp time.Time) []byte {
	var flags byte
	if n.isDir {
		flags = flagDirectory
	}
	b := []byte{0, 0}
	b = append(b, both32(n.extent[t])...)
	b = append(b, both32(n.size[t])...)
	b = append(b, shortTime(stamp)...)
	b = append(b, flags, 0, 0)
	b = append(b, both16(1)...)
	b = append(b, byte(len(id)))
	b = padEven(append(b, id...))
	b = padEven(append(b, extra...))
	b[0] = byte(len(b))
	return b
}

func padEven(b []byte) []byte {
	if len(b)%2 != 0 {
		b = append(b, 0)
	}
	return b
}

// directory is the content of directory n: itself, its parent, its entries. No
// record crosses the end of a block.
func (t tree) directory(n *node, stamp time.Time, continuation uint32) []byte {
	entries := [][]byte{
		t.record(n, []byte{0}, t.extra(n, self, stamp, continuation), stamp),
		t.record(n.parent, []byte{1}, t.extra(n.parent, parent, stamp, continuation), stamp),
	}
	for _, c := range t.sorted(n) {
		entries = append(entries, t.record(c, t.identifier(c), t.extra(c, named, stamp, continuation), stamp))
	}
	var b []byte
	for _, entry := range entries {
		if left := blockSize - len(b)%blockSize; len(entry) > left {
			b = append(b, make([]byte, left)...)
		}
		b = append(b, entry...)
	}
	return padBlock(b)
}

func padBlock(b []byte) []byte {
	return append(b, make([]byte, (blockSize-len(b)%blockSize)%blockSize)...)
}

// pathTable lists all directories with the number of each one's parent.
func (t tree) pathTable(dirs []*node, order binary.AppendByteOrder) []byte {
	number := map[*node]uint16{}
	var b []byte
	for i, dir := range dirs {
		number[dir] = uint16(i + 1)
		id := t.identifier(dir)
		b = append(b, byte(len(id)), 0)
		b = order.AppendUint32(b, dir.extent[t])
		b = order.AppendUint16(b, number[dir.parent])
		b = padEven(append(b, id...))
	}
	return b
}
