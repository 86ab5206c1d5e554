package instance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// labels are the names under which udev shows a config drive: Nova's label, and
// what becomes of it on a filesystem that knows capitals only.
func labels() []string { return []string{"config-2", "CONFIG-2"} }

// fromConfigDrive reads the config drive below devDir. What it finds is never
// written to.
func fromConfigDrive(ctx context.Context, devDir string) (Identity, error) {
	drive, err := findDrive(devDir)
	if err != nil {
		return Identity{}, err
	}
	data, err := readDrive(ctx, drive)
	if err != nil {
		return Identity{}, fmt.Errorf("config drive %s: %w", drive, err)
	}
	id, err := parseMetadata(data)
	if err != nil {
		return Identity{}, fmt.Errorf("config drive %s: %w", drive, err)
	}
	return id, nil
}

func findDrive(devDir string) (string, error) {
	dir := filepath.Join(devDir, "disk", "by-label")
	for _, label := range labels() {
		path := filepath.Join(dir, label)
		resolved, err := filepath.EvalSymlinks(path)
		if err == nil {
			return resolved, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("config drive %s: %w", path, err)
		}
	}
	return "", fmt.Errorf("no config drive: %s has neither %s nor %s", dir, labels()[0], labels()[1])
}

// readDrive returns meta_data.json. An ISO 9660 filesystem is read here, which
// works without the kernel's isofs and leaves nothing to unmount; anything else
// is left to the kernel's vfat, the other format that Nova makes.
func readDrive(ctx context.Context, drive string) ([]byte, error) {
	f, err := os.Open(drive) // #nosec G304 -- a device by its label
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
