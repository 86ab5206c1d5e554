package blockdev

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// MaxAttached is how many disks a bus other than PCI has places for: what a
// virtio-scsi controller takes, and the most that Nova ever attaches.
const MaxAttached = 256

// AttachLimit implements Finder. Disks that are no volumes, and the system's own,
// take places away. Where the system's own disk is a PCI device by itself, as with
// virtio-blk, volumes will be, and slots and ports are counted.
func (s *System) AttachLimit(ctx context.Context) (int64, error) {
	disks, err := s.Disks(ctx)
	if err != nil {
		return 0, err
	}
	sys, onPCI := s.sysfs(), false
	volumes, limit := 0, MaxAttached
	for _, d := range disks {
		switch {
		case !d.OnBus:
		case d.Volume():
			volumes++
		default:
			limit--
			onPCI = onPCI || d.System && sys.virtioBlock(d.Name)
		}
	}
	if free, ok := sys.freePCI(); ok && onPCI {
		limit = min(limit, volumes+free)
	}
	return int64(max(limit, 1)), nil
}

// onBus tells whether a disk is attached to the server, rather than made by its
// kernel out of a file, memory or other disks.
func (s sysfs) onBus(name string) bool { return exists(s.block(name, "device")) }

// isSystem tells whether the running system is on a disk or on a partition of it, or
// whether that can't be told.
func (s sysfs) isSystem(u procUse, name string) bool {
	partitions, err := s.partitions(name)
	return err != nil || slices.ContainsFunc(append(partitions, ""), func(partition string) bool {
		path := filepath.Join(name, partition)
		number, err := s.number(path)
		return err == nil && len(u.of(number, filepath.Base(path), systemMounts())) > 0
	})
}

// isVolume tells whether one of a disk's names looks like a volume's id, or like
// as much of one as virtio-blk carries.
func isVolume(identities []identity) bool {
	cut := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]$`)
	for _, i := range identities {
		if i.serial && (isUUID(i.name) || cut.MatchString(i.name)) {
			return true
		}
	}
	return false
}

// virtioBlock tells whether a disk is virtio-blk on PCI: a device of its own.
func (s sysfs) virtioBlock(name string) bool {
	path, err := filepath.EvalSymlinks(s.block(name, "device"))
	return err == nil && regexp.MustCompile(`/pci[0-9a-f:]+/.*/virtio[0-9]+$`).MatchString(path)
}

// freePCI returns how many PCI devices can be added while the server runs; false
// where nothing tells. A machine with PCI Express takes a device in each empty port:
// QEMU's q35 on amd64 and virt on arm64 do. QEMU's pc has no ports, but 31 slots
// besides its host bridge.
func (s sysfs) freePCI() (int, bool) {
	const (
		i440FX = "0x8086 0x1237" // the host bridge of QEMU's machine pc
		q35    = "0x8086 0x29c0" // and of q35, which may have been made without ports
		slots  = 32
		bridge = "0x0604" // begins the class of bridges, ports among them
	)
	dir := filepath.Join(string(s), "bus", "pci", "devices")
	read := func(device, attribute string) string {
		data, err := os.ReadFile(filepath.Join(dir, device, attribute))
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(data))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, false
	}
	used := make(map[string]bool)
	ports, empty := 0, 0
	for _, e := range entries {
		bus, _, _ := strings.Cut(strings.TrimPrefix(e.Name(), "0000:"), ":")
		slot, _, _ := strings.Cut(e.Name(), ".")
		if bus == "00" {
			used[slot] = true
		}
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(read(e.Name(), "class"), bridge) && takesDevices(path) {
			ports++
			if isEmpty(path) {
				empty++
			}
		}
	}
	switch host := read("0000:00:00.0", "vendor") + " " + read("0000:00:00.0", "device"); {
	case host == i440FX:
		return slots - len(used), true
	case host == q35, ports > 0:
		return empty, true
	}
	return 0, false
}

// takesDevices tells whether a bridge is a port: QEMU's ports tell that they take a
// device while the server runs.
func takesDevices(bridge string) bool {
	return exists(filepath.Join(bridge, "subordinate_bus_number"))
}

// isEmpty tells whether nothing is plugged into a bridge.
func isEmpty(bridge string) bool {
	below, err := filepath.Glob(filepath.Join(bridge, "[0-9a-f][0-9a-f][0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]:*"))
	return err == nil && len(below) == 0
}
