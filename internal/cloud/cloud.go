// Package cloud is the vocabulary that the domain speaks about an OpenStack
// cloud: volumes, snapshots, backups, attachments and the errors a cloud can
// answer with. It holds no behaviour and knows no other package of the driver;
// internal/openstack implements its interfaces, internal/volumes uses them.
package cloud

import (
	"context"
	"time"
)

// VolumeStatus is the status of a volume as Cinder reports it.
type VolumeStatus string

// The statuses of a volume that the driver acts upon. Cinder knows more; an
// unlisted one is treated as "busy with something else".
const (
	VolumeCreating        VolumeStatus = "creating"
	VolumeDownloading     VolumeStatus = "downloading"
	VolumeAvailable       VolumeStatus = "available"
	VolumeReserved        VolumeStatus = "reserved"
	VolumeAttaching       VolumeStatus = "attaching"
	VolumeInUse           VolumeStatus = "in-use"
	VolumeDetaching       VolumeStatus = "detaching"
	VolumeExtending       VolumeStatus = "extending"
	VolumeRetyping        VolumeStatus = "retyping"
	VolumeMaintenance     VolumeStatus = "maintenance"
	VolumeBackingUp       VolumeStatus = "backing-up"
	VolumeRestoringBackup VolumeStatus = "restoring-backup"
	VolumeDeleting        VolumeStatus = "deleting"
	VolumeError           VolumeStatus = "error"
	VolumeErrorDeleting   VolumeStatus = "error_deleting"
	VolumeErrorExtending  VolumeStatus = "error_extending"
	VolumeErrorRestoring  VolumeStatus = "error_restoring"
)

// Transitional reports whether Cinder is still working on the volume, so that
// the status changes without a further request.
func (s VolumeStatus) Transitional() bool {
	switch s {
	case VolumeCreating, VolumeDownloading, VolumeReserved, VolumeAttaching, VolumeDetaching,
		VolumeExtending, VolumeRetyping, VolumeMaintenance, VolumeBackingUp, VolumeRestoringBackup, VolumeDeleting:
		return true
	}
	return false
}

// Volume is a Cinder volume.
type Volume struct {
	ID   string
	Name string
	// SizeGiB is the size in GiB (2^30 bytes), the only unit that Cinder has.
	SizeGiB int64
	Status  VolumeStatus
	// Type is the name of the volume type, as Cinder reports it.
	Type string
	// Zone is Cinder's availability zone, unchanged.
	Zone string
	// SnapshotID, SourceVolumeID and BackupID name what the volume was made
	// from; at most one is set. BackupID needs microversion 3.47 to be known.
	SnapshotID     string
	SourceVolumeID string
	BackupID       string
	Metadata       map[string]string
	// Attachments are the servers that Cinder believes the volume attached to.
	// Nova may know better: see ServerAttachment.
	Attachments []Attachment
	Multiattach bool
	CreatedAt   time.Time
}

// AttachedTo reports whether Cinder lists serverID among the attachments.
func (v *Volume) AttachedTo(serverID string) bool {
	for _, a := range v.Attachments {
		if a.ServerID == serverID {
			return true
		}
	}
	return false
}

// Attachment is an attachment as Cinder sees it.
type Attachment struct {
	ID       string
	ServerID string
	// Device is the name that the hypervisor proposed. The guest may have
	// chosen another: it is never used to find a disk.
	Device string
}

// VolumeRequest asks for a new volume. At most one of SnapshotID,
// SourceVolumeID and BackupID is set.
type VolumeRequest struct {
	Name        string
	Description string
	SizeGiB     int64
	// Type and Zone are left to Cinder's defaults where they are empty.
	Type           string
	Zone           string
	SnapshotID     string
	SourceVolumeID string
	BackupID       string
	Metadata       map[string]string
	// SameHost and DifferentHost are ids of volumes whose back end host the
	// scheduler is to choose, or to avoid.
	SameHost      []string
	DifferentHost []string
}

// VolumeType is a kind of volumes.
type VolumeType struct {
	ID, Name string
	// ExtraSpecs are what the operator wants of its back end: those that the
	// account may read. Nil: the account may read none of them.
	ExtraSpecs map[string]string
}

// Fault is Cinder's newest user message about a thing; the zero value where there
// is none.
type Fault struct {
	// Text is the message, for people.
	Text string
	// Creation tells that the thing could not be created: it never was usable.
	Creation bool
	// NoRoom tells that no back end of the wanted type and zone could take it.
	NoRoom bool
}

// String returns the message, or that there is none.
func (f Fault) String() string {
	if f.Text == "" {
		return "Cinder gives no cause"
	}
	return f.Text
}

