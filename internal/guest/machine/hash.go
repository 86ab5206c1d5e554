package machine

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// hash identifies the content of an image.
func (m *Machine) hash(name string) (string, error) {
	m.mu.Lock()
	d, known := m.disks[name]
	m.mu.Unlock()
	if !known {
		return "", fmt.Errorf("hash: there is no image %s", name)
	}
	return hashOf(d.file)
}

// HashBootDisk identifies the content of the boot disk.
func (m *Machine) HashBootDisk() (string, error) { return hashOf(m.boot) }

// hashOf returns the SHA-256 of a file's size and of all its blocks that aren't
// zero, each with its offset. Holes, which are most of a disk, aren't read.
func hashOf(f *os.File) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	if err := binary.Write(sum, binary.LittleEndian, info.Size()); err != nil {
		return "", err
	}
	for at := int64(0); at < info.Size(); {
		begin, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // nothing but a hole is left
		}
		if err != nil {
			return "", fmt.Errorf("seek: %w", err)
		}
		end, err := unix.Seek(int(f.Fd()), begin, unix.SEEK_HOLE)
		if err != nil {
			return "", fmt.Errorf("seek: %w", err)
		}
		const block = 4 << 10
		begin -= begin % block
		if err := hashExtent(sum, io.NewSectionReader(f, begin, end-begin), begin); err != nil {
			return "", err
		}
		at = end
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// hashExtent adds the blocks of an extent that begins at an offset.
func hashExtent(sum hash.Hash, extent io.Reader, offset int64) error {
	var block, zero [4 << 10]byte
	for {
		n, err := io.ReadFull(extent, block[:])
		if n > 0 && !bytes.Equal(block[:n], zero[:n]) {
			if err := binary.Write(sum, binary.LittleEndian, offset); err != nil {
				return err
			}
			_, _ = sum.Write(block[:n]) // never fails
		}
		offset += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
