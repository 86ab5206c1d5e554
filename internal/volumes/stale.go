package volumes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// leftovers is what came of looking at Cinder's records of a volume.
type leftovers struct {
	// removed is how many records were stale and are gone now, inUse how many Nova
	// knows, and withoutServer the ids of those that name no server.
	removed, inUse int
	withoutServer  []string
}

// forgetStale removes Cinder's records of attachments that Nova knows nothing
// of: those to one server, or to any where serverID is empty. A record that
// Nova still uses, or may be about to use, is left alone.
func (s *Service) forgetStale(ctx context.Context, volumeID, serverID string) (leftovers, error) {
	var found leftovers
	records, err := s.cloud.ListAttachmentRecords(ctx, volumeID)
	if err != nil {
		return found, fmt.Errorf("reading Cinder's attachment records of volume %s: %w", volumeID, err)
	}
	for _, record := range records {
		switch {
		case serverID != "" && record.ServerID != serverID:
			continue
		case record.ServerID == "":
			found.withoutServer = append(found.withoutServer, record.ID)
			continue
		}
		known, err := s.knownToNova(ctx, record)
		if err != nil {
			return found, fmt.Errorf("asking Nova for volume %s on server %s: %w", volumeID, record.ServerID, unfinished(err))
		}
		if known {
			found.inUse++
			continue
		}
		if err := s.forgetRecord(ctx, record); err != nil {
			return found, err
		}
		found.removed++
	}
	return found, nil
}

// knownToNova reports whether Nova lists the attachment, or cannot be asked
// yet: it does not list the disks of a server that it is still building.
func (s *Service) knownToNova(ctx context.Context, record cloud.AttachmentRecord) (bool, error) {
	server, err := ifExists(s.cloud.GetServer(ctx, record.ServerID))
	switch {
	case err == nil && server == nil:
		return false, nil
	case err != nil || server.Status == "BUILD":
		return true, err
	}
	attachments, err := s.cloud.ListAttachments(ctx, record.ServerID)
	if errors.Is(err, cloud.ErrNotFound) {
		return false, nil
	}
	return slices.ContainsFunc(attachments, func(a cloud.ServerAttachment) bool { return a.VolumeID == record.VolumeID }), err
}

// forgetRecord removes one record. A refusal is told with what to do.
func (s *Service) forgetRecord(ctx context.Context, record cloud.AttachmentRecord) error {
	err := s.cloud.DeleteAttachmentRecord(ctx, record.ID)
	if err == nil || errors.Is(err, cloud.ErrNotFound) {
		logging.From(ctx).Info("removed a stale attachment of Cinder's",
			zap.String("attachment", record.ID), zap.String("serverID", record.ServerID), zap.String("status", record.Status))
		return nil
	}
	about := fmt.Sprintf("volume %s: Cinder keeps attachment %s (%s) to server %s, which Nova does not list",
		record.VolumeID, record.ID, record.Status, record.ServerID)
	var answer *cloud.Error
	switch {
	case errors.Is(err, cloud.ErrConflict):
		return fmt.Errorf("%s, and says that Nova uses it: run `openstack server remove volume %s %s`, or have an administrator delete the attachment: %w: %w",
			about, record.ServerID, record.VolumeID, ErrState, err)
	case errors.As(err, &answer) && answer.StatusCode == http.StatusInternalServerError:
		return fmt.Errorf("%s, and can't delete it: with an application credential Cinder is not able to ask Nova; "+
			"run `openstack --os-volume-api-version 3.27 volume attachment delete %s` as a user with a password: %w: %w", about, record.ID, ErrState, err)
	case final(err):
		return fmt.Errorf("%s: have an administrator delete it: %w: %w", about, ErrState, err)
	}
	return fmt.Errorf("%s: %w", about, unfinished(err))
}

// otherAttempt waits for an attachment that is under way: this call's own, when its
// answer was lost, or one to another server. What is left behind of one is removed.
func (a *attachment) otherAttempt(ctx context.Context) (again bool, err error) {
	var v *cloud.Volume
	wait := func(ctx context.Context) (err error) {
		v, err = a.s.waitVolume(ctx, a.volumeID, "attach volume", notTransitional)
		return err
	}
	late, err := within(ctx, a.s.opts.StaleWait, wait)
	if late {
		found, staleErr := a.s.forgetStale(ctx, a.volumeID, "")
		switch {
		case errors.Is(staleErr, cloud.ErrUnsupported), staleErr == nil && found.removed == 0 && found.inUse > 0:
			err = wait(ctx) // Nova is at work on it, however long that takes
		case staleErr != nil:
			return false, staleErr
		case found.removed > 0:
			return true, fmt.Errorf("volume %s had a stale attachment, which is removed: %w", a.volumeID, ErrUnfinished)
		default:
			return a.reservedForNobody(ctx, found)
		}
	}
	if err != nil {
		return false, fmt.Errorf("waiting for volume %s to be attached: %w", a.volumeID, unfinished(err))
	}
	return v != nil, fmt.Errorf("volume %s: %w: an attachment was under way", a.volumeID, ErrUnfinished)
}

