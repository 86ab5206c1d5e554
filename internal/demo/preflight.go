package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// tool is a set of programs that the driver runs, and the Debian package that
// brings them.
type tool struct {
	filesystem string // for which it is needed; "" = always
	pkg        string
	names      []string
}

func tools() []tool {
	return []tool{
		{"", "util-linux", []string{"blkid", "wipefs", "losetup"}},
		{"", "mount", []string{"mount", "umount"}},
		{"ext4", "e2fsprogs", []string{"mkfs.ext4", "e2fsck", "resize2fs"}},
		{"xfs", "xfsprogs", []string{"mkfs.xfs", "xfs_growfs"}},
		{"btrfs", "btrfs-progs", []string{"mkfs.btrfs", "btrfs"}},
	}
}

// machine is what the preflight asks of the machine.
type machine struct {
	uid         int
	look        func(tool string) (string, error)
	filesystems func() (string, error)    // content of /proc/filesystems
	modprobe    func(module string) error // loads a kernel module
	loopDevices func() error
}

// thisMachine returns the real one.
func thisMachine(ctx context.Context) machine {
	return machine{
		uid:  os.Geteuid(),
		look: exec.LookPath,
		filesystems: func() (string, error) {
			b, err := os.ReadFile("/proc/filesystems")
			return string(b), err
		},
		modprobe: func(module string) error {
			return exec.CommandContext(ctx, "modprobe", "-q", module).Run()
		},
		loopDevices: probeLoop,
	}
}

// preflight returns an error of one line that says what is missing and what
// to do about it.
func preflight(m machine, filesystems []string) error {
	if m.uid != 0 {
		return errors.New("the demo makes loop devices, filesystems and mounts: run it as root (sudo make demo)")
	}
	var missing, packages []string
	for _, t := range tools() {
		if t.filesystem != "" && !slices.Contains(filesystems, t.filesystem) {
			continue
		}
		for _, name := range t.names {
			if _, err := m.look(name); err != nil {
				missing = append(missing, name)
				packages = append(packages, t.pkg)
			}
		}
	}
	if len(missing) > 0 {
		sort.Strings(packages)
		return fmt.Errorf("missing: %s; install them with: apt-get install %s",
			strings.Join(missing, ", "), strings.Join(slices.Compact(packages), " "))
	}
	if err := kernelFilesystems(m, filesystems); err != nil {
		return err
	}
	if err := m.loopDevices(); err != nil {
		return fmt.Errorf("no loop devices here (%w): load the module with \"modprobe loop\", or run where /dev/loop-control is allowed", err)
	}
	return nil
}

// kernelFilesystems makes sure that the kernel can mount what is chosen.
func kernelFilesystems(m machine, filesystems []string) error {
	for _, fs := range filesystems {
		if fs == Block {
			continue
		}
		known, err := m.filesystems()
		if err != nil {
			return fmt.Errorf("read the kernel's filesystems: %w", err)
		}
		if slices.Contains(strings.Fields(known), fs) || m.modprobe(fs) == nil {
			continue
		}
		return fmt.Errorf("the kernel has no %s, and modprobe can't load it: install linux-modules-extra-$(uname -r) where that exists, or leave it out with --fs", fs)
	}
	return nil
}

// probeLoop asks the kernel for a free loop device, without taking it.
func probeLoop() error {
	f, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = unix.IoctlRetInt(int(f.Fd()), unix.LOOP_CTL_GET_FREE)
	return err
}

// binaries are the programs that the demo runs, by their path.
type binaries struct {
	devcloud, plugin string
}

// findBinaries looks for the built programs in dir.
func findBinaries(dir string) (binaries, error) {
	b := binaries{devcloud: filepath.Join(dir, "devcloud"), plugin: filepath.Join(dir, "cinder-csi-plugin")}
	for _, path := range []string{b.devcloud, b.plugin} {
		if _, err := exec.LookPath(path); err != nil {
			return b, fmt.Errorf("%s is not there: build it with \"make build\" or name the directory of the binaries with --bin", path)
		}
	}
	return b, nil
}
