package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// busPlaces is how many disks a bus other than PCI has places for: what a
// virtio-scsi controller takes, and the most that Nova ever attaches.
const busPlaces = 256

// Room returns how many volumes this server can have attached at once, those
// that it has counted in, as far as can be seen from here; at least 1. Disks
// that are no volumes, and the system's own, take places away. Where each disk
// is a PCI device of its own, as with virtio-blk, slots and ports are counted.
func (s System) Room() (int64, error) {
	sys := sysfs(or(s.SysDir, "/sys"))
	volumes, others, onPCI, err := s.census(sys)
	if err != nil {
		return 0, err
	}
	room := busPlaces - others
	if onPCI {
		if free, ok := sys.freePCI(); ok {
			room = min(room, volumes+free)
		}
	}
	return int64(max(room, 1)), nil
}

// census counts the disks of a server: volumes that it may have to give back,
// and others. onPCI tells that the system's own disk is a PCI device by itself,
// so that volumes will be.
func (s System) census(sys sysfs) (volumes, others int, onPCI bool, err error) {
	names, err := sys.disks()
	if err != nil {
		return 0, 0, false, err
	}
	use, err := readUse(or(s.ProcDir, "/proc"))
	if err != nil {
		return 0, 0, false, err
	}
	look := s.look(sys)
	for _, name := range names {
		if !sys.onBus(name) {
			continue
		}
		system, err := sys.isSystem(use, name)
		if err != nil {
			return 0, 0, false, err
		}
		identities, mute := look.names(name, sys.sequence(name))
		switch {
		case system:
			others++
			onPCI = sys.virtioBlock(name)
		case mute, isVolume(identities): // what doesn't answer is most likely one
			volumes++
		default:
			others++
		}
	}
	return volumes, others, onPCI, nil
}

// onBus tells whether a disk is attached to the server, rather than made by its
// kernel out of a file, memory or other disks.
func (s sysfs) onBus(name string) bool {
	_, err := os.Lstat(s.block(name, "device"))
	return err == nil
}

// isSystem tells whether the running system is on a disk or on a partition of it.
func (s sysfs) isSystem(u use, name string) (bool, error) {
	partitions, err := s.partitions(name)
	if err != nil {
		return false, err
	}
	parts := []string{name}
	for _, p := range partitions {
		parts = append(parts, filepath.Join(name, p))
	}
	for _, p := range parts {
		number, err := s.number(p)
		if errors.Is(err, ErrNotFound) {
			continue // it has just gone
		}
		if err != nil {
			return false, err
		}
		if len(u.of(number, filepath.Base(p), systemMounts())) > 0 {
			return true, nil
		}
	}
	return false, nil
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
// for machines that are neither of the two kinds that QEMU makes.
func (s sysfs) freePCI() (int, bool) {
	const (
		i440FX     = "0x8086 0x1237" // machine pc: 31 slots besides the bridge
		q35        = "0x8086 0x29c0" // machine q35: a port for each device
		bridge     = "0x0604"        // begins the class of bridges, ports among them
		slots      = 32
		rootBridge = "0000:00:00.0"
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
	ports := 0
	for _, e := range entries {
		bus, _, _ := strings.Cut(strings.TrimPrefix(e.Name(), "0000:"), ":")
		slot, _, _ := strings.Cut(e.Name(), ".")
		if bus == "00" {
			used[slot] = true
		}
		if strings.HasPrefix(read(e.Name(), "class"), bridge) && s.emptyPort(filepath.Join(dir, e.Name())) {
			ports++
		}
	}
	switch fmt.Sprintf("%s %s", read(rootBridge, "vendor"), read(rootBridge, "device")) {
	case i440FX:
		return slots - len(used), true
	case q35:
		return ports, true
	}
	return 0, false
}

// emptyPort tells whether nothing is plugged into a bridge.
func (s sysfs) emptyPort(path string) bool {
	below, err := filepath.Glob(filepath.Join(path, "[0-9a-f][0-9a-f][0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]:*"))
	if err != nil || len(below) > 0 {
		return false
	}
	// QEMU's ports tell whether they take a device while the server runs.
	_, err = os.Stat(filepath.Join(path, "subordinate_bus_number"))
	return err == nil
}
