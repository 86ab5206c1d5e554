package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// Attach returns the volume when it is attached to the server: Nova lists it,
// and Cinder says that it is in use. It returns ErrAttachedElsewhere when it
// serves another server and cannot serve two, cloud.ErrAttachLimit when the
// server has as many disks as it can, cloud.ErrNotFound when one of the two
// does not exist. A volume that is busy is waited for until ctx ends.
func (s *Service) Attach(ctx context.Context, volumeID, serverID string) (*cloud.Volume, error) {
	return s.attach(ctx, volumeID, serverID, false)
}

// AttachAlone is Attach for a volume that no other server may have at the same
// time, even if its type allows that.
func (s *Service) AttachAlone(ctx context.Context, volumeID, serverID string) (*cloud.Volume, error) {
	return s.attach(ctx, volumeID, serverID, true)
}

func (s *Service) attach(ctx context.Context, volumeID, serverID string, alone bool) (*cloud.Volume, error) {
	volumeID, serverID = plain(volumeID), plain(serverID)
	if err := errors.Join(exists("volume", volumeID), exists("server", serverID)); err != nil {
		return nil, err
	}
	unlock, err := s.lock(ctx, "volume", volumeID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s.attachTo(ctx, volumeID, serverID, alone)
}

func (s *Service) attachTo(ctx context.Context, volumeID, serverID string, alone bool) (*cloud.Volume, error) {
	view, release := s.servers.use(serverID)
	defer release()
	a := &attachment{s: s, view: view, volumeID: volumeID, serverID: serverID}
	for attempts := (backoff{}); ; {
		volume, again, err := a.try(ctx)
		switch {
		case !again && err == nil && alone:
			return a.alone(ctx, volume)
		case !again:
			return volume, err
		}
		if waitErr := attempts.wait(ctx); waitErr != nil {
			return nil, fmt.Errorf("%w: %w", waitErr, err)
		}
	}
}

// attachment is one call of Attach.
type attachment struct {
	s                  *Service
	view               *server
	volumeID, serverID string
	// contradictions counts how often Nova said that the volume is attached
	// while Cinder said that it is free.
	contradictions int
	// accepted tells that Nova has accepted the last request: what is attached now
	// was not before.
	accepted bool
	// listed tells that Nova's answer held the entry of its list. It stays
	// there until the attachment fails, and then Cinder says so. It is as good
	// as asking Nova right after the request, and saves that.
	listed bool
}

// try asks Nova once and follows it up. again tells that the reason why it did
// not work, which is returned too, may be over.
func (a *attachment) try(ctx context.Context) (volume *cloud.Volume, again bool, err error) {
	sent := time.Now()
	err = a.s.inTurn(ctx, a.serverID, func() error {
		entry, err := a.s.cloud.AttachVolume(ctx, a.serverID, a.volumeID)
		a.accepted, a.listed = err == nil, err == nil && entry.Device != ""
		return err
	})
	switch {
	case err == nil:
		volume, err = a.follow(ctx, sent)
		return volume, false, err
	case ended(ctx, err):
		return nil, false, over(ctx, err)
	case !undecided(err):
		return nil, false, err
	}
	return a.refused(ctx, err, sent)
}

// refused finds out what a refusal, or a lost answer, means.
func (a *attachment) refused(ctx context.Context, refusal error, sent time.Time) (*cloud.Volume, bool, error) {
	v, err := a.s.cloud.GetVolume(ctx, a.volumeID)
	if err != nil {
		return nil, false, a.unknown(refusal, err)
	}
	switch {
	case errors.Is(refusal, cloud.ErrNotFound):
		return nil, false, a.serverMissing(ctx, refusal)
	case v.AttachedTo(a.serverID) && v.Status == cloud.VolumeInUse:
		return a.already(ctx, v, refusal, sent)
	case strings.HasPrefix(string(v.Status), "error"):
		return nil, false, fmt.Errorf("volume %s has status %s: %w: %w", v.ID, v.Status, ErrState, refusal)
	case v.Status == cloud.VolumeReserved || v.Status == cloud.VolumeAttaching:
		return a.otherAttempt(ctx)
	case v.Status.Transitional():
		_, err := a.s.waitVolume(ctx, v.ID, settling(v.Status), settled)
		if err != nil {
			return nil, false, fmt.Errorf("volume %s has status %s: %w", v.ID, v.Status, unfinished(err))
		}
		return nil, true, refusal
	case v.Status == cloud.VolumeInUse && !v.Multiattach && len(v.Attachments) > 0:
		return nil, false, a.elsewhere(v)
	case errors.Is(refusal, cloud.ErrConflict), strings.Contains(refusal.Error(), "must be available"):
		// The server is building, rebooting, locked; or the volume was busy
		// when Nova looked at it and is not any more.
		return nil, true, fmt.Errorf("server %s: %w", a.serverID, unfinished(refusal))
	case cloud.Uncertain(refusal) || errors.Is(refusal, cloud.ErrUnavailable):
		return nil, false, unfinished(refusal)
	}
	return a.contradicted(v, refusal)
}

// alone refuses a volume that another server has as well. Nobody can use it on
// this one yet where this call has attached it: that is undone.
func (a *attachment) alone(ctx context.Context, v *cloud.Volume) (*cloud.Volume, error) {
	other := slices.IndexFunc(v.Attachments, func(o cloud.Attachment) bool { return o.ServerID != a.serverID })
	if other < 0 {
		return v, nil
	}
	refusal := fmt.Errorf("volume %s: %w: %s has it, and it is for one node at a time", v.ID, ErrAttachedElsewhere, v.Attachments[other].ServerID)
	if a.accepted {
		if err := a.s.detachFrom(ctx, a.volumeID, a.serverID); err != nil {
			return nil, unfinished(fmt.Errorf("%w; detaching it from server %s again: %w", refusal, a.serverID, err))
		}
	}
	return nil, refusal
}

// already handles a volume that Cinder says is attached to the server. Nova may
// have said so too, by refusing for that reason; else it is asked.
func (a *attachment) already(ctx context.Context, v *cloud.Volume, refusal error, sent time.Time) (*cloud.Volume, bool, error) {
	if errors.Is(refusal, cloud.ErrInvalid) && strings.Contains(refusal.Error(), "already attached") {
		return v, false, nil
	}
	return v, false, a.agreed(ctx, sent)
}

// otherAttempt waits for an attachment that is under way: this call's own, when
// its answer was lost, or one to another server.
func (a *attachment) otherAttempt(ctx context.Context) (*cloud.Volume, bool, error) {
	limited, cancel := context.WithTimeout(ctx, a.s.opts.StaleWait)
	defer cancel()
	v, err := a.s.waitVolume(limited, a.volumeID, "attach volume", settled)
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		again, err := a.leftBehind(ctx)
		return nil, again, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("waiting for volume %s to be attached: %w", a.volumeID, unfinished(err))
	}
	return nil, v != nil, fmt.Errorf("volume %s: %w: an attachment was under way", a.volumeID, ErrUnfinished)
}

