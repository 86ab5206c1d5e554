package blockdev

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// systemMounts are the places whose disk is the node's own. In a container, the
// files that the runtime puts into every one of them lie on that disk too.
func systemMounts() []string {
	return []string{
		"/", "/boot", "/boot/efi", "/etc", "/home", "/usr", "/var", "/var/lib", "/var/lib/kubelet",
		"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log",
	}
}

// Holders tells in words what uses the disk: device-mapper and md devices built
// upon it or upon its partitions, partitions that are mounted, swap, and the
// running system itself. A mount of the disk as a whole is no holder, unless it
// is the system's. Empty means that nothing does.
func Holders(d Disk) ([]string, error) {
	sys := sysfs(or(d.sysDir, "/sys"))
	names, err := sys.holders(d.Name)
	if err != nil {
		return nil, err
	}
	others, err := otherUse(d)
	return append(names, others...), err
}

// foreignHolders is Holders without the volume's own mapping.
func foreignHolders(d Disk) ([]string, error) {
	sys := sysfs(or(d.sysDir, "/sys"))
	devices, err := sys.holderNames(d.Name)
	if err != nil {
		return nil, err
	}
	own := func(holder string) bool { return sys.isOwnMapping(d.VolumeID, holder) }
	if !slices.ContainsFunc(devices, own) {
		return Holders(d)
	}
	names := slices.DeleteFunc(devices, own)
	others, err := otherUse(d)
	return append(names, others...), err
}

// otherUse tells what uses the disk besides devices built upon all of it.
func otherUse(d Disk) ([]string, error) {
	sys := sysfs(or(d.sysDir, "/sys"))
	use, err := readUse(or(d.procDir, "/proc"))
	if err != nil {
		return nil, err
	}
	var names []string
	names = append(names, use.of(d.Number, d.Name, systemMounts())...)
	partitions, err := sys.partitions(d.Name)
	if err != nil {
		return nil, err
	}
	for _, partition := range partitions {
		path := filepath.Join(d.Name, partition)
		held, err := sys.holders(path)
		if err != nil {
			return nil, err
		}
		number, err := sys.number(path)
		if err != nil {
			return nil, err
		}
		held = append(held, use.of(number, partition, nil)...)
		held = append(held, sys.filesystems(partition)...)
		for _, h := range held {
			names = append(names, "partition "+partition+": "+h)
		}
	}
	return names, nil
}

// filesystems tells which drivers have a block device mounted, in whatever
// mount namespace. They list it below /sys/fs.
func (s sysfs) filesystems(device string) []string {
	var found []string
	for _, pattern := range []string{"ext4", "xfs", "f2fs", "btrfs/*/devices"} {
		matches, err := filepath.Glob(filepath.Join(string(s), "fs", pattern, device))
		if err == nil && len(matches) > 0 {
			kind, _, _ := strings.Cut(pattern, "/")
			found = append(found, "mounted "+kind)
		}
	}
	return found
}

// use is what procfs knows about mounts and swap.
type use struct {
	mounts []*mountinfo.Info
	swaps  []string // kernel names
}

// readUse reads mountinfo and swaps.
func readUse(procDir string) (use, error) {
	f, err := os.Open(filepath.Join(procDir, "self", "mountinfo"))
	if err != nil {
		return use{}, fmt.Errorf("read mounts: %w", err)
	}
	mounts, err := mountinfo.GetMountsFromReader(f, nil)
	err = errors.Join(err, f.Close())
	if err != nil {
		return use{}, fmt.Errorf("read mounts: %w", err)
	}
	data, err := os.ReadFile(filepath.Join(procDir, "swaps"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return use{}, fmt.Errorf("read swaps: %w", err)
	}
	return use{mounts: mounts, swaps: parseSwaps(string(data))}, nil
}

// parseSwaps returns the kernel names of the devices in /proc/swaps.
func parseSwaps(data string) []string {
	var names []string
	lines := bufio.NewScanner(strings.NewReader(data))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 2 && fields[1] == "partition" {
			names = append(names, filepath.Base(fields[0]))
		}
	}
	return names
}

// of tells where a block device is mounted, of the given places only unless
// they are nil, and whether it is swap.
func (u use) of(number uint64, name string, places []string) []string {
	var found []string
	for _, m := range u.mounts {
		// btrfs reports a device number of its own making: there the source says it.
		same := numberString(number) == fmt.Sprintf("%d:%d", m.Major, m.Minor) ||
			m.FSType == "btrfs" && filepath.Base(m.Source) == name
		if same && (places == nil || slices.Contains(places, m.Mountpoint)) {
			found = append(found, "mounted at "+m.Mountpoint)
		}
	}
	if slices.Contains(u.swaps, name) {
		found = append(found, "swap")
	}
	return found
}
