package luks

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Sizes in bytes, of LUKS2's on-disk format.
const (
	binarySize    = 4 << 10   // of the part of a header that isn't JSON
	headerSize    = 16 << 20  // of all that cryptsetup puts before the data
	largestHeader = 4 << 20   // of one of the two copies
	largestOffset = 256 << 20 // before which the data must begin
)

// Header is what the header of an encrypted disk says.
type Header struct {
	// UUID of LUKS, which a clone has in common with its origin.
	UUID string
	// Offset is the first byte of the data.
	Offset int64
	// SectorSize is how many bytes are encrypted as a unit.
	SectorSize int64
}

// ReadHeader reads the header of an encrypted disk. It fails with ErrNotLUKS
// when there is none, or one of another version or making than Format's.
func ReadHeader(path string) (Header, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return Header{}, fmt.Errorf("read the LUKS header: %w", err)
	}
	h, err := parseHeader(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return Header{}, fmt.Errorf("read the LUKS header of %s: %w", path, err)
	}
	return h, nil
}

// Mapped returns how many bytes the mapping of a disk of that size has.
func (h Header) Mapped(disk int64) int64 {
	return max(0, (disk-h.Offset)/h.SectorSize*h.SectorSize)
}

// parseHeader reads the first copy of a header. Whether it is intact is left to
// cryptsetup, which checks before it opens. What it would cost to open is not.
func parseHeader(r io.ReaderAt) (Header, error) {
	head := make([]byte, binarySize)
	if _, err := r.ReadAt(head, 0); err != nil {
		return Header{}, err
	}
	if !bytes.HasPrefix(head, []byte("LUKS\xba\xbe")) {
		return Header{}, fmt.Errorf("%w: there is no LUKS header", ErrNotLUKS)
	}
	if version := binary.BigEndian.Uint16(head[6:]); version != 2 {
		return Header{}, fmt.Errorf("%w: it is LUKS%d", ErrNotLUKS, version)
	}
	size := binary.BigEndian.Uint64(head[8:])
	if size <= binarySize || size > largestHeader {
		return Header{}, fmt.Errorf("%w: a header of %d bytes", ErrNotLUKS, size)
	}
	text := make([]byte, size-binarySize)
	if _, err := r.ReadAt(text, binarySize); err != nil {
		return Header{}, err
	}
	text, _, _ = bytes.Cut(text, []byte{0})
	h, err := parseJSON(text)
	h.UUID = unix.ByteSliceToString(head[168:208])
	if err = errors.Join(err, checkCost(text)); err != nil {
		return h, err
	}
	return h, checkSecondCopies(r)
}

// parseJSON reads where the data is.
func parseJSON(text []byte) (Header, error) {
	var doc struct {
		Segments map[string]struct {
			Type       string `json:"type"`
			Offset     string `json:"offset"`
			Size       string `json:"size"`
			SectorSize int64  `json:"sector_size"`
		} `json:"segments"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return Header{}, fmt.Errorf("%w: %w", ErrNotLUKS, err)
	}
	data, ok := doc.Segments["0"]
	if len(doc.Segments) != 1 || !ok || data.Type != "crypt" {
		return Header{}, fmt.Errorf("%w: it is being encrypted anew, or has more than one segment", ErrNotLUKS)
	}
	if data.Size != "dynamic" {
		return Header{}, fmt.Errorf("%w: its data has a fixed size of %q bytes", ErrNotLUKS, data.Size)
	}
	offset, err := strconv.ParseInt(data.Offset, 10, 64)
	if err != nil || offset <= 0 || offset > largestOffset || offset%binarySize != 0 {
		return Header{}, fmt.Errorf("%w: its data begins at byte %q", ErrNotLUKS, data.Offset)
	}
	if s := data.SectorSize; s < 512 || s > binarySize || s&(s-1) != 0 {
		return Header{}, fmt.Errorf("%w: sectors of %d bytes", ErrNotLUKS, s)
	}
	return Header{Offset: offset, SectorSize: data.SectorSize}, nil
}
