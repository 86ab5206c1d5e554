package configdrive

import (
	"encoding/binary"
	"time"
)

// descriptor describes the image to those who read the tree t.
func (m *master) descriptor(t tree) []byte {
	b := make([]byte, blockSize)
	b[0] = 1
	copy(b[1:], "CD001\x01")
	if t == joliet {
		b[0] = 2
		copy(b[88:], "%/E") // the escape sequence that announces UCS-2
	}
	text := func(from, to int, s string) { copy(b[from:to], t.padded(s, to-from)) }
	text(8, 40, "LINUX")
	text(40, 72, Label)
	copy(b[80:], both32(m.next))
	copy(b[120:], both16(1)) // one volume in the set
	copy(b[124:], both16(1)) // of which this is the first
	copy(b[128:], both16(blockSize))
	copy(b[132:], both32(uint32(m.tableSize[t])))
	binary.LittleEndian.PutUint32(b[140:], m.tables[t][0])
	binary.BigEndian.PutUint32(b[148:], m.tables[t][1])
	copy(b[156:190], t.record(m.root, []byte{0}, nil, m.stamp))
	text(190, 318, "") // volume set
	text(318, 446, "") // publisher
	text(446, 574, "") // preparer
	text(574, 702, "") // application
	text(702, 739, "") // copyright file
	text(739, 776, "") // abstract file
	text(776, 813, "") // bibliography file
	copy(b[813:], longTime(m.stamp))
	copy(b[830:], longTime(m.stamp))
	copy(b[847:], noTime())
	copy(b[864:], noTime())
	b[881] = 1 // version of the structure
	return b
}

// padded fills a text with blanks up to size bytes.
func (t tree) padded(s string, size int) []byte {
	if t == primary {
		for len(s) < size {
			s += " "
		}
		return []byte(s)
	}
	for 2*len(s)+1 < size {
		s += " "
	}
	return ucs2(s)
}

// longTime is the time stamp of descriptors: digits down to hundredths of a
// second, then the offset from UTC.
func longTime(t time.Time) []byte {
	return append([]byte(t.UTC().Format("20060102150405")+"00"), 0)
}

// noTime is a time stamp that is not given.
func noTime() []byte { return append([]byte("0000000000000000"), 0) }
