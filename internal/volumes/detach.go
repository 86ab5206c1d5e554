package volumes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
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
func (s *Service) Detach(ctx context.Context, volumeID, serverID string) error {
	volumeID, serverID = plain(volumeID), plain(serverID)
	if !isID(volumeID) || serverID != "" && !isID(serverID) {
		return nil
	}
	unlock, err := s.lock(ctx, "volume", volumeID)
	if err != nil {
		return err
	}
	defer unlock()
	if serverID != "" {
		return s.detachFrom(ctx, volumeID, serverID)
	}
	volume, err := s.cloud.GetVolume(ctx, volumeID)
	if errors.Is(err, cloud.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, a := range volume.Attachments {
		if err := s.detachFrom(ctx, volumeID, a.ServerID); err != nil {
			return err
		}
	}
	return nil
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
	view, release := s.servers.use(serverID)
	defer release()
	d := detachment{s: s, view: view, volumeID: volumeID, serverID: serverID}
	for attempts := (backoff{}); ; {
		again, err := d.try(ctx)
		if !again {
			return err
		}
		if waitErr := attempts.wait(ctx); waitErr != nil {
			return fmt.Errorf("%w: %w", waitErr, err)
		}
	}
}

// detachment is one call of Detach for one server.
type detachment struct {
	s                  *Service
	view               *server
	volumeID, serverID string
}

// try asks Nova once and follows it up. again tells that the reason why it did
// not work, which is returned too, may be over.
func (d detachment) try(ctx context.Context) (again bool, err error) {
	sent := time.Now()
	err = d.s.inTurn(ctx, d.serverID, func() error {
		return d.s.cloud.DetachVolume(ctx, d.serverID, d.volumeID)
	})
	switch {
	case err == nil:
		return false, d.follow(ctx, sent)
	case ended(ctx, err):
		return false, over(ctx, err)
	case !undecided(err):
		return false, err
	case errors.Is(err, cloud.ErrNotFound):
		return d.notListed(ctx)
	}
	return d.refused(ctx, err, sent)
}

// notListed handles the answer that the server does not exist, or does not have
// the volume: Cinder has to agree.
func (d detachment) notListed(ctx context.Context) (again bool, err error) {
	v, err := d.s.cloud.GetVolume(ctx, d.volumeID)
	switch {
	case errors.Is(err, cloud.ErrNotFound):
		return false, nil
	case err != nil:
		return false, unfinished(err)
	case v.Status == cloud.VolumeReserved || v.Status == cloud.VolumeAttaching:
		// An attachment is under way, perhaps to this server.
		return d.afterAttaching(ctx, v)
	case !v.AttachedTo(d.serverID):
		return false, nil
	}
	return false, d.stale(ctx)
}

// afterAttaching waits until an attachment that is under way is there or has
// failed. Only if it turns out to be to this server is it to be undone.
func (d detachment) afterAttaching(ctx context.Context, v *cloud.Volume) (again bool, err error) {
	limited, cancel := context.WithTimeout(ctx, d.s.opts.StaleWait)
	defer cancel()
	now, err := d.s.waitVolume(limited, d.volumeID, "attach volume", settled)
	switch {
	case err == nil && (now == nil || !now.AttachedTo(d.serverID)):
		return false, nil
	case err == nil:
		return true, fmt.Errorf("volume %s was just attached to server %s: %w", d.volumeID, d.serverID, ErrUnfinished)
	case ctx.Err() == nil && limited.Err() != nil:
		// Reserved for whomever. Where it is for this server, Nova must not
		// know of it, and Cinder has to forget it.
		if err := d.unlisted(ctx); err != nil {
			return false, err
		}
		err := d.forget(ctx)
		if errors.Is(err, cloud.ErrUnsupported) && !v.AttachedTo(d.serverID) {
			return false, nil
		}
		return false, err
	}
	return false, fmt.Errorf("volume %s has status %s: %w", d.volumeID, v.Status, unfinished(err))
}

// unlisted asks Nova once more, and succeeds if it does not list the volume.
func (d detachment) unlisted(ctx context.Context) error {
	listed, err := d.view.attachedNow(ctx, d.volumeID)
	if err != nil {
		return unfinished(err)
	}
	if listed {
		return fmt.Errorf("volume %s is still being attached to server %s: %w", d.volumeID, d.serverID, ErrUnfinished)
	}
	return nil
}

// stale waits for Cinder to drop an attachment that Nova does not know. It does
// so by itself soon after a server was deleted, and has to be told otherwise.
func (d detachment) stale(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, d.s.opts.StaleWait)
	defer cancel()
	_, err := d.s.waitVolume(limited, d.volumeID, "detach volume", func(v *cloud.Volume) (bool, error) {
		return v == nil || !v.AttachedTo(d.serverID), nil
	})
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		return d.forget(ctx)
	}
	if err != nil {
		return fmt.Errorf("waiting for Cinder to release volume %s: %w", d.volumeID, unfinished(err))
	}
	return nil
}

