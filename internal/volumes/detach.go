package volumes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// How a volume is detached: Nova is asked, once, and what it accepted is waited for.
// When it refuses, or its answer is lost, the volume is read, and the first line that
// fits counts:
//
//	answer of Nova             volume in Cinder           what follows
//	any                        gone                       done
//	not found                  reserved, attaching        waited for; attached to this server: once more
//	not found                  not on this server         done
//	not found                  on this server             Cinder is waited for, then its stale record is removed
//	any                        not on this server         done, once Nova does not list it; else ErrUnfinished
//	any                        detaching                  waited for
//	locked, in error, rescued  any                        cloud.ErrServerState
//	any                        attaching, extending, …    waited for; once more
//	none, or 5xx               any                        ErrUnfinished
//	busy                       any                        once more
//	any                        in use                     once more
//	any                        other                      ErrState
//
// All waits end when the server has finished nothing for a while, see bulkheads.

// Detach returns when the volume is detached from the server: neither Nova nor
// Cinder lists it there. An empty serverID means all servers. A server or a
// volume that does not exist is success, once Cinder agrees. It returns
// ErrState for a volume that Nova cannot detach in its present state, and
// cloud.ErrServerState when Nova changes nothing on the server. ErrBusy and
// ErrUnfinished ask for a repetition after a pause.
func (s *Service) Detach(ctx context.Context, volumeID, serverID string) (err error) {
	volumeID, serverID = canonicalID(volumeID), canonicalID(serverID)
	if !isID(volumeID) || serverID != "" && !isID(serverID) {
		return nil
	}
	if serverID != "" { // asked for also while an attachment to another server waits for it in this call's place
		var end func(error) error
		ctx, end = s.operation(ctx, volumeDetach, volumeID, serverID)
		defer func() { err = end(err) }()
	}
	unlock, err := s.lock(ctx, "volume", volumeID)
	if err != nil {
		return err
	}
	defer unlock()
	if serverID != "" {
		return s.detachFrom(ctx, volumeID, serverID)
	}
	volume, err := ifExists(s.cloud.GetVolume(ctx, volumeID))
	if err != nil || volume == nil {
		return err
	}
	for _, a := range volume.Attachments {
		if a.ServerID == "" {
			continue // what Cinder has attached it to is no server of Nova's
		}
		if err := s.detachFromOneOfAll(ctx, volumeID, a.ServerID); err != nil {
			return err
		}
	}
	return nil
}

// detachFromOneOfAll is detachFrom as an operation of its own.
func (s *Service) detachFromOneOfAll(ctx context.Context, volumeID, serverID string) (err error) {
	ctx, end := s.operation(ctx, volumeDetach, volumeID, serverID)
	defer func() { err = end(err) }()
	return s.detachFrom(ctx, volumeID, serverID)
}

// detachFrom detaches a volume from one server, behind the server's bulkhead.
func (s *Service) detachFrom(ctx context.Context, volumeID, serverID string) error {
	limited, visit, err := s.hosts.enter(ctx, serverID)
	if err != nil {
		return fmt.Errorf("detaching volume %s: %w", volumeID, err)
	}
	defer visit.leave()
	if err := s.detach(limited, volumeID, serverID); err != nil {
		return visit.explain(ctx, limited, err)
	}
	visit.progress()
	return nil
}

func (s *Service) detach(ctx context.Context, volumeID, serverID string) error {
	view, release := s.servers.acquire(serverID)
	defer release()
	d := &detachment{pair{s: s, view: view, volumeID: volumeID, serverID: serverID}}
	return change(ctx, func() error {
		d.sent = time.Now()
		return s.inTurn(ctx, serverID, func() error { return s.cloud.DetachVolume(ctx, serverID, volumeID) })
	}, func() error {
		return d.follow(ctx)
	}, func(refusal error) (bool, error) {
		return d.afterRefusal(ctx, refusal)
	})
}

// detachment is one call of Detach for one server.
type detachment struct{ pair }

// afterRefusal finds out what a refusal, or a lost answer, means, as the table says. again
// tells that the reason why it did not work, which is returned too, may be over.
func (d *detachment) afterRefusal(ctx context.Context, refusal error) (again bool, err error) {
	v, err := ifExists(d.s.cloud.GetVolume(ctx, d.volumeID))
	switch {
	case err != nil:
		return false, unfinished(errors.Join(refusal, err))
	case v == nil:
		return false, nil
	case errors.Is(refusal, cloud.ErrNotFound) && (v.Status == cloud.VolumeReserved || v.Status == cloud.VolumeAttaching):
		// An attachment is under way, perhaps to this server.
		return d.afterAttaching(ctx, v)
	case errors.Is(refusal, cloud.ErrNotFound) && !v.AttachedTo(d.serverID):
		return false, nil
	case errors.Is(refusal, cloud.ErrNotFound):
		// Cinder drops the attachment by itself soon after a server was deleted, and has
		// to be told otherwise.
		late, err := d.released(ctx, "detach volume")
		if late {
			err = d.forget(ctx)
		}
		return false, err
	case !v.AttachedTo(d.serverID) && !v.Status.Transitional():
		return false, d.unlisted(ctx, fmt.Sprintf("volume %s has status %s, but Nova lists it on server %s (%s)", v.ID, v.Status, d.serverID, refusal))
	case v.Status == cloud.VolumeDetaching:
		return false, d.follow(ctx)
	}
	return d.decide(ctx, v, refusal)
}

