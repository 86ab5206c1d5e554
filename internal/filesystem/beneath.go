package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Beneath is where the bytes of a mapping really are, one that encrypts: on
// another device, from an offset on.
type Beneath struct {
	// Path is the device node of that other device.
	Path string
	// Offset is the first byte that belongs to the mapping.
	Offset int64
}

// readers is how many places are read at once past the page cache, into which the
// kernel could be told to read them all ahead. A volume is reached over a network,
// where latency counts and not throughput.
const readers = 8

// firstData reads, beneath a mapping of that size, what firstData would read of
// it, and returns the same. Where the device beneath was blank when encryption
// was put on it, these are zeros until something is written to the mapping.
//
// What the kernel remembers of the device beneath is passed by: a mapping writes
// to the disk without telling, and zeros that were read before would stay.
func (b Beneath) firstData(ctx context.Context, size int64) (string, error) {
	f, err := os.OpenFile(b.Path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return "", fmt.Errorf("device beneath: %w", err)
	}
	found, err := firstDataIn(ctx, shifted{f, b.Offset}, telling(size), readers)
	return found, errors.Join(err, f.Close())
}

// shifted reads from an offset on.
type shifted struct {
	r  io.ReaderAt
	by int64
}

func (s shifted) ReadAt(p []byte, at int64) (int, error) { return s.r.ReadAt(p, at+s.by) }

// aligned returns memory that the kernel can read into without the page cache.
func aligned(size int) []byte {
	buf := make([]byte, size+piece)
	skip := piece - int(uintptr(unsafe.Pointer(&buf[0]))%piece) // #nosec G103 -- only its value counts
	return buf[skip : skip+size]
}
