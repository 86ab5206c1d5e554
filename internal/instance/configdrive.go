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
)

// labels are the names under which udev shows a config drive: Nova's label, and
// what becomes of it on a filesystem that knows capitals only.
func labels() []string { return []string{"config-2", "CONFIG-2"} }

// fromConfigDrive reads the config drive below devDir. What it finds is never
// written to.
func fromConfigDrive(ctx context.Context, devDir string) (Identity, error) {
	data, err := readDrives(ctx, devDir)
	if err != nil {
		return Identity{}, err
	}
	return parseMetadata(data)
}

// readDrives returns meta_data.json of the config drive. Everything that has the
// label is looked at: udev has one link for all, and a volume to which somebody
// gave the label must not hide the real one. Two that tell different servers are
// both not believed.
func readDrives(ctx context.Context, devDir string) ([]byte, error) {
	drives := findDrives(devDir)
	if len(drives) == 0 {
		return nil, fmt.Errorf("no config drive: %s has neither %s nor %s, and no disk has that label",
			filepath.Join(devDir, "disk", "by-label"), labels()[0], labels()[1])
	}
	var found []byte
	var id Identity
	var from string
	var failures []error
	for _, drive := range drives {
		data, err := readDrive(ctx, drive)
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

// findDrives returns what udev's links by label lead to, and all disks that have
// the label themselves and aren't volumes.
func findDrives(devDir string) []string {
	var drives []string
	for _, label := range labels() {
		path := filepath.Join(devDir, "disk", "by-label", label)
		resolved, err := filepath.EvalSymlinks(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			resolved = path // reading it tells what is wrong
		}
		drives = append(drives, resolved)
	}
	entries, err := os.ReadDir(filepath.Join(sysDir, "block"))
	if err != nil {
		return drives // links will have to do
	}
	for _, e := range entries {
		path := filepath.Join(devDir, strings.ReplaceAll(e.Name(), "!", "/"))
		if !slices.Contains(drives, path) && labelled(path) {
			drives = append(drives, path)
		}
	}
	return drives
}

// labelled tells whether a disk is no volume and has the label of a config drive.
func labelled(path string) bool {
	f, err := openDrive(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return checkDrive(f, sysDir) == nil && hasLabel(f)
}

// readDrive returns meta_data.json. An ISO 9660 filesystem is read here, which
// works without the kernel's isofs and leaves nothing to unmount; anything else
// is left to the kernel's vfat, the other format that Nova makes.
func readDrive(ctx context.Context, drive string) ([]byte, error) {
	f, err := openDrive(drive)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := checkDrive(f, sysDir); err != nil {
		return nil, err
	}
	data, err := readISO(f, metadataPath)
	if !errors.Is(err, errNotISO) {
		return data, err
	}
	return readMounted(ctx, drive, "vfat")
}
