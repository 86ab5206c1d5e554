package blockdev

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strings"
)

// Listed is a whole disk of the server, as it looks to somebody who has no volume's id.
type Listed struct {
	// Disk has the path, name, number and size, and the volume's id as far as the disk
	// tells it: whole, the first 20 characters of it (virtio-blk), or empty.
	Disk
	// Serial is what the hypervisor calls the disk; empty where it tells nothing.
	Serial string
	// OnBus tells that it takes a place of the server's buses, rather than being made by
	// the kernel out of a file, memory or other disks.
	OnBus bool
	// System tells that the running system is on it.
	System bool
	// ReadOnly tells that the kernel lets nobody write to it.
	ReadOnly bool
	// Unanswered tells that it didn't answer when it was asked for its serial.
	Unanswered bool
}

// Volume tells whether the disk counts as a volume: its serial looks like a volume's id,
// or it doesn't answer, and then most likely is one. The system's own disk is none,
// though it may be a volume in Cinder.
func (l Listed) Volume() bool {
	return l.OnBus && !l.System && (l.Unanswered || l.VolumeID != "")
}

// Disks implements Finder.
func (s *System) Disks(ctx context.Context) ([]Listed, error) {
	disks, err := s.listDisks(ctx)
	if err != nil {
		return nil, err
	}
	use, err := readProcUse(s.procDir())
	if err != nil {
		return nil, err
	}
	sys := s.sysfs()
	listed := make([]Listed, 0, len(disks))
	for _, d := range disks {
		disk, err := diskOf(sys, s.procDir(), volumeOf(d.identities), d.name, s.node(d.name))
		if err != nil {
			continue // it has just gone
		}
		listed = append(listed, Listed{
			Disk: disk, Serial: serialOf(d.identities),
			OnBus: sys.onBus(d.name), ReadOnly: sys.text(d.name, "ro") == "1", System: sys.isSystem(use, d.name), Unanswered: d.unanswered,
		})
	}
	return listed, nil
}

// volumeOf returns as much of a volume's id as the names of a disk tell.
func volumeOf(identities []identity) string {
	for _, i := range identities {
		if isVolume([]identity{i}) {
			return i.name
		}
	}
	return ""
}

// serialOf returns the name that the hypervisor set, or another one where it set none.
func serialOf(identities []identity) (name string) {
	for _, i := range identities {
		if i.serial {
			return i.name
		}
		name = cmp.Or(name, i.name)
	}
	return name
}

// Disks implements Finder: of a development server, each disk is a volume.
func (l *Loop) Disks(context.Context) ([]Listed, error) {
	sys := sysfs(cmp.Or(l.SysDir, "/sys"))
	links, err := filepath.Glob(filepath.Join(l.DevDir, "disk", "by-id", "virtio-*"))
	if err != nil {
		return nil, err
	}
	var listed []Listed
	for _, link := range links {
		path, err := filepath.EvalSymlinks(link)
		if err != nil {
			continue // it has just gone
		}
		number, err := nodeNumber(path)
		if err != nil {
			continue
		}
		name, err := sys.nameOf(number)
		if err != nil {
			continue
		}
		serial := strings.TrimPrefix(filepath.Base(sys.text(name, "loop", "backing_file")), "volume-")
		d, err := diskOf(sys, cmp.Or(l.ProcDir, "/proc"), volumeOf([]identity{{serial, true}}), name, path)
		if err == nil && !slices.ContainsFunc(listed, func(other Listed) bool { return other.Number == number }) {
			listed = append(listed, Listed{Disk: d, Serial: serial, OnBus: true, ReadOnly: sys.text(name, "ro") == "1"})
		}
	}
	return listed, nil
}
