package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// loopNodes is how many loop devices a node can name. They are the machine's,
// numbered through, and the kubelet takes one for each raw block volume; a number
// beyond is one that it can't open.
const loopNodes = 512

// loopMajor is the major number of loop devices.
const loopMajor = 7

// makeDevices puts what every machine has into the device directory of a server,
// which has its disks only.
func makeDevices(dir string) error {
	for _, name := range []string{
		"null", "zero", "full", "random", "urandom", "tty", "kmsg", "fuse", "loop-control", "btrfs-control", "mapper/control",
	} {
		if err := copyDevice("/dev/"+name, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	shift, err := loopShift()
	if err != nil {
		return err
	}
	for n := range uint32(loopNodes) {
		number := unix.Mkdev(loopMajor, n<<shift)
		if err := makeDevice(filepath.Join(dir, "loop"+strconv.Itoa(int(n))), unix.S_IFBLK|0o660, number); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// copyDevice makes a device like another one; one that the machine lacks is left
// out.
func copyDevice(from, to string) error {
	var st unix.Stat_t
	err := unix.Stat(from, &st)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755) // #nosec G301 -- as in any /dev
	}
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return makeDevice(to, st.Mode, st.Rdev)
}

// makeDevice makes a device node, replacing one of another number.
func makeDevice(path string, mode uint32, number uint64) error {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if err == nil && st.Rdev == number && st.Mode == mode {
		return nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err == nil || errors.Is(err, unix.ENOENT) {
		err = unix.Mknod(path, mode, int(number))
	}
	if err == nil {
		err = os.Chmod(path, fs.FileMode(mode&0o777)) // mknod minds the umask
	}
	if err != nil {
		return fmt.Errorf("make device %s: %w", path, err)
	}
	return nil
}

// loopShift is how many minor numbers, as a power of two, the kernel keeps for
// the partitions of a loop device.
func loopShift() (uint32, error) {
	data, err := os.ReadFile("/sys/module/loop/parameters/max_part")
	if err != nil {
		return 0, fmt.Errorf("is the loop module loaded? %w", err)
	}
	most, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 32)
	if err != nil {
		return 0, err
	}
	return uint32(bits.Len64(most)), nil
}
