package state

import "errors"

// ErrDeviceBusy is what a data plane's errors wrap when a device cannot be
// taken from a server because something on it still holds it open.
var ErrDeviceBusy = errors.New("device is busy")

// Plane is where the data is. Every method may be repeated. Sizes are in bytes;
// servers are named by their keys.
type Plane interface {
	CreateVolume(volumeID string, size int64) error
	CloneVolume(volumeID, sourceID string, size int64) error
	VolumeFromSnapshot(volumeID, snapshotID string, size int64) error
	VolumeFromBackup(volumeID, backupID string, size int64) error
	// RestoreVolume replaces the content of a volume, or makes it.
	RestoreVolume(volumeID, backupID string, size int64) error
	ExtendVolume(volumeID string, size int64) error
	GrowAttached(volumeID string) error
	DeleteVolume(volumeID string) error
	CreateSnapshot(snapshotID, volumeID string) error
	DeleteSnapshot(snapshotID string) error
	BackupVolume(backupID, volumeID string) error
	BackupSnapshot(backupID, snapshotID string) error
	DeleteBackup(backupID string) error
	Attach(server, volumeID string) error
	Detach(server, volumeID string) error
	AddServer(server string, configDrive map[string][]byte) error
	RemoveServer(server string) error
	// Files names the files that the backend holds, known to Cinder or not.
	Files() ([]string, error)
}

// NoPlane is a data plane without data.
type NoPlane struct{}

// CreateVolume does nothing, as all methods of NoPlane.
func (NoPlane) CreateVolume(string, int64) error { return nil }

// CloneVolume does nothing.
func (NoPlane) CloneVolume(string, string, int64) error { return nil }

// VolumeFromSnapshot does nothing.
func (NoPlane) VolumeFromSnapshot(string, string, int64) error { return nil }

// VolumeFromBackup does nothing.
func (NoPlane) VolumeFromBackup(string, string, int64) error { return nil }

// RestoreVolume does nothing.
func (NoPlane) RestoreVolume(string, string, int64) error { return nil }

// ExtendVolume does nothing.
func (NoPlane) ExtendVolume(string, int64) error { return nil }

// GrowAttached does nothing.
func (NoPlane) GrowAttached(string) error { return nil }

// DeleteVolume does nothing.
func (NoPlane) DeleteVolume(string) error { return nil }

// CreateSnapshot does nothing.
func (NoPlane) CreateSnapshot(string, string) error { return nil }

// DeleteSnapshot does nothing.
func (NoPlane) DeleteSnapshot(string) error { return nil }

// BackupVolume does nothing.
func (NoPlane) BackupVolume(string, string) error { return nil }

// BackupSnapshot does nothing.
func (NoPlane) BackupSnapshot(string, string) error { return nil }

// DeleteBackup does nothing.
func (NoPlane) DeleteBackup(string) error { return nil }

// Attach does nothing.
func (NoPlane) Attach(string, string) error { return nil }

// Detach does nothing.
func (NoPlane) Detach(string, string) error { return nil }

// AddServer does nothing.
func (NoPlane) AddServer(string, map[string][]byte) error { return nil }

// RemoveServer does nothing.
func (NoPlane) RemoveServer(string) error { return nil }

// Files returns none.
func (NoPlane) Files() ([]string, error) { return nil, nil }
