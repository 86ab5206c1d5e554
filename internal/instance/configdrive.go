package instance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/inflight"
)

// labels are the names under which udev shows a config drive: Nova's label, and
// what becomes of it on a filesystem that knows capitals only.
func labels() []string { return []string{"config-2", "CONFIG-2"} }

// drives are the config drives of this server. What they hold is never written to.
type drives struct {
	// devDir and sysDir are where the kernel shows devices.
	devDir, sysDir string
	// reads are under way, of serials by path and of all drives together: a drive that
	// hangs costs one goroutine, however often this server asks who it is.
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
	paths := d.find(ctx)
	if len(paths) == 0 {
		return nil, fmt.Errorf("no config drive: %s has neither %s nor %s, and no disk has that label",
			filepath.Join(d.devDir, "disk", "by-label"), labels()[0], labels()[1])
	}
	var found []byte
	var id Identity
	var from string
	var failures []error
	for _, drive := range paths {
		data, err := d.readOne(ctx, drive)
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

// find returns what udev's links by label lead to, and all disks that have
// the label themselves and aren't volumes.
func (d *drives) find(ctx context.Context) []string {
	var found []string
	for _, label := range labels() {
		path := filepath.Join(d.devDir, "disk", "by-label", label)
		resolved, err := filepath.EvalSymlinks(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			resolved = path // reading it tells what is wrong
		}
		found = append(found, resolved)
	}
	entries, err := os.ReadDir(filepath.Join(d.sysDir, "block"))
	if err != nil {
		return found // links will have to do
	}
	for _, e := range entries {
		path := filepath.Join(d.devDir, strings.ReplaceAll(e.Name(), "!", "/"))
		if slices.Contains(found, path) || d.checkDevice(ctx, filepath.Join(d.sysDir, "block", e.Name())) != nil {
			continue
		}
		if hasLabel(path) {
			found = append(found, path)
		}
	}
	return found
}

// readOne returns meta_data.json. An ISO 9660 filesystem is read here, which
// works without the kernel's isofs and leaves nothing to unmount; anything else
// is left to the kernel's vfat, the other format that Nova makes.
func (d *drives) readOne(ctx context.Context, drive string) ([]byte, error) {
	f, err := openDrive(drive)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := d.check(ctx, f); err != nil {
		return nil, err
	}
	data, err := readISO(f, metadataPath)
	if !errors.Is(err, errNotISO) {
		return data, err
	}
	return readMounted(drive, "vfat")
}