// Pool is a part of a back end on which the scheduler places volumes.
type Pool struct {
	// Name is host@backend#pool, Backend what types ask for as
	// volume_backend_name, and Zone empty where the account may not know it.
	Name, Backend, Zone string
	// FreeGiB is how much the scheduler would still place there, -1 where that
	// is unknown or has no end.
	FreeGiB int64
}

// Quota is what a project may have, by Cinder's names: volumes, gigabytes,
// per_volume_gigabytes, and the first two followed by '_' and a volume type.
type Quota struct {
	Lines map[string]QuotaLine
}

// QuotaLine is one limit, -1 for none, and how much of it is used up.
type QuotaLine struct {
	Limit, Used int64
}

// VolumeFilter selects volumes by equality; an empty name selects all.
type VolumeFilter struct{ Name string }

// Page asks for one page of a list.
type Page struct {
	// Limit is the largest number of entries wanted; 0 leaves it to the cloud
	// (Cinder's default is 1000).
	Limit int
	// Marker is the id of the last entry of the page before; empty for the
	// first page.
	Marker string
	// Recent asks for those volumes first that have changed last. It is for whoever
	// concludes from what the page lacks: where the cloud may have left something out, the
	// marker of the next page is not empty.
	Recent bool
	// Stable asks for an order in which a place can be found again: newest
	// first, those of one moment by descending id. It is Cinder's own.
	Stable bool
	// MarkerCreated is when the entry of Marker was created, zero where unknown.
	// With it a stable list goes on even if that entry is gone.
	MarkerCreated time.Time
}

// SnapshotStatus is the status of a snapshot as Cinder reports it.
type SnapshotStatus string

// The statuses of a snapshot that the driver acts upon.
const (
	SnapshotCreating      SnapshotStatus = "creating"
	SnapshotAvailable     SnapshotStatus = "available"
	SnapshotDeleting      SnapshotStatus = "deleting"
	SnapshotError         SnapshotStatus = "error"
	SnapshotErrorDeleting SnapshotStatus = "error_deleting"
)

// Snapshot is a Cinder snapshot.
type Snapshot struct {
	ID        string
	Name      string
	VolumeID  string
	SizeGiB   int64
	Status    SnapshotStatus
	Metadata  map[string]string
	CreatedAt time.Time
}

// SnapshotRequest asks for a new snapshot.
type SnapshotRequest struct {
	VolumeID    string
	Name        string
	Description string
	Metadata    map[string]string
}

// SnapshotFilter selects snapshots by equality; empty fields select all.
type SnapshotFilter struct{ Name, VolumeID string }

// BackupStatus is the status of a backup as Cinder reports it.
type BackupStatus string

// The statuses of a backup that the driver acts upon.
const (
	BackupCreating      BackupStatus = "creating"
	BackupAvailable     BackupStatus = "available"
	BackupRestoring     BackupStatus = "restoring"
	BackupDeleting      BackupStatus = "deleting"
	BackupError         BackupStatus = "error"
	BackupErrorDeleting BackupStatus = "error_deleting"
)

// Backup is a Cinder backup.
type Backup struct {
	ID         string
	Name       string
	VolumeID   string
	SnapshotID string
	SizeGiB    int64
	Status     BackupStatus
	Zone       string
	Metadata   map[string]string
	FailReason string
	CreatedAt  time.Time
	// HasDependents tells that incremental backups build on this one: Cinder keeps it
	// for them.
	HasDependents bool
}

// BackupRequest asks for a new backup of a volume, or of one of its snapshots.
type BackupRequest struct {
	VolumeID    string
	SnapshotID  string
	Name        string
	Description string
	Zone        string
	Metadata    map[string]string
	// Incremental asks for what has changed since the newest backup of the volume
	// only. Cinder answers ErrInvalid unless that one is available.
	Incremental bool
}

// BackupFilter selects backups by equality; empty fields select all.
type BackupFilter struct{ Name, VolumeID string }

// ServerAttachment is an attachment as Nova sees it.
type ServerAttachment struct {
	VolumeID string
	// Device is the name that Nova proposed to the hypervisor; see
	// Attachment.Device.
	Device string
}

// AttachmentRecord is Cinder's own record of an attachment, which exists from
// the moment that somebody reserves a volume. Cinder may keep one that Nova
// knows nothing of (any more).
type AttachmentRecord struct {
	ID       string
	VolumeID string
	// ServerID is empty where the volume was reserved for no server of Nova's.
	ServerID string
	// Status is reserved, attaching, attached or detaching.
	Status string
}

// Server is a Nova server.
type Server struct {
	ID     string
	Status string
}

