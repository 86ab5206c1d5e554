package blockdev

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sectorSize is the unit of /sys/block/*/size, whatever the disk's own is.
const sectorSize = 512

// sysfs is the directory where sysfs is mounted.
type sysfs string

// block returns the path of a whole disk's attribute.
func (s sysfs) block(name string, attribute ...string) string {
	return filepath.Join(append([]string{string(s), "block", name}, attribute...)...)
}

// text reads an attribute; "" where the disk doesn't have it.
func (s sysfs) text(name string, attribute ...string) string {
	f, err := os.Open(s.block(name, attribute...))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	// Attributes are some bytes long and claim to be a page: os.ReadFile would take a page for each.
	data, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// disks returns the names of all whole disks.
func (s sysfs) disks() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(string(s), "block"))
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		// The paths of an NVMe multipath disk are listed but hidden: they have
		// no device node, the disk above them has.
		if s.text(e.Name(), "hidden") == "1" {
			continue
		}
		names = append(names, e.Name())
	}
	return names, nil
}

// number returns the device number of a disk or, as disk/partition, of a partition.
func (s sysfs) number(name string) (uint64, error) {
	text := s.text(name, "dev")
	if text == "" {
		return 0, fmt.Errorf("%w: %s has gone from sysfs", ErrNotFound, name)
	}
	number, err := parseNumber(text)
	if err != nil {
		return 0, fmt.Errorf("device number of %s: %w", name, err)
	}
	return number, nil
}

// parseNumber reads major:minor.
func parseNumber(s string) (uint64, error) {
	var major, minor uint32
	_, err := fmt.Sscanf(s+"\n", "%d:%d\n", &major, &minor)
	return unix.Mkdev(major, minor), err
}

// size returns the capacity of a disk in bytes, 0 where it can't be told.
func (s sysfs) size(name string) int64 {
	sectors, err := strconv.ParseInt(s.text(name, "size"), 10, 64)
	if err != nil || sectors < 0 || sectors > (1<<63-1)/sectorSize {
		return 0
	}
	return sectors * sectorSize
}

// sequence returns the kernel's number of the disk that has the name now.
func (s sysfs) sequence(name string) uint64 {
	n, err := strconv.ParseUint(s.text(name, "diskseq"), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// partitions returns the names of a disk's partitions.
func (s sysfs) partitions(name string) ([]string, error) {
	entries, err := os.ReadDir(s.block(name))
	if err != nil {
		return nil, fmt.Errorf("partitions of %s: %w", name, err)
	}
	var names []string
	for _, e := range entries {
		if _, err := os.Stat(s.block(name, e.Name(), "partition")); err == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// holderNames returns the names of the block devices that are built upon a disk
// or, as disk/partition, upon a partition.
func (s sysfs) holderNames(name string) ([]string, error) {
	entries, err := os.ReadDir(s.block(name, "holders"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("holders of %s: %w", name, err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}
