package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// How a volume is attached: Nova is asked, once, and what it accepted is waited for.
// When it refuses, or its answer is lost, the volume is read, and the first line that
// fits counts:
//
//	answer of Nova             volume in Cinder                    what follows
//	any                        gone                                cloud.ErrNotFound
//	not found                  any                                 the server is read: gone is cloud.ErrNotFound
//	any                        in use on this server               done, once Nova lists it (already attached: it does)
//	locked, in error, rescued  any                                 cloud.ErrServerState
//	any                        error, error_extending, …           ErrState
//	any                        reserved, attaching                 waited for; what Nova does not know is removed; once more
//	any                        creating, detaching, extending, …   waited for; once more
//	any                        in use elsewhere, one server only   ErrAttachedElsewhere
//	busy, wrong status         any                                 once more
//	none, or 5xx               any                                 ErrUnfinished
//	already attached           free                                once more, three times; then ErrState
//	refused (400)              any                                 ErrState
//	other                      any                                 ErrUnfinished
//
// All waits end when the server has finished nothing for a while, see bulkheads.

// Attached is a volume that is attached to a server.
type Attached struct {
	*cloud.Volume
	// First: no server had the volume before, and this call has put that on record;
	// see NeverPublishedKey.
	First bool
}

// Attach returns the volume when it is attached to the server: Nova lists it,
// and Cinder says that it is in use. It returns ErrAttachedElsewhere when it
// serves another server and cannot serve two, cloud.ErrAttachLimit when the
// server has as many disks as it can, cloud.ErrServerState when Nova changes nothing
// on it, cloud.ErrNotFound when one of the two does not exist. ErrBusy and
// ErrUnfinished ask for a repetition after a pause.
func (s *Service) Attach(ctx context.Context, volumeID, serverID string) (*Attached, error) {
	return s.attach(ctx, volumeID, serverID, false)
}

// AttachAlone is Attach for a volume that no other server may have at the same
// time, even if its type allows that.
func (s *Service) AttachAlone(ctx context.Context, volumeID, serverID string) (*Attached, error) {
	return s.attach(ctx, volumeID, serverID, true)
}

