package instance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sysDir is where the kernel shows its devices.
const sysDir = "/sys"

// checkDrive refuses a drive that is a volume, or a part of one, or that the kernel
// has made of something. Everybody who may write to a volume can give it the label
// of a config drive, and would tell the node that it is another server. Volumes
// carry their id as serial, which the hypervisor sets; config drives have none. A
// loop device, or the mapping of an encrypted volume, has none either.
func checkDrive(f *os.File, sysDir string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil // a plain file: no volume of this server
	}
	number := uint64(stat.Rdev) //nolint:unconvert // 32 bits wide on some architectures
	link := filepath.Join(sysDir, "dev", "block", fmt.Sprintf("%d:%d", unix.Major(number), unix.Minor(number)))
	device, err := filepath.EvalSymlinks(link)
	if err != nil {
		return fmt.Errorf("its device: %w", err)
	}
	device = wholeDisk(device)
	if _, err := os.Stat(filepath.Join(device, "device")); err != nil {
		return fmt.Errorf("%s is no disk that is attached to this server, but something that its kernel has made", filepath.Base(device))
	}
	serial, found, err := volumeSerial(device)
	if err != nil {
		return err
	}
	if found {
		return fmt.Errorf("it is the volume with the serial %s, which somebody has given the label of a config drive", serial)
	}
	return nil
}

// wholeDisk returns the disk that a partition is on.
func wholeDisk(device string) string {
	if _, err := os.Stat(filepath.Join(device, "partition")); err == nil {
		return filepath.Dir(device)
	}
	return device
}

// volumeSerial returns the serial of a disk if it is a volume's: a UUID, of which
// some buses show but 20 characters.
func volumeSerial(device string) (serial string, found bool, err error) {
	uuid := regexp.MustCompile(`(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f-]*`)
	for _, name := range []string{"serial", "device/serial", "device/vpd_pg80", "device/wwid", "wwid"} {
		data, err := answerOf(filepath.Join(device, name))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return "", false, fmt.Errorf("%s doesn't tell its serial, so that it may be a volume: %w", filepath.Base(device), err)
		}
		if err != nil {
			continue // another bus
		}
		if match := uuid.Find(data); match != nil {
			return string(match), true, nil
		}
	}
	return "", false, nil
}

// answerTime is how long a disk may take to tell its serial.
const answerTime = time.Second

// answerOf reads an attribute for which a disk may have to be asked. One whose
// storage hangs may never answer, and must not keep this server from being known.
func answerOf(path string) ([]byte, error) {
	if _, err := os.Lstat(path); err != nil {
		return nil, err
	}
	var data []byte
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		data, err = os.ReadFile(path) // #nosec G304 -- below sysfs
	}()
	limit := time.NewTimer(answerTime)
	defer limit.Stop()
	select {
	case <-done:
		return data, err
	case <-limit.C:
		return nil, fmt.Errorf("read %s: %w", path, os.ErrDeadlineExceeded)
	}
}