// refused finds out what a refusal, or a lost answer, means, as the table says.
func (d detachment) refused(ctx context.Context, refusal error, sent time.Time) (again bool, err error) {
	v, err := d.s.cloud.GetVolume(ctx, d.volumeID)
	switch {
	case errors.Is(err, cloud.ErrNotFound):
		return false, nil
	case err != nil:
		return false, unfinished(errors.Join(refusal, err))
	case !v.AttachedTo(d.serverID) && !v.Status.Transitional():
		return false, d.released(ctx, v, refusal)
	case v.Status == cloud.VolumeDetaching:
		return false, d.follow(ctx, sent)
	case errors.Is(refusal, cloud.ErrServerState):
		return false, fmt.Errorf("detaching volume %s from server %s: unlock, start or delete the server: %w", v.ID, d.serverID, refusal)
	case v.Status.Transitional():
		if _, err := d.s.waitVolume(ctx, v.ID, settling(v.Status), settled); err != nil {
			return false, fmt.Errorf("volume %s has status %s: %w", v.ID, v.Status, unfinished(err))
		}
		return true, fmt.Errorf("volume %s had status %s: %w", v.ID, v.Status, unfinished(refusal))
	case cloud.Uncertain(refusal), errors.Is(refusal, cloud.ErrUnavailable):
		return false, unfinished(refusal)
	case errors.Is(refusal, cloud.ErrConflict), v.Status == cloud.VolumeInUse:
		// The server is rebooting, resizing, locked; or the volume was busy
		// when Nova looked at it and is not any more.
		return true, fmt.Errorf("detaching volume %s from server %s: %w", v.ID, d.serverID, unfinished(refusal))
	}
	return false, fmt.Errorf("volume %s has status %s, in which Nova does not detach it; reset its state: %w: %w", v.ID, v.Status, ErrState, refusal)
}

// released handles a volume that Cinder does not list on the server, while the
// answer of Nova left it open.
func (d detachment) released(ctx context.Context, v *cloud.Volume, refusal error) error {
	listed, err := d.view.attachedNow(ctx, v.ID)
	if err != nil {
		return fmt.Errorf("asking Nova for volume %s on server %s: %w", v.ID, d.serverID, unfinished(errors.Join(refusal, err)))
	}
	if listed {
		return fmt.Errorf("volume %s has status %s, but Nova lists it on server %s: %w: if that stays so, %s: %w",
			v.ID, v.Status, d.serverID, ErrUnfinished, ghostRemedy(v.ID, d.serverID), refusal)
	}
	return nil
}

// follow waits until an accepted detachment is done.
func (d detachment) follow(ctx context.Context, sent time.Time) error {
	state := detaching{serverID: d.serverID}
	v, err := d.s.waitVolume(ctx, d.volumeID, "detach volume", state.over)
	switch {
	case err != nil:
		return fmt.Errorf("waiting for volume %s to be detached from server %s: %w", d.volumeID, d.serverID, unfinished(err))
	case v == nil:
		return nil
	case v.AttachedTo(d.serverID):
		return fmt.Errorf("volume %s went back to status %s, server %s did not let go of it (see the server's action list): %w", d.volumeID, v.Status, d.serverID, ErrUnfinished)
	}
	limited, cancel := context.WithTimeout(ctx, d.s.opts.StaleWait)
	defer cancel()
	err = d.view.agree(limited, d.volumeID, false, sent)
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		return fmt.Errorf("volume %s: %w: Cinder has released it, Nova still lists it on server %s", d.volumeID, ErrUnfinished, d.serverID)
	}
	if err != nil {
		return fmt.Errorf("asking Nova for volume %s on server %s: %w", d.volumeID, d.serverID, unfinished(err))
	}
	if v.Status == cloud.VolumeReserved {
		d.forgetLeftover(ctx)
	}
	return nil
}

// detaching decides when an accepted detachment is over, one way or the other.
type detaching struct {
	serverID string
	// begun is set when the volume was seen on its way; stalled counts how
	// often it was seen as if nothing had been asked for.
	begun   bool
	stalled int
}

func (s *detaching) over(v *cloud.Volume) (bool, error) {
	switch {
	case v == nil, !v.AttachedTo(s.serverID):
		return true, nil
	case v.Status == cloud.VolumeDetaching:
		s.begun = true
		return false, nil
	case v.Status.Transitional():
		return false, nil
	}
	s.stalled++
	return s.begun || s.stalled > 3, nil
}
