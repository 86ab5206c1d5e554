package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cinder-csi/cinder-csi/internal/inflight"
)

// labels are the names under which udev shows a config drive: Nova's label, and
// what becomes of it on a filesystem that knows capitals only.
func labels() []string { return []string{"config-2", "CONFIG-2"} }

// drives are the config drives of this server. What they hold is never written to.
type drives struct {
	// devDir is where links by label are to drives that are plain files, and disks returns
	// the paths of those disks that may be a drive; see Options.
	devDir string
	disks  func(context.Context) ([]string, error)
	// reads are under way of all drives together: a drive that hangs costs one goroutine,
	// however often this server asks who it is.
	reads inflight.Group[[]byte]
}

// metadata returns meta_data.json of the config drive.
func (d *drives) metadata(ctx context.Context) ([]byte, error) {
	return d.reads.DoAfter(ctx, "config drives", func() ([]byte, error) { return d.read(context.WithoutCancel(ctx)) })
}

// read returns meta_data.json of the config drive. Everything that has the
// label is looked at: udev has one link for all, and a volume to which somebody
// gave the label must not hide the real one. Two that tell different servers are
// both not believed.
func (d *drives) read(ctx context.Context) ([]byte, error) {
	paths, err := d.find(ctx)
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no config drive: %s has no file %s, and no CD-ROM, nor other disk that can't be a volume, has that label",
			filepath.Join(d.devDir, "disk", "by-label"), labels()[0])
	}
	var found []byte
	var id Identity
	var from string
	var failures []error
	for _, drive := range paths {
		data, err := readOne(drive)
		var own Identity
		if err == nil {
			own, err = parseMetadata(data)
		}
		switch {
		case err != nil:
			failures = append(failures, fmt.Errorf("config drive %s: %w", drive, err))
		case found == nil:
			found, id, from = data, own, drive
		case own.ServerID != id.ServerID:
			return nil, fmt.Errorf("config drives contradict each other: %s is of server %s, %s of %s", from, id.ServerID, drive, own.ServerID)
		}
	}
	if found == nil {
		return nil, errors.Join(failures...)
	}
	return found, nil
}

// find returns drives that are plain files, by their links, and all disks that have the
// label of a config drive themselves and may be one.
func (d *drives) find(ctx context.Context) ([]string, error) {
	var found []string
	for _, label := range labels() {
		path := filepath.Join(d.devDir, "disk", "by-label", label)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			found = append(found, path)
		}
	}
	if d.disks == nil {
		return found, nil
	}
	disks, err := d.disks(ctx)
	for _, path := range disks {
		if hasLabel(path) {
			found = append(found, path)
		}
	}
	return found, err
}

// readOne returns meta_data.json. An ISO 9660 filesystem is read here, which
// works without the kernel's isofs and leaves nothing to unmount; anything else
// is left to the kernel's vfat, the other format that Nova makes.
func readOne(drive string) ([]byte, error) {
	f, err := openDrive(drive)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := readISO(f, metadataPath)
	if !errors.Is(err, errNotISO) {
		return data, err
	}
	return readMounted(drive, "vfat")
}