// Cloud is everything that the driver asks of one OpenStack cloud. Every method
// returns errors of this package, see Error; a method that changes something returns
// as soon as the cloud has accepted it.
type Cloud interface {
	// Cinder: volumes.

	// CreateVolume asks for a volume and returns it as Cinder answered,
	// usually in VolumeCreating.
	CreateVolume(ctx context.Context, req VolumeRequest) (*Volume, error)
	// GetVolume returns ErrNotFound for an unknown id and for one that is
	// not a UUID.
	GetVolume(ctx context.Context, id string) (*Volume, error)
	// ListVolumes returns one page and the marker of the next one, empty
	// after the last. What the filter selects has been compared again here,
	// whatever the server made of it.
	ListVolumes(ctx context.Context, filter VolumeFilter, page Page) (volumes []Volume, next string, err error)
	// ExtendVolume grows a volume; inUse tells that it is attached, which
	// needs microversion 3.42.
	ExtendVolume(ctx context.Context, id string, sizeGiB int64, inUse bool) error
	DeleteVolume(ctx context.Context, id string) error
	// RetypeVolume changes the type of a volume; migrate allows Cinder to copy
	// it to another back end. The volume may come back with its old type.
	RetypeVolume(ctx context.Context, id, volumeType string, migrate bool) error
	// SetVolumeMetadata adds to the metadata of a volume.
	SetVolumeMetadata(ctx context.Context, id string, metadata map[string]string) error
	// VolumeFault returns the newest of Cinder's user messages about a
	// volume; none where there is none or the cloud is too old (3.3).
	VolumeFault(ctx context.Context, id string) (Fault, error)

	// Cinder: snapshots.

	CreateSnapshot(ctx context.Context, req SnapshotRequest) (*Snapshot, error)
	GetSnapshot(ctx context.Context, id string) (*Snapshot, error)
	ListSnapshots(ctx context.Context, filter SnapshotFilter, page Page) (snapshots []Snapshot, next string, err error)
	DeleteSnapshot(ctx context.Context, id string) error
	// SnapshotFault returns the newest of Cinder's user messages about a
	// snapshot; none where there is none or the cloud is too old.
	SnapshotFault(ctx context.Context, id string) (Fault, error)

	// Cinder: backups.

	CreateBackup(ctx context.Context, req BackupRequest) (*Backup, error)
	GetBackup(ctx context.Context, id string) (*Backup, error)
	ListBackups(ctx context.Context, filter BackupFilter, page Page) (backups []Backup, next string, err error)
	DeleteBackup(ctx context.Context, id string) error

	// Nova.

	// GetServer returns ErrNotFound for an unknown id and for one that is
	// not a UUID.
	GetServer(ctx context.Context, id string) (*Server, error)
	// ListAttachments returns the volumes of one server, as Nova sees them.
	ListAttachments(ctx context.Context, serverID string) ([]ServerAttachment, error)
	// AttachVolume returns when Nova has accepted the attachment, which may
	// still fail: Nova's and Cinder's state have to be read afterwards.
	AttachVolume(ctx context.Context, serverID, volumeID string) (*ServerAttachment, error)
	// DetachVolume returns when Nova has accepted the detachment, which may
	// still fail or take minutes.
	DetachVolume(ctx context.Context, serverID, volumeID string) error

	// Cinder: attachments that Nova has left behind. Both need microversion 3.27.

	ListAttachmentRecords(ctx context.Context, volumeID string) ([]AttachmentRecord, error)
	// DeleteAttachmentRecord returns ErrConflict while Nova still uses the
	// attachment, and ErrUnavailable where Cinder can't find out: it asks Nova
	// with the caller's token, which Keystone does not allow for one of an
	// application credential.
	DeleteAttachmentRecord(ctx context.Context, id string) error

	// Cinder: availability zones.

	// ListZones returns the names of all zones. They may be some minutes old.
	ListZones(ctx context.Context) ([]string, error)

	// Cinder: volume types.

	// ListVolumeTypes returns the types that the account may use. They may be a
	// minute old.
	ListVolumeTypes(ctx context.Context) ([]VolumeType, error)
	// DefaultVolumeType returns the type of volumes whose creator names none. It
	// may be a minute old. It returns ErrNotFound where there is none.
	DefaultVolumeType(ctx context.Context) (VolumeType, error)

	// Cinder: room for more. What is returned may be some seconds old.

	// ListPools returns ErrForbidden where the account is no administrator's.
	ListPools(ctx context.Context) ([]Pool, error)
	// Quota returns the quota of the project.
	Quota(ctx context.Context) (Quota, error)
}