// decide is the rest of the table, for a volume that is on the server, or on its way.
func (d *detachment) decide(ctx context.Context, v *cloud.Volume, refusal error) (again bool, err error) {
	switch {
	case errors.Is(refusal, cloud.ErrServerState):
		return false, fmt.Errorf("detaching volume %s from server %s: unlock, start or delete the server: %w", v.ID, d.serverID, refusal)
	case v.Status.Transitional():
		if _, err := d.s.waitVolume(ctx, v.ID, operationOf(v.Status), notTransitional); err != nil {
			return false, fmt.Errorf("volume %s has status %s: %w", v.ID, v.Status, unfinished(err))
		}
		return true, fmt.Errorf("volume %s had status %s: %w", v.ID, v.Status, unfinished(refusal))
	case noAnswer(refusal):
		return false, unfinished(refusal)
	case errors.Is(refusal, cloud.ErrConflict), v.Status == cloud.VolumeInUse:
		// The server is rebooting, resizing; or the volume was busy when Nova looked at
		// it and is not any more.
		return true, fmt.Errorf("detaching volume %s from server %s: %w", v.ID, d.serverID, unfinished(refusal))
	}
	return false, fmt.Errorf("volume %s has status %s, in which Nova does not detach it from server %s: %w: have an administrator run `openstack volume set --state in-use %s`: %w",
		v.ID, v.Status, d.serverID, ErrState, v.ID, refusal)
}

// afterAttaching waits until an attachment that is under way is there or has
// failed. Only if it turns out to be to this server is it to be undone.
func (d *detachment) afterAttaching(ctx context.Context, v *cloud.Volume) (again bool, err error) {
	var now *cloud.Volume
	late, err := within(ctx, d.s.opts.StaleWait, func(ctx context.Context) (err error) {
		now, err = d.s.waitVolume(ctx, d.volumeID, "attach volume", notTransitional)
		return err
	})
	switch {
	case err == nil && (now == nil || !now.AttachedTo(d.serverID)):
		return false, nil
	case err == nil:
		return true, fmt.Errorf("volume %s was just attached to server %s: %w", d.volumeID, d.serverID, ErrUnfinished)
	case !late:
		return false, fmt.Errorf("volume %s has status %s: %w", d.volumeID, v.Status, unfinished(err))
	}
	// Whoever the volume is reserved for: where that is this server, Nova must not know
	// of it, and Cinder has to forget it.
	if err := d.unlisted(ctx, fmt.Sprintf("volume %s is still being attached to server %s", d.volumeID, d.serverID)); err != nil {
		return false, err
	}
	err = d.forget(ctx)
	if errors.Is(err, cloud.ErrUnsupported) && !v.AttachedTo(d.serverID) {
		err = nil
	}
	return false, err
}

// unlisted asks Nova once more, and succeeds where it does not list the volume on the
// server; otherwise the error says so, and how an operator helps.
func (d *detachment) unlisted(ctx context.Context, otherwise string) error {
	listed, err := d.listed(ctx)
	if err != nil || !listed {
		return err
	}
	return fmt.Errorf("%s: %w: if that stays so, %s", otherwise, ErrUnfinished, ghostRemedy(d.volumeID, d.serverID))
}

// follow waits until an accepted detachment is done.
func (d *detachment) follow(ctx context.Context) error {
	v, err := d.s.waitVolume(ctx, d.volumeID, "detach volume", untilEnded(func(v *cloud.Volume) bool {
		return !v.AttachedTo(d.serverID)
	}, cloud.VolumeDetaching))
	switch {
	case err != nil:
		return fmt.Errorf("waiting for volume %s to be detached from server %s: %w", d.volumeID, d.serverID, unfinished(err))
	case v == nil:
		return nil
	case v.AttachedTo(d.serverID):
		return fmt.Errorf("volume %s went back to status %s, server %s did not let go of it: %s: %w", d.volumeID, v.Status, d.serverID, serverEvents(d.serverID), ErrUnfinished)
	}
	if err := d.agree(ctx, false); err != nil {
		return err
	}
	if v.Status != cloud.VolumeReserved {
		return nil
	}
	// The reservation for another attempt, which came to nothing, outlives the
	// attachment: Nova is let attach a volume to the server that it is reserved for. Who
	// attaches or deletes the volume next looks again.
	if _, err := d.s.forgetStale(ctx, d.volumeID, d.serverID); err != nil {
		logging.From(ctx).Warn("the volume is detached, and stays reserved", zap.String("serverID", d.serverID), zap.Error(err))
	}
	return nil
}
