package instance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// largestDrive is how large a config drive may be that is no CD-ROM, in bytes. Nova
	// makes an ISO 9660 image as large as its content, or a vfat of 64 MiB. A volume has
	// 1 GiB at least, less a header where Nova encrypts it.
	largestDrive = 512 << 20
	// answerTime is how long a disk may take to tell its serial.
	answerTime = time.Second
)

// check refuses a drive that is a volume, or a part of one, or that the kernel has made
// of something. Everybody who may write to a volume can give it the label of a config
// drive, and would tell the node that it is another server.
func (d *drives) check(ctx context.Context, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil // a plain file: no volume of this server
	}
	number := uint64(stat.Rdev) //nolint:unconvert // 32 bits wide on some architectures
	link := filepath.Join(d.sysDir, "dev", "block", fmt.Sprintf("%d:%d", unix.Major(number), unix.Minor(number)))
	device, err := filepath.EvalSymlinks(link)
	if err != nil {
		return fmt.Errorf("its device: %w", err)
	}
	return d.checkDevice(ctx, device)
}

// checkDevice is check for a disk, or a partition of one, by its directory in sysfs. It
// opens nothing. What tells a config drive from a volume:
//
//   - It is a disk of the server. A loop device, or the mapping of an encrypted volume,
//     is made by the server's kernel.
//   - It is a CD-ROM, which no volume is attached as, or smaller than any volume. Where
//     disks have no serials (Hyper-V, VMware, Xen) nothing else tells.
//   - It has no serial that is a volume's id, which the hypervisor sets.
func (d *drives) checkDevice(ctx context.Context, device string) error {
	device = wholeDisk(device)
	name := filepath.Base(device)
	if _, err := os.Stat(filepath.Join(device, "device")); err != nil {
		return fmt.Errorf("%s is no disk that is attached to this server, but something that its kernel has made", name)
	}
	sectors, err := strconv.ParseInt(text(device, "size"), 10, 64)
	if err != nil {
		return fmt.Errorf("%s: its size: %w", name, err)
	}
	const sector, cdrom = 512, "5" // the unit of size in sysfs; a SCSI device type
	if size := sectors * sector; size >= largestDrive && text(device, "device", "type") != cdrom {
		return fmt.Errorf("%s has %d bytes, and may be a volume that somebody has given the label of a config drive: those have less than %d",
			name, size, int64(largestDrive))
	}
	serial, found, err := d.volumeSerial(ctx, device)
	if err != nil {
		return err
	}
	if found {
		return fmt.Errorf("it is the volume with the serial %s, which somebody has given the label of a config drive", serial)
	}
	return nil
}

// text reads an attribute; "" where the device doesn't have it.
func text(device string, attribute ...string) string {
	data, err := os.ReadFile(filepath.Join(append([]string{device}, attribute...)...)) // #nosec G304 -- below sysfs
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// wholeDisk returns the disk that a partition is on.
func wholeDisk(device string) string {
	if _, err := os.Stat(filepath.Join(device, "partition")); err == nil {
		return filepath.Dir(device)
	}
	return device
}

// volumeSerial returns the serial of a disk if it is a volume's: a UUID, of which
// some buses show but 20 characters. A disk may have to be asked for it: one whose
// storage hangs may never answer, and must not keep this server from being known.
func (d *drives) volumeSerial(ctx context.Context, device string) (serial string, found bool, err error) {
	uuid := regexp.MustCompile(`(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f-]*`)
	for _, name := range []string{"serial", "device/serial", "device/vpd_pg80", "device/wwid", "wwid"} {
		path := filepath.Join(device, name)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue // another bus
		}
		asking, cancel := context.WithTimeout(ctx, answerTime)
		data, err := d.reads.DoAfter(asking, path, func() ([]byte, error) { return os.ReadFile(path) })
		cancel()
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return "", false, fmt.Errorf("%s doesn't tell its serial, so that it may be a volume: %w", filepath.Base(device), err)
		}
		if match := uuid.Find(data); err == nil && match != nil {
			return string(match), true, nil
		}
	}
	return "", false, nil
}
