package configdrive

import (
	"encoding/binary"
	"time"
)

const (
	blockSize   = 2048 // bytes; that of every ISO9660 image
	firstVolume = 16   // the block of the first volume descriptor; those before are the system's
)

// Image returns an ISO9660 image with these files: path → content. All files and
// directories bear the time stamp.
func Image(files map[string][]byte, stamp time.Time) ([]byte, error) {
	root, err := buildTree(files)
	if err != nil {
		return nil, err
	}
	m := master{root: root, stamp: stamp, next: firstVolume + 3} // two descriptors and the terminator
	m.layOut()
	return m.write(), nil
}

// master makes an image: it first gives everything its place, then writes it.
type master struct {
	root         *node
	stamp        time.Time
	next         uint32 // the first free block
	continuation uint32
	dirs         [2][]*node
	tables       [2][2]uint32 // path tables: tree, little and big endian
	tableSize    [2]int
	image        []byte
}

// reserve gives size bytes a place of whole blocks.
func (m *master) reserve(size int) (block uint32) {
	block = m.next
	m.next += uint32((size + blockSize - 1) / blockSize)
	return block
}

func (m *master) layOut() {
	for t := primary; t <= joliet; t++ {
		m.dirs[t] = t.directories(m.root)
		m.tableSize[t] = len(t.pathTable(m.dirs[t], binary.LittleEndian))
		m.tables[t] = [2]uint32{m.reserve(m.tableSize[t]), m.reserve(m.tableSize[t])}
	}
	m.continuation = m.reserve(len(announcement()))
	for t := primary; t <= joliet; t++ {
		for _, dir := range m.dirs[t] {
			size := len(t.directory(dir, m.stamp, 0)) // known before the places are
			dir.extent[t], dir.size[t] = m.reserve(size), uint32(size)
		}
	}
	for _, dir := range m.dirs[primary] {
		for _, file := range primary.sorted(dir) {
			if !file.isDir {
				block, size := m.reserve(len(file.data)), uint32(len(file.data))
				file.extent, file.size = [2]uint32{block, block}, [2]uint32{size, size}
			}
		}
	}
}

func (m *master) write() []byte {
	m.image = make([]byte, int(m.next)*blockSize)
	m.put(firstVolume, m.descriptor(primary))
	m.put(firstVolume+1, m.descriptor(joliet))
	m.put(firstVolume+2, []byte("\xffCD001\x01")) // no more descriptors
	m.put(m.continuation, announcement())
	for t := primary; t <= joliet; t++ {
		m.put(m.tables[t][0], t.pathTable(m.dirs[t], binary.LittleEndian))
		m.put(m.tables[t][1], t.pathTable(m.dirs[t], binary.BigEndian))
		for _, dir := range m.dirs[t] {
			m.put(dir.extent[t], t.directory(dir, m.stamp, m.continuation))
			for _, c := range dir.children {
				m.put(c.extent[t], c.data)
			}
		}
	}
	return m.image
}

func (m *master) put(block uint32, data []byte) { copy(m.image[int(block)*blockSize:], data) }
