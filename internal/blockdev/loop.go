package blockdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// loopMajor is the major number of loop devices.
const loopMajor = 7

// Loop finds the disks of a development cloud, which are loop devices. They
// have no serial, so the proof is the file behind them: its name must be
// "volume-" and the volume's whole id. Never for production.
type Loop struct {
	// DevDir is the server's device directory, with the nodes and the links
	// disk/by-id/virtio-<first 20 characters of the volume's id>.
	DevDir string
	// SysDir is where sysfs is mounted, /sys when empty.
	SysDir string
	// ProcDir is where procfs is mounted, /proc when empty.
	ProcDir string

	reads
}

// Find implements Finder. Disk.Path is the node in DevDir.
func (l *Loop) Find(ctx context.Context, volumeID string) (Disk, error) {
	if err := CheckVolumeID(volumeID); err != nil {
		return Disk{}, err
	}
	if err := ctx.Err(); err != nil {
		return Disk{}, fmt.Errorf("volume %s: look for its disk: %w", volumeID, err)
	}
	path, err := l.resolve(volumeID)
	if err != nil {
		return Disk{}, fmt.Errorf("volume %s: %w", volumeID, err)
	}
	number, err := nodeNumber(path)
	if err != nil {
		return Disk{}, fmt.Errorf("volume %s: %w", volumeID, err)
	}
	if unix.Major(number) != loopMajor {
		return Disk{}, fmt.Errorf("volume %s: %w: %s is device %s, not a loop device",
			volumeID, ErrUnsafe, path, FormatNumber(number))
	}
	sys := sysfs(cmp.Or(l.SysDir, "/sys"))
	name, err := sys.nameOf(number)
	if err != nil {
		return Disk{}, fmt.Errorf("volume %s: %w", volumeID, err)
	}
	sequence := sys.sequence(name)
	backing := sys.text(name, "loop", "backing_file")
	if backing == "" {
		return Disk{}, fmt.Errorf("volume %s: %w: %s (%s) has no backing file", volumeID, ErrNotFound, path, name)
	}
	if filepath.Base(backing) != "volume-"+strings.ToLower(volumeID) {
		return Disk{}, fmt.Errorf("volume %s: %w: %s (%s) is backed by %s", volumeID, ErrUnsafe, path, name, backing)
	}
	d, err := prove(sys, cmp.Or(l.ProcDir, "/proc"), volumeID, name, path)
	if err != nil {
		return Disk{}, err
	}
	if d.sequence != sequence {
		return Disk{}, fmt.Errorf("volume %s: %w: %s was replaced while it was looked at", volumeID, ErrNotFound, name)
	}
	return d, nil
}

// resolve follows the volume's by-id link, which must not leave DevDir.
func (l *Loop) resolve(volumeID string) (string, error) {
	link := filepath.Join(l.DevDir, "disk", "by-id", "virtio-"+strings.ToLower(volumeID)[:virtioSerialLength])
	path, err := filepath.EvalSymlinks(link)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%w: %s is missing or leads nowhere", ErrNotFound, link)
	}
	if err != nil {
		return "", fmt.Errorf("follow %s: %w", link, err)
	}
	root, err := filepath.EvalSymlinks(l.DevDir)
	if err != nil {
		return "", fmt.Errorf("device directory: %w", err)
	}
	inside, err := filepath.Rel(root, path)
	if err != nil || inside == ".." || strings.HasPrefix(inside, "../") {
		return "", fmt.Errorf("%w: %s leads to %s, outside of %s", ErrUnsafe, link, path, l.DevDir)
	}
	return filepath.Join(l.DevDir, inside), nil
}

// nameOf returns the name of the disk with that number.
func (s sysfs) nameOf(number uint64) (string, error) {
	path, err := filepath.EvalSymlinks(filepath.Join(string(s), "dev", "block", FormatNumber(number)))
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%w: device %s doesn't exist", ErrNotFound, FormatNumber(number))
	}
	if err != nil {
		return "", fmt.Errorf("name of device %s: %w", FormatNumber(number), err)
	}
	return filepath.Base(path), nil
}

// loopPoll is how often a loop device is looked for: nothing tells of its link.
const loopPoll = 50 * time.Millisecond

// Wait implements Finder.
func (l *Loop) Wait(ctx context.Context, volumeID string) (Disk, error) {
	return l.wait(ctx, loopPoll, func() []string { return nil }, func(ctx context.Context, _ <-chan struct{}) (Disk, error) {
		return l.Find(ctx, volumeID)
	})
}

// Candidates implements Finder: a development cloud shows one disk at most.
func (l *Loop) Candidates(ctx context.Context, volumeID string) ([]Disk, error) {
	d, err := l.Find(ctx, volumeID)
	if err != nil {
		return nil, err
	}
	return []Disk{d}, nil
}

// Mapping implements Finder. Mappings are the kernel's, which has their nodes in /dev.
func (l *Loop) Mapping(volumeID string) (Mapping, bool, error) {
	return (&System{SysDir: l.SysDir, ProcDir: l.ProcDir}).Mapping(volumeID)
}

// Mappings implements Finder.
func (l *Loop) Mappings() ([]Mapping, error) {
	return (&System{SysDir: l.SysDir, ProcDir: l.ProcDir}).Mappings()
}

// AttachLimit implements Finder: a development cloud has room for as many as Nova.
func (l *Loop) AttachLimit(context.Context) (int64, error) { return MaxAttached, nil }
