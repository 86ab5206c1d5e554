package devcloud

import (
	"errors"
	"fmt"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

// loopPlane is the data plane of files and loop devices.
type loopPlane struct{ disks *disk.Store }

var _ state.Plane = loopPlane{}

func (p loopPlane) CreateVolume(id string, size int64) error { return p.disks.Create(id, size) }

func (p loopPlane) CloneVolume(id, source string, size int64) error {
	return p.disks.Copy(id, disk.FromVolume(source), size)
}

func (p loopPlane) VolumeFromSnapshot(id, snapshot string, size int64) error {
	return p.disks.Copy(id, disk.FromSnapshot(snapshot), size)
}

func (p loopPlane) VolumeFromBackup(id, backup string, size int64) error {
	return p.disks.Copy(id, disk.FromBackup(backup), size)
}

func (p loopPlane) RestoreVolume(id, backup string, size int64) error {
	if _, err := p.disks.Size(disk.FromVolume(id)); errors.Is(err, disk.ErrNotFound) {
		return p.VolumeFromBackup(id, backup, size)
	}
	return p.disks.Restore(id, disk.FromBackup(backup))
}

func (p loopPlane) ExtendVolume(id string, size int64) error { return p.disks.Extend(id, size) }

func (p loopPlane) GrowAttached(id string) error { return p.disks.GrowAttached(id) }

func (p loopPlane) DeleteVolume(id string) error { return p.disks.DeleteVolume(id) }

func (p loopPlane) CreateSnapshot(id, volume string) error { return p.disks.Snapshot(id, volume) }

func (p loopPlane) DeleteSnapshot(id string) error { return p.disks.DeleteSnapshot(id) }

func (p loopPlane) BackupVolume(id, volume string) error {
	return p.disks.Backup(id, disk.FromVolume(volume))
}

func (p loopPlane) BackupSnapshot(id, snapshot string) error {
	return p.disks.Backup(id, disk.FromSnapshot(snapshot))
}

func (p loopPlane) DeleteBackup(id string) error { return p.disks.DeleteBackup(id) }

func (p loopPlane) Attach(server, volume string) error {
	_, err := p.disks.Attach(server, volume, false)
	return err
}

func (p loopPlane) Detach(server, volume string) error {
	return busy(p.disks.Detach(server, volume))
}

func (p loopPlane) AddServer(server string, drive map[string][]byte) error {
	return p.disks.AddServer(server, drive)
}

func (p loopPlane) RemoveServer(server string) error { return busy(p.disks.RemoveServer(server)) }

func (p loopPlane) Files() ([]string, error) {
	var files []string
	for _, kind := range []disk.Kind{disk.KindVolume, disk.KindSnapshot, disk.KindBackup} {
		ids, err := p.disks.List(kind)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			files = append(files, p.disks.Path(disk.Source{Kind: kind, ID: id}))
		}
	}
	return files, nil
}

// busy translates the one error that the state machines act upon.
func busy(err error) error {
	if errors.Is(err, disk.ErrInUse) {
		return fmt.Errorf("%w: %w", state.ErrDeviceBusy, err)
	}
	return err
}
