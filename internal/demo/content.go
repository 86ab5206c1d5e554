package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	mib = int64(1) << 20
	gib = int64(1) << 30
	// fileSize is large enough that a growth runs into the reading of it.
	fileSize = 32 * mib
	// chunkSize is the length of one pattern on a raw device.
	chunkSize = mib
	fileName  = "data.bin"
)

// content is what the demo writes to a volume and looks for afterwards: one
// file on a filesystem, patterns at several offsets of a raw device. Which
// bytes follows from the name, so that a wrong volume shows.
type content struct {
	name    string
	block   bool
	offsets []int64
	sum     [sha256.Size]byte
}

// newContent returns the content for a volume of sizeBytes.
func newContent(name string, block bool, sizeBytes int64) *content {
	c := &content{name: name, block: block, offsets: []int64{0}}
	if block {
		c.offsets = []int64{0, 17 * mib, sizeBytes / 2, sizeBytes - chunkSize}
	}
	return c
}

// source returns the endless bytes of one part of the content.
func (c *content) source(part int64) io.Reader {
	h := fnv.New64a()
	_, _ = io.WriteString(h, c.name)
	var seed [32]byte
	for i, v := range []uint64{h.Sum64(), uint64(part)} {
		for b := range 8 {
			seed[8*i+b] = byte(v >> (8 * b))
		}
	}
	return rand.NewChaCha8(seed)
}

// path is where the content lies when the volume is published at target.
func (c *content) path(target string) string {
	if c.block {
		return target
	}
	return filepath.Join(target, fileName)
}

// write stores the content below target and waits until it is on the device.
func (c *content) write(target string) error {
	flags := os.O_WRONLY
	if !c.block {
		flags |= os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(c.path(target), flags, 0o600)
	if err != nil {
		return fmt.Errorf("write content: %w", err)
	}
	digest := sha256.New()
	for _, offset := range c.offsets {
		part := io.LimitReader(c.source(offset), c.partSize())
		if _, err = io.Copy(io.NewOffsetWriter(f, offset), io.TeeReader(part, digest)); err != nil {
			break
		}
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write content: %w", err)
	}
	c.sum = [sha256.Size]byte(digest.Sum(nil))
	return nil
}

// extend adds a pattern at the end of a raw device of sizeBytes, which proves
// that new space can be written to. Files stay as they are.
func (c *content) extend(target string, sizeBytes int64) error {
	if !c.block {
		return nil
	}
	c.offsets = append(c.offsets, sizeBytes-chunkSize)
	return c.write(target)
}

func (c *content) partSize() int64 {
	if c.block {
		return chunkSize
	}
	return fileSize
}

// verify reads everything back from the device, not from memory, and compares
// the checksum.
func (c *content) verify(target string) error {
	f, err := os.Open(c.path(target))
	if err != nil {
		return fmt.Errorf("read content: %w", err)
	}
	defer func() { _ = f.Close() }()
	// What is cached says nothing about the disk.
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("read content: drop the cache of %s: %w", f.Name(), err)
	}
	digest := sha256.New()
	for _, offset := range c.offsets {
		n, err := io.Copy(digest, io.NewSectionReader(f, offset, c.partSize()))
		if err != nil {
			return fmt.Errorf("read content at %d: %w", offset, err)
		}
		if n != c.partSize() {
			return fmt.Errorf("content of %s is cut short at %d: %d bytes of %d", f.Name(), offset, n, c.partSize())
		}
	}
	if sum := digest.Sum(nil); !bytes.Equal(sum, c.sum[:]) {
		return fmt.Errorf("content of %s is not what was written: sha256 %x, want %x", f.Name(), sum, c.sum)
	}
	return nil
}

// reading verifies a content again and again until it is stopped.
type reading struct {
	cancel context.CancelFunc
	done   chan struct{}
	rounds int
	err    error
}

// keepReading starts to verify the content at target in a loop. The first
// round is complete when it returns.
func (c *content) keepReading(ctx context.Context, target string) (*reading, error) {
	if err := c.verify(target); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &reading{cancel: cancel, done: make(chan struct{}), rounds: 1}
	go func() {
		defer close(r.done)
		for ctx.Err() == nil && r.err == nil {
			r.err = c.verify(target)
			r.rounds++
		}
	}()
	return r, nil
}

// stop ends the loop after its present round and returns how many there were.
func (r *reading) stop() (rounds int, err error) {
	r.cancel()
	<-r.done
	return r.rounds, r.err
}

// capacity returns the size in bytes of the filesystem mounted at target, or
// of the device that target is.
func capacity(target string, block bool) (int64, error) {
	if !block {
		var st unix.Statfs_t
		if err := unix.Statfs(target, &st); err != nil {
			return 0, fmt.Errorf("statfs %s: %w", target, err)
		}
		return int64(st.Blocks) * st.Bsize, nil
	}
	f, err := os.Open(target)
	if err != nil {
		return 0, fmt.Errorf("size of device: %w", err)
	}
	defer func() { _ = f.Close() }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("size of device %s: %w", target, err)
	}
	return size, nil
}