// reservedForNobody reads a volume that was reserved without any server's attachment.
// again tells that it is free now.
func (a *attachment) reservedForNobody(ctx context.Context, found leftovers) (again bool, err error) {
	v, err := a.s.cloud.GetVolume(ctx, a.volumeID)
	switch {
	case errors.Is(err, cloud.ErrNotFound):
		return false, fmt.Errorf("attaching volume %s to server %s: %w", a.volumeID, a.serverID, err)
	case err != nil:
		return false, unfinished(err)
	case v.Status != cloud.VolumeReserved && v.Status != cloud.VolumeAttaching:
		return true, fmt.Errorf("volume %s was busy: %w", v.ID, ErrUnfinished)
	case len(found.withoutServer) > 0:
		return false, found.reservedElsewhere(v.ID)
	}
	return false, fmt.Errorf("volume %s has status %s, but Cinder records no attachment of it: %w: have an administrator run `openstack volume set --state available %s`",
		v.ID, v.Status, ErrState, v.ID)
}

// reservedElsewhere is the error for a volume that is reserved for no server of Nova's.
func (l leftovers) reservedElsewhere(volumeID string) error {
	return fmt.Errorf("volume %s is reserved for something that is no server of Nova's: %w: detach it there, or delete attachment %s",
		volumeID, ErrState, strings.Join(l.withoutServer, ", "))
}

// reservedNotDeleted looks into a volume that Cinder does not delete because it is
// reserved. again tells that it may be free now.
func (s *Service) reservedNotDeleted(ctx context.Context, id string) (again bool, why error) {
	late, err := within(ctx, s.opts.StaleWait, func(ctx context.Context) error {
		_, err := s.waitVolume(ctx, id, "attach volume", notTransitional)
		return err
	})
	switch {
	case err == nil:
		return true, fmt.Errorf("volume %s was being attached: %w", id, ErrUnfinished)
	case !late:
		return false, fmt.Errorf("volume %s is reserved: %w", id, unfinished(err))
	}
	found, err := s.forgetStale(ctx, id, "")
	switch {
	case err != nil && !errors.Is(err, cloud.ErrUnsupported):
		return false, err
	case len(found.withoutServer) > 0:
		return false, found.reservedElsewhere(id)
	}
	return found.removed > 0, fmt.Errorf("volume %s is reserved for an attachment: %w", id, ErrUnfinished)
}

// forget removes what Cinder keeps of an attachment to a server that does not
// have the volume, and waits until Cinder does not show it any more.
func (d *detachment) forget(ctx context.Context) error {
	_, err := d.s.forgetStale(ctx, d.volumeID, d.serverID)
	if errors.Is(err, cloud.ErrUnsupported) {
		return fmt.Errorf("volume %s: Cinder keeps an attachment to server %s that Nova does not know, and is too old to delete it: %w: "+
			"have an administrator run `openstack volume set --state available --detached %s`: %w", d.volumeID, d.serverID, ErrState, d.volumeID, err)
	}
	if err != nil {
		return err
	}
	late, err := d.released(ctx, "")
	if late {
		return fmt.Errorf("volume %s: %w: Cinder still shows it on server %s, of which it has no attachment any more", d.volumeID, ErrUnfinished, d.serverID)
	}
	return err
}

// released waits for a short time until Cinder does not show the volume on the server;
// late tells that this was not long enough.
func (d *detachment) released(ctx context.Context, operation string) (late bool, err error) {
	late, err = within(ctx, d.s.opts.StaleWait, func(ctx context.Context) error {
		_, err := d.s.waitVolume(ctx, d.volumeID, operation, func(v *cloud.Volume) (bool, error) {
			return v == nil || !v.AttachedTo(d.serverID), nil
		})
		return err
	})
	if err != nil {
		err = fmt.Errorf("waiting for Cinder to release volume %s from server %s: %w", d.volumeID, d.serverID, unfinished(err))
	}
	return late, err
}