// follow waits until an accepted attachment is there.
func (a *attachment) follow(ctx context.Context, sent time.Time) (*cloud.Volume, error) {
	state := attaching{serverID: a.serverID}
	v, err := a.s.waitVolume(ctx, a.volumeID, "attach volume", state.over)
	switch {
	case err != nil:
		return nil, fmt.Errorf("waiting for volume %s to be attached to server %s: %w", a.volumeID, a.serverID, unfinished(err))
	case v == nil:
		return nil, fmt.Errorf("volume %s disappeared while it was attached to server %s: %w", a.volumeID, a.serverID, ErrUnfinished)
	case !v.AttachedTo(a.serverID) || v.Status != cloud.VolumeInUse:
		return nil, a.fellBack(ctx, v)
	}
	if a.listed {
		return v, nil
	}
	if err := a.agreed(ctx, sent); err != nil {
		return nil, err
	}
	return v, nil
}

// agreed makes sure that Nova lists what Cinder says is attached.
func (a *attachment) agreed(ctx context.Context, sent time.Time) error {
	limited, cancel := context.WithTimeout(ctx, a.s.opts.StaleWait)
	defer cancel()
	err := a.view.agree(limited, a.volumeID, true, sent)
	switch {
	case err == nil:
		return nil
	case ctx.Err() == nil && limited.Err() != nil:
		return fmt.Errorf("volume %s: %w: Cinder says attached to server %s, Nova does not list it", a.volumeID, ErrUnfinished, a.serverID)
	}
	return fmt.Errorf("asking Nova for volume %s on server %s: %w", a.volumeID, a.serverID, unfinished(err))
}

// fellBack tells that Nova accepted an attachment and gave it up later, which
// it tells nobody. Where Nova still lists it, the two disagree.
func (a *attachment) fellBack(ctx context.Context, v *cloud.Volume) error {
	listed, err := a.view.attachedNow(ctx, v.ID)
	if err != nil {
		return fmt.Errorf("asking Nova for volume %s on server %s: %w", v.ID, a.serverID, unfinished(err))
	}
	log(ctx, v.ID).Warn("the cloud gave up attaching", zap.String("server", a.serverID), zap.String("status", string(v.Status)), zap.Bool("listedByNova", listed))
	if listed {
		return fmt.Errorf("volume %s has status %s: %w: Nova lists it on server %s, Cinder does not", v.ID, v.Status, ErrUnfinished, a.serverID)
	}
	return fmt.Errorf("volume %s went back to status %s, it could not be attached to server %s (see the server's action list): %w", v.ID, v.Status, a.serverID, ErrUnfinished)
}

// attaching decides when an accepted attachment is over, one way or the other.
type attaching struct {
	serverID string
	// begun is set when the volume was seen on its way; stalled counts how
	// often it was seen as if nothing had been asked for.
	begun   bool
	stalled int
}

func (s *attaching) over(v *cloud.Volume) (bool, error) {
	switch {
	case v == nil, v.AttachedTo(s.serverID) && v.Status == cloud.VolumeInUse:
		return true, nil
	case v.Status.Transitional():
		s.begun = true
		return false, nil
	}
	s.stalled++
	return s.begun || s.stalled > 1, nil
}

// settling names the operation that a status belongs to, for the watcher.
func settling(status cloud.VolumeStatus) string {
	switch status {
	case cloud.VolumeCreating, cloud.VolumeDownloading:
		return "create volume"
	case cloud.VolumeDetaching:
		return "detach volume"
	case cloud.VolumeExtending:
		return "extend volume"
	}
	return "settle"
}
