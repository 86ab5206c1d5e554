package blockdev

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// emptyError is the error for a disk that is there and can't be read. The kernel asks
// a SCSI disk for its capacity once: one that didn't answer at that moment, or has
// come back to its place on a host that announces nothing, has none for ever.
type emptyError struct{ Disk }

func (e emptyError) Error() string { return e.Path + " has no capacity (yet)" }

// lookAgain has the kernel ask for the capacity.
func (e emptyError) lookAgain(ctx context.Context) {
	if _, err := rescan(e.Disk); err != nil {
		logging.From(ctx).Warn("a disk without capacity could not be looked at again", zap.String("disk", e.Path), zap.Error(err))
	}
}

// prove builds the Disk of a volume that goes by name in sysfs and by path in
// the device directory, or says why it must not be touched.
func prove(sys sysfs, procDir, volumeID, name, path string) (Disk, error) {
	number, err := sys.number(name)
	if err != nil {
		return Disk{}, fmt.Errorf("volume %s: %w", volumeID, err)
	}
	d := Disk{
		VolumeID: volumeID, Path: path, Name: name, Number: number, Size: sys.size(name),
		sysDir: string(sys), procDir: procDir, sequence: sys.sequence(name),
	}
	if err := d.Verify(); err != nil {
		return Disk{}, err
	}
	if d.Size == 0 {
		return Disk{}, fmt.Errorf("volume %s: %w: %w", volumeID, ErrNotFound, emptyError{d})
	}
	users, err := foreignHolders(d)
	if err != nil {
		return Disk{}, fmt.Errorf("volume %s: %w", volumeID, err)
	}
	if len(users) > 0 {
		return Disk{}, fmt.Errorf("volume %s: %w: %s is used by %s", volumeID, ErrUnsafe, path, strings.Join(users, ", "))
	}
	return d, nil
}

// or returns value, or fallback where it is empty.
func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return filepath.Clean(value)
}