func (s *Service) attach(ctx context.Context, volumeID, serverID string, alone bool) (*Attached, error) {
	volumeID, serverID = plain(volumeID), plain(serverID)
	if err := errors.Join(exists("volume", volumeID), exists("server", serverID)); err != nil {
		return nil, err
	}
	unlock, err := s.lockToShare(ctx, volumeID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	limited, visit, err := s.hosts.enter(ctx, serverID)
	if err != nil {
		return nil, fmt.Errorf("attaching volume %s: %w", volumeID, err)
	}
	defer visit.leave()
	view, release := s.servers.use(serverID)
	defer release()
	a := &attachment{s: s, view: view, volumeID: volumeID, serverID: serverID}
	volume, err := a.untilAttached(limited)
	if err == nil && alone {
		volume, err = a.alone(limited, volume)
	}
	first, unmarkErr := a.unmarked(limited, volume)
	if err = errors.Join(err, unmarkErr); err != nil {
		return nil, visit.explain(ctx, limited, err)
	}
	visit.progress()
	return &Attached{Volume: volume, First: first && a.accepted}, nil
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
	// unmarking gets the outcome of taking away the mark of a volume that was never
	// published. Nil: that was not begun.
	mu        sync.Mutex
	unmarking chan error
}

// untilAttached asks Nova until that has worked, or fails for good.
func (a *attachment) untilAttached(ctx context.Context) (*cloud.Volume, error) {
	for attempts := (backoff{}); ; {
		volume, again, err := a.try(ctx)
		if !again {
			return volume, err
		}
		if waitErr := attempts.wait(ctx); waitErr != nil {
			return nil, fmt.Errorf("%w: %w", waitErr, err)
		}
	}
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

// refused finds out what a refusal, or a lost answer, means, as the table says.
func (a *attachment) refused(ctx context.Context, refusal error, sent time.Time) (*cloud.Volume, bool, error) {
	v, err := a.s.cloud.GetVolume(ctx, a.volumeID)
	switch {
	case errors.Is(err, cloud.ErrNotFound):
		return nil, false, fmt.Errorf("attaching volume %s to server %s: %w", a.volumeID, a.serverID, err)
	case err != nil:
		return nil, false, unfinished(errors.Join(refusal, err))
	case errors.Is(refusal, cloud.ErrNotFound):
		return nil, false, a.serverMissing(ctx, refusal)
	}
	return a.decide(ctx, v, refusal, sent)
}

// decide is the rest of the table, for a volume that exists.
func (a *attachment) decide(ctx context.Context, v *cloud.Volume, refusal error, sent time.Time) (*cloud.Volume, bool, error) {
	about := fmt.Sprintf("attaching volume %s to server %s", a.volumeID, a.serverID)
	switch {
	case v.AttachedTo(a.serverID) && v.Status == cloud.VolumeInUse && errors.Is(refusal, cloud.ErrAlreadyAttached):
		return v, false, nil
	case v.AttachedTo(a.serverID) && v.Status == cloud.VolumeInUse:
		return v, false, a.agreed(ctx, sent)
	case errors.Is(refusal, cloud.ErrServerState):
		return nil, false, fmt.Errorf("%s: unlock, start or replace the server: %w", about, refusal)
	case strings.HasPrefix(string(v.Status), "error"):
		return nil, false, fmt.Errorf("volume %s has status %s: %w: %w", v.ID, v.Status, ErrState, refusal)
	case v.Status == cloud.VolumeReserved || v.Status == cloud.VolumeAttaching:
		return a.otherAttempt(ctx)
	case v.Status.Transitional():
		if _, err := a.s.waitVolume(ctx, v.ID, settling(v.Status), settled); err != nil {
			return nil, false, fmt.Errorf("volume %s has status %s: %w", v.ID, v.Status, unfinished(err))
		}
		return nil, true, refusal
	case v.Status == cloud.VolumeInUse && !v.Multiattach && len(v.Attachments) > 0:
		return nil, false, fmt.Errorf("volume %s: %w: %s has it, and its type %q does not allow server %s to have it too",
			v.ID, ErrAttachedElsewhere, v.Attachments[0].ServerID, v.Type, a.serverID)
	case errors.Is(refusal, cloud.ErrConflict), errors.Is(refusal, cloud.ErrWrongStatus):
		// The server is building, rebooting, …; or the volume was busy when Nova
		// looked at it and is not any more.
		return nil, true, fmt.Errorf("%s: %w", about, unfinished(refusal))
	case cloud.Uncertain(refusal) || errors.Is(refusal, cloud.ErrUnavailable):
		return nil, false, unfinished(refusal)
	case errors.Is(refusal, cloud.ErrAlreadyAttached):
		// Nova forgets an attachment a moment later than Cinder.
		a.contradictions++
		return nil, a.contradictions <= 3, fmt.Errorf("volume %s has status %s, but Nova lists it as attached: %w: if that stays so, %s: %w",
			v.ID, v.Status, ErrState, ghostRemedy(v.ID, "SERVER"), refusal)
	case errors.Is(refusal, cloud.ErrInvalid):
		return nil, false, fmt.Errorf("%s: the volume has status %s and is in zone %s: %w: %w", about, v.Status, v.Zone, ErrState, refusal)
	}
	return nil, false, fmt.Errorf("%s: %w", about, unfinished(refusal))
}

// serverMissing decides which of the two Nova did not find, when the volume is
// known to exist.
func (a *attachment) serverMissing(ctx context.Context, refusal error) error {
	_, err := a.s.cloud.GetServer(ctx, a.serverID)
	switch {
	case err == nil:
		return fmt.Errorf("attaching volume %s to server %s: %w", a.volumeID, a.serverID, unfinished(refusal))
	case errors.Is(err, cloud.ErrNotFound):
		return fmt.Errorf("attaching volume %s: server %s: %w", a.volumeID, a.serverID, err)
	}
	return unfinished(errors.Join(refusal, err))
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
		if err := a.s.detach(ctx, a.volumeID, a.serverID); err != nil {
			return nil, unfinished(fmt.Errorf("%w; detaching it from server %s again: %w", refusal, a.serverID, err))
		}
	}
	return nil, refusal
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
	v, err := a.s.waitVolume(ctx, a.volumeID, "attach volume", func(v *cloud.Volume) (bool, error) {
		a.unmark(ctx, v)
		return state.over(v)
	})
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

// unmark begins to take away the mark of a volume that was never published, while
// its attachment is waited for, and returns what will get the outcome. Nil: there is
// no mark.
func (a *attachment) unmark(ctx context.Context, v *cloud.Volume) chan error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.unmarking != nil || v == nil || !NeverPublished(v) {
		return a.unmarking
	}
	outcome := make(chan error, 1)
	a.unmarking = outcome
	go func() {
		defer func() {
			if value := recover(); value != nil {
				outcome <- a.s.panicked(value)
			}
		}()
		outcome <- a.s.cloud.SetVolumeMetadata(ctx, a.volumeID, map[string]string{NeverPublishedKey: "false"})
	}()
	return outcome
}

// unmarked waits until the mark is taken away, and reports whether this call has done
// it. An attachment is not told before that: a volume that may hold data must not
// bear the mark. Only where the cloud doesn't let the account change metadata it stays.
func (a *attachment) unmarked(ctx context.Context, v *cloud.Volume) (bool, error) {
	outcome := a.unmark(ctx, v)
	if outcome == nil {
		return false, nil
	}
	err := <-outcome
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, cloud.ErrForbidden), errors.Is(err, cloud.ErrUnsupported):
		log(ctx, a.volumeID).Warn("the first publication of the volume can't be put on record", zap.Error(err))
		return false, nil
	}
	return false, fmt.Errorf("volume %s: putting its first publication on record: %w", a.volumeID, unfinished(err))
}

// ghostRemedy is how an operator gets rid of an attachment that Nova lists and
// Cinder doesn't know, as it stays when nova-compute hung: Nova detaches it when
// Cinder knows it, too.
func ghostRemedy(volumeID, serverID string) string {
	return fmt.Sprintf("run `openstack --os-volume-api-version 3.44 volume attachment create --connect %s %s` "+
		"and `volume attachment complete` with the id that it prints, then it can be detached", volumeID, serverID)
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
