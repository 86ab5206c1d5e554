// Package looptest makes loop devices for tests. The kernel takes each of them
// away again when the test process ends, in whatever way it does.
package looptest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Options of a device.
type Options struct {
	// Size in bytes of the file behind it.
	Size int64
	// File is the path of the file; one in the test's own directory when empty.
	// An existing file is used as it is, but for its size.
	File string
	// ReadOnly makes a device that can't be written to.
	ReadOnly bool
}

// Device is a loop device.
type Device struct {
	// Path of the node, as in /dev/loop7.
	Path string
	// Name as in loop7.
	Name string
	// Backing is the path of the file behind it.
	Backing string
	// Number is the device number.
	Number uint64

	open *os.File // the device vanishes when this is closed last
	file *os.File
}

// New attaches a sparse file to a loop device until the test ends.
func New(t testing.TB, opts Options) *Device {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("loop devices need root: run the tests as root")
	}
	if opts.File == "" {
		opts.File = filepath.Join(t.TempDir(), "disk")
	}
	file, err := os.OpenFile(opts.File, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if opts.Size > 0 {
		if err := file.Truncate(opts.Size); err != nil {
			t.Fatal(err)
		}
	}
	d := &Device{Backing: opts.File, file: file}
	// Another process may take the free device first.
	for range 100 {
		err = d.attach(opts.ReadOnly)
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENXIO) {
			break
		}
	}
	if err != nil {
		t.Fatalf("attach %s to a loop device: %v", opts.File, err)
	}
	t.Cleanup(d.Close)
	return d
}

func (d *Device) attach(readOnly bool) error {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	index, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err = errors.Join(err, control.Close()); err != nil {
		return err
	}
	d.Name = fmt.Sprintf("loop%d", index)
	d.Path = "/dev/" + d.Name
	open, err := os.OpenFile(d.Path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	config := unix.LoopConfig{Fd: uint32(d.file.Fd())}
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	copy(config.Info.File_name[:len(config.Info.File_name)-1], d.Backing)
	if readOnly {
		config.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	var st unix.Stat_t
	if err := unix.IoctlLoopConfigure(int(open.Fd()), &config); err != nil {
		return errors.Join(err, open.Close())
	}
	if !readOnly {
		// An earlier user may have made it read-only; the kernel remembers that.
		if err := unix.IoctlSetPointerInt(int(open.Fd()), unix.BLKROSET, 0); err != nil {
			return errors.Join(err, open.Close())
		}
	}
	if err := unix.Fstat(int(open.Fd()), &st); err != nil {
		return errors.Join(err, open.Close())
	}
	d.open, d.Number = open, st.Rdev
	return nil
}

// Close lets the device go; the kernel waits for mounts of it. It may be called
// again.
func (d *Device) Close() {
	_ = d.open.Close()
	_ = d.file.Close()
}

// Grow makes file and device larger, as a hypervisor does underneath a guest.
func (d *Device) Grow(t testing.TB, size int64) {
	t.Helper()
	d.GrowFile(t, size)
	if err := unix.IoctlSetInt(int(d.open.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		t.Fatal(err)
	}
}

// GrowFile changes the size of the file only.
func (d *Device) GrowFile(t testing.TB, size int64) {
	t.Helper()
	if err := d.file.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

// Write writes to the device and waits until the data is in the file.
func (d *Device) Write(t testing.TB, data []byte, offset int64) {
	t.Helper()
	if _, err := d.open.WriteAt(data, offset); err != nil {
		t.Fatal(err)
	}
	if err := d.open.Sync(); err != nil {
		t.Fatal(err)
	}
}

// Hash returns a digest of the device's content.
func (d *Device) Hash(t testing.TB) string {
	t.Helper()
	if err := d.open.Sync(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	info, err := d.file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var place [8]byte
	zeros := make([]byte, 64<<10)
	buf := make([]byte, len(zeros))
	for at := int64(0); at < info.Size(); {
		data, err := unix.Seek(int(d.file.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // nothing but a hole
		}
		if err != nil {
			t.Fatal(err)
		}
		at = data - data%int64(len(buf))
		n, err := d.file.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if string(buf[:n]) != string(zeros[:n]) {
			binary.BigEndian.PutUint64(place[:], uint64(at))
			sum.Write(place[:])
			sum.Write(buf[:n])
		}
		at += int64(len(buf))
	}
	return hex.EncodeToString(sum.Sum(nil))
}
