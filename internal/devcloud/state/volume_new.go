package state

import (
	"slices"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// origin is what a new volume is made from. A volume that is made of nothing
// has none of it.
type origin struct {
	// what is its kind in Cinder's words.
	what string
	// size is in GiB; a backup has neither type nor zone.
	size         int64
	typeID, zone string
	// status is Cinder's word on an origin that isn't ready.
	status error
	// small is its word on a volume of the size that is asked for.
	small error
}

// newVolume checks a specification and completes it, in the order of Cinder:
// what is named is looked up, the type has to fit the origin, then come the
// origin's status, the size, and the zone. Only under the lock.
func (c *Cloud) newVolume(call Call, spec VolumeSpec) (Volume, error) {
	v := Volume{
		ID: newID(), ProjectID: call.ProjectID, UserID: call.UserID, Name: spec.Name, Description: spec.Description,
		Size: spec.Size, Status: "creating", SnapshotID: spec.SnapshotID, SourceID: spec.SourceID,
		BackupID: spec.BackupID, Metadata: spec.Metadata, CreatedAt: now().Add(-time.Duration(c.Behaviour().MadeEarlier)),
	}
	kind, err := c.findType(spec.Type)
	if err != nil {
		return v, err
	}
	from, err := c.originOf(call, spec)
	if err != nil {
		return v, err
	}
	if original, ok := c.types.Get(from.typeID); ok {
		if spec.Type == "" {
			kind = original
		} else if kind.Backend != original.Backend {
			advice := "either match source volume, or omit type argument"
			if spec.SnapshotID != "" {
				advice = "recommend omitting the type argument"
			}
			return v, rest.BadRequest("Invalid input received: Invalid volume_type provided: %s (requested type is not compatible; %s).", kind.ID, advice)
		}
	}
	if from.status != nil {
		return v, from.status
	}
	if v.Size == 0 {
		v.Size = from.size
	}
	if v.Size < from.size {
		return v, from.small
	}
	if v.Zone, err = c.newZone(spec.Zone, kind, from); err != nil {
		return v, err
	}
	// Since Cinder's microversion 3.50 only the type decides; before it a member
	// was allowed to ask for a single volume.
	v.TypeID, v.Multiattach = kind.ID, kind.Multiattach() || spec.Multiattach
	v.Seq = c.nextSeq()
	return v, nil
}

// newZone is the zone of a new volume, "" where the scheduler chooses among
// those of its type. Only under the lock.
func (c *Cloud) newZone(zone string, kind VolumeType, from origin) (string, error) {
	named, limited := kind.Zones()
	allowed := slices.DeleteFunc(slices.Clone(named), func(zone string) bool { return !c.zoneExists(zone) })
	if limited && len(allowed) == 0 {
		return "", rest.BadRequest("Volume type is only supported in these availability zones: %s", rest.PythonList(named))
	}
	if zone == "" {
		zone = from.zone
	}
	if zone == "" && !limited {
		zone = DefaultZone
	}
	if zone != "" && (!c.zoneExists(zone) || limited && !oneOf(zone, allowed...)) {
		if !c.Behaviour().ZoneFallback {
			return "", rest.BadRequest("Availability zone '%s' is invalid.", zone)
		}
		zone = DefaultZone // also where the type isn't there
	}
	if zone != "" && from.zone != "" && zone != from.zone {
		return "", rest.BadRequest("Invalid input received: Volume must be in the same availability zone as the %s", from.what)
	}
	if zone == "" && len(allowed) == 1 {
		zone = allowed[0]
	}
	return zone, nil
}

// originOf looks up what a volume shall be made from. Only under the lock.
func (c *Cloud) originOf(call Call, spec VolumeSpec) (from origin, err error) {
	switch {
	case spec.SnapshotID != "":
		s, ok := c.snapshots.Get(spec.SnapshotID)
		if !ok || !call.sees(s.ProjectID) {
			return from, rest.NotFound("Snapshot %s could not be found.", spec.SnapshotID)
		}
		source, _ := c.volumes.Get(s.VolumeID)
		from = origin{what: "snapshot", size: s.Size, typeID: s.TypeID, zone: source.Zone}
		if s.Status != "available" {
			from.status = rest.BadRequest("Invalid snapshot: Originating snapshot status must be one of 'available' values")
		}
		from.small = rest.BadRequest("Invalid input received: Volume size '%d'GB cannot be smaller than the snapshot size %dGB. They must be >= original snapshot size.", spec.Size, s.Size)
	case spec.SourceID != "":
		source, ok := c.volumes.Get(spec.SourceID)
		if !ok || !call.sees(source.ProjectID) {
			return from, rest.NotFound("Volume %s could not be found.", spec.SourceID)
		}
		from = origin{what: "source volume", size: source.Size, typeID: source.TypeID, zone: source.Zone}
		if !oneOf(source.Status, "available", "in-use") {
			from.status = rest.BadRequest("Invalid volume: Originating source volume status must be one of 'available, in-use' values")
		}
		from.small = rest.BadRequest("Invalid input received: Volume size '%d'GB cannot be smaller than original volume size  %dGB. They must be >= original volume size.", spec.Size, source.Size)
	case spec.BackupID != "":
		b, ok := c.backups.Get(spec.BackupID)
		if !ok || !call.sees(b.ProjectID) {
			return from, rest.NotFound("Backup %s could not be found.", spec.BackupID)
		}
		from = origin{what: "backup", size: b.Size}
		if b.Status != "available" {
			from.status = rest.BadRequest("Invalid backup: Originating backup status must be one of 'available' values")
		}
		from.small = rest.BadRequest("Invalid input received: Volume size %dGB cannot be smaller than the backup size %dGB. It must be >= backup size.", spec.Size, b.Size)
	}
	return from, nil
}
