// Package loop binds files to the kernel's loop devices and takes them off again
// without ever leaving a device that detaches itself later.
//
// A device carries a label from the moment it is bound, so that whoever finds it
// later (another process, after this one was killed) can tell what it is for.
package loop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxLabel is the longest label in bytes that a device can carry.
const MaxLabel = unix.LO_NAME_SIZE - 1

// ErrBusy says that a device is mounted, open or used by another device. The
// error that wraps it names the holders, as far as they can be told.
var ErrBusy = errors.New("busy")

// Device is a loop device bound to a file. It stays the same while it is bound:
// a device that is unbound and bound again has another Seq.
type Device struct {
	Number  int    // N in loopN
	Rdev    uint64 // device number (dev_t)
	Seq     uint64 // the kernel's sequence number of this binding; 0 on kernels without one
	File    string // the file it is bound to
	Deleted bool   // the file has no name any more
}

// Name returns the kernel's name, "loop3".
func (d Device) Name() string { return "loop" + strconv.Itoa(d.Number) }

// Status is what the kernel tells about a bound device to those who open it.
type Status struct {
	Label     string
	ReadOnly  bool
	AutoClear bool // the device will detach itself when its last user is gone
}

const (
	sysBlock   = "/sys/block"
	deletedTag = " (deleted)"
)

// List returns every bound loop device of this machine.
func List() ([]Device, error) {
	names, err := filepath.Glob(sysBlock + "/loop[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("list loop devices: %w", err)
	}
	var devices []Device
	for _, name := range names {
		number, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(name), "loop"))
		if err != nil {
			continue
		}
		d, bound, err := read(number)
		if err != nil {
			return nil, err
		}
		if bound {
			devices = append(devices, d)
		}
	}
	return devices, nil
}

// read looks a device up in sysfs; bound is false when it holds no file.
func read(number int) (d Device, bound bool, err error) {
	dir := filepath.Join(sysBlock, "loop"+strconv.Itoa(number))
	file, err := os.ReadFile(filepath.Join(dir, "loop", "backing_file"))
	if absent(err) {
		return Device{}, false, nil
	}
	if err != nil {
		return Device{}, false, fmt.Errorf("read the file of loop%d: %w", number, err)
	}
	rdev, err := deviceNumber(dir)
	if absent(err) {
		return Device{}, false, nil
	}
	if err != nil {
		return Device{}, false, err
	}
	d = Device{Number: number, Rdev: rdev, Seq: sequence(dir)}
	d.File = strings.TrimSuffix(string(file), "\n")
	if strings.HasSuffix(d.File, deletedTag) {
		if _, err := os.Lstat(d.File); err != nil {
			d.File, d.Deleted = strings.TrimSuffix(d.File, deletedTag), true
		}
	}
	return d, d.File != "", nil // no file: it is just being taken away
}

// absent reports whether a sysfs read failed because the device is not bound or
// is being taken away right now.
func absent(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV)
}

func deviceNumber(dir string) (uint64, error) {
	text, err := os.ReadFile(filepath.Join(dir, "dev"))
	if err != nil {
		return 0, fmt.Errorf("read the device number of %s: %w", filepath.Base(dir), err)
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(text), "%d:%d", &major, &minor); err != nil {
		return 0, fmt.Errorf("device number of %s is %q: %w", filepath.Base(dir), text, err)
	}
	return unix.Mkdev(major, minor), nil
}

// sequence reads diskseq, which kernels before 5.15 don't have.
func sequence(dir string) uint64 {
	text, err := os.ReadFile(filepath.Join(dir, "diskseq"))
	if err != nil {
		return 0
	}
	seq, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return seq
}

// Bound reports whether d is still bound as it was when it was found.
func Bound(d Device) (bool, error) {
	now, bound, err := read(d.Number)
	if err != nil || !bound {
		return false, err
	}
	return now.Seq == d.Seq && now.File == d.File, nil
}
