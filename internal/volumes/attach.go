package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
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

func (s *Service) attach(ctx context.Context, volumeID, serverID string, alone bool) (attached *Attached, err error) {
	volumeID, serverID = canonicalID(volumeID), canonicalID(serverID)
	if err := errors.Join(checkID("volume", volumeID), checkID("server", serverID)); err != nil {
		return nil, err
	}
	ctx, end := s.operation(ctx, volumeAttach, volumeID, serverID)
	defer func() { err = end(err) }()
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
	view, release := s.servers.acquire(serverID)
	defer release()
	a := &attachment{pair: pair{s: s, view: view, volumeID: volumeID, serverID: serverID}, visit: visit}
	volume, err := a.untilAttached(limited)
	if err == nil && alone {
		volume, err = a.alone(limited, volume)
	}
	recorded, recordErr := a.recorded(limited, volume)
	if err = errors.Join(err, recordErr); err != nil {
		return nil, visit.explain(ctx, limited, err)
	}
	visit.progress()
	return &Attached{Volume: volume, First: recorded && a.accepted}, nil
}

// pair is a volume and a server, of which one call attaches or detaches the first.
type pair struct {
	s                  *Service
	view               *server
	volumeID, serverID string
	// sent is when Nova was asked last.
	sent time.Time
}

// agree waits until Nova lists the volume on the server, or does not, as wanted and as
// Cinder says already.
func (p *pair) agree(ctx context.Context, wanted bool) error {
	late, err := within(ctx, p.s.opts.StaleWait, func(ctx context.Context) error {
		return p.view.agree(ctx, p.volumeID, wanted, p.sent)
	})
	switch {
	case err == nil:
		return nil
	case late && wanted:
		return fmt.Errorf("volume %s: %w: Cinder says attached to server %s, Nova does not list it", p.volumeID, ErrUnfinished, p.serverID)
	case late:
		return fmt.Errorf("volume %s: %w: Cinder has released it, Nova still lists it on server %s", p.volumeID, ErrUnfinished, p.serverID)
	}
	return fmt.Errorf("asking Nova for volume %s on server %s: %w", p.volumeID, p.serverID, unfinished(err))
}

// listed asks whether Nova lists the volume on the server.
func (p *pair) listed(ctx context.Context) (bool, error) {
	listed, err := p.view.attachedNow(ctx, p.volumeID)
	if err != nil {
		err = fmt.Errorf("asking Nova for volume %s on server %s: %w", p.volumeID, p.serverID, unfinished(err))
	}
	return listed, err
}

// attachment is one call of Attach.
type attachment struct {
	pair
	// visit is the call at the server's bulkhead.
	visit *visit
	// contradictions counts how often Nova said that the volume is attached
	// while Cinder said that it is free.
	contradictions int
	// accepted tells that Nova has accepted the last request: what is attached now
	// was not before.
	accepted bool
	// named tells that Nova's answer held the entry of its list. It stays
	// there until the attachment fails, and then Cinder says so. It is as good
	// as asking Nova right after the request, and saves that.
	named bool
	// recording gets the outcome of putting a first publication on record. Nil: that was
	// not begun.
	recordOnce sync.Once
	recording  chan error
}

// untilAttached asks Nova until that has worked, or fails for good.
func (a *attachment) untilAttached(ctx context.Context) (volume *cloud.Volume, err error) {
	err = change(ctx, func() error {
		a.sent = time.Now()
		return a.s.inTurn(ctx, a.serverID, func() error {
			entry, err := a.s.cloud.AttachVolume(ctx, a.serverID, a.volumeID)
			a.accepted, a.named = err == nil, err == nil && entry.Device != ""
			return err
		})
	}, func() (err error) {
		volume, err = a.follow(ctx)
		return err
	}, func(refusal error) (again bool, err error) {
		volume, again, err = a.afterRefusal(ctx, refusal)
		return again, err
	})
	return volume, err
}

// afterRefusal finds out what a refusal, or a lost answer, means, as the table says. again
// tells that the reason why it did not work, which is returned too, may be over.
func (a *attachment) afterRefusal(ctx context.Context, refusal error) (*cloud.Volume, bool, error) {
	v, err := a.s.cloud.GetVolume(ctx, a.volumeID)
	switch {
	case errors.Is(err, cloud.ErrNotFound):
		return nil, false, fmt.Errorf("attaching volume %s to server %s: %w", a.volumeID, a.serverID, err)
	case err != nil:
		return nil, false, unfinished(errors.Join(refusal, err))
	case errors.Is(refusal, cloud.ErrNotFound):
		return nil, false, a.serverMissing(ctx, refusal)
	case v.AttachedTo(a.serverID) && v.Status == cloud.VolumeInUse && errors.Is(refusal, cloud.ErrAlreadyAttached):
		return v, false, nil
	case v.AttachedTo(a.serverID) && v.Status == cloud.VolumeInUse:
		return v, false, a.agree(ctx, true)
	}
	again, err := a.decide(ctx, v, refusal)
	return nil, again, err
}

// decide is the rest of the table, for a volume that is not attached to the server.
func (a *attachment) decide(ctx context.Context, v *cloud.Volume, refusal error) (again bool, err error) {
	about := fmt.Sprintf("attaching volume %s to server %s", a.volumeID, a.serverID)
	switch {
	case errors.Is(refusal, cloud.ErrServerState):
		return false, fmt.Errorf("%s: unlock, start or replace the server: %w", about, refusal)
	case needsOperator(v.Status):
		return false, fmt.Errorf("volume %s has status %s: %w: %w", v.ID, v.Status, ErrState, refusal)
	case v.Status == cloud.VolumeReserved || v.Status == cloud.VolumeAttaching:
		return a.otherAttempt(ctx)
	case v.Status.Transitional():
		if !v.AttachedTo(a.serverID) {
			defer a.visit.stepAside()() // another server may not let it go
		}
		if _, err := a.s.waitVolume(ctx, v.ID, operationOf(v.Status), notTransitional); err != nil {
			return false, fmt.Errorf("volume %s has status %s: %w", v.ID, v.Status, unfinished(err))
		}
		return true, refusal
	case v.Status == cloud.VolumeInUse && !v.Multiattach && len(v.Attachments) > 0:
		return false, fmt.Errorf("volume %s: %w: server %s has it, and its type %q does not allow server %s to have it too",
			v.ID, ErrAttachedElsewhere, v.Attachments[0].ServerID, v.Type, a.serverID)
	case errors.Is(refusal, cloud.ErrConflict), errors.Is(refusal, cloud.ErrWrongStatus):
		// The server is building, rebooting, …; or the volume was busy when Nova
		// looked at it and is not any more.
		return true, fmt.Errorf("%s: %w", about, unfinished(refusal))
	case noAnswer(refusal):
		return false, unfinished(refusal)
	case errors.Is(refusal, cloud.ErrAlreadyAttached):
		// Nova forgets an attachment a moment later than Cinder.
		a.contradictions++
		return a.contradictions <= 3, fmt.Errorf("volume %s has status %s, but Nova lists it as attached: %w: if that stays so, %s: %w",
			v.ID, v.Status, ErrState, ghostRemedy(v.ID, "SERVER"), refusal)
	}
	return false, fmt.Errorf("%s: the volume has status %s and is in zone %s: %w: %w", about, v.Status, v.Zone, ErrState, refusal)
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
	refusal := fmt.Errorf("volume %s: %w: server %s has it, and its access mode is for one node at a time", v.ID, ErrAttachedElsewhere, v.Attachments[other].ServerID)
	if a.accepted {
		if err := a.s.detach(ctx, a.volumeID, a.serverID); err != nil {
			return nil, unfinished(fmt.Errorf("%w; detaching it from server %s again: %w", refusal, a.serverID, err))
		}
	}
	return nil, refusal
}

// follow waits until an accepted attachment is there.
func (a *attachment) follow(ctx context.Context) (*cloud.Volume, error) {
	ended := untilEnded(func(v *cloud.Volume) bool {
		return v.AttachedTo(a.serverID) && v.Status == cloud.VolumeInUse
	}, cloud.VolumeReserved, cloud.VolumeAttaching)
	v, err := a.s.waitVolume(ctx, a.volumeID, "attach volume", func(v *cloud.Volume) (bool, error) {
		a.record(ctx, v)
		return ended(v)
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("waiting for volume %s to be attached to server %s: %w", a.volumeID, a.serverID, unfinished(err))
	case v == nil:
		return nil, fmt.Errorf("volume %s disappeared while it was attached to server %s: %w", a.volumeID, a.serverID, ErrUnfinished)
	case !v.AttachedTo(a.serverID) || v.Status != cloud.VolumeInUse:
		return nil, a.fellBack(ctx, v)
	case !a.named:
		return v, a.agree(ctx, true)
	}
	return v, nil
}

// fellBack tells that Nova accepted an attachment and gave it up later, which
// it tells nobody. Where Nova still lists it, the two disagree.
func (a *attachment) fellBack(ctx context.Context, v *cloud.Volume) error {
	listed, err := a.listed(ctx)
	if err != nil {
		return err
	}
	logging.From(ctx).Warn("the cloud gave up attaching", zap.String("serverID", a.serverID), zap.String("status", string(v.Status)), zap.Bool("listedByNova", listed))
	if listed {
		return fmt.Errorf("volume %s has status %s: %w: Nova lists it on server %s, Cinder does not", v.ID, v.Status, ErrUnfinished, a.serverID)
	}
	return fmt.Errorf("volume %s went back to status %s, it could not be attached to server %s: %s: %w", v.ID, v.Status, a.serverID, serverEvents(a.serverID), ErrUnfinished)
}

// record begins to put a first publication on record, while its attachment is waited
// for: the volume loses the mark that it was never published.
func (a *attachment) record(ctx context.Context, v *cloud.Volume) {
	if v == nil || !NeverPublished(v) {
		return
	}
	a.recordOnce.Do(func() {
		outcome := make(chan error, 1)
		a.recording = outcome
		go func() {
			_, err := recovered(a.s, func() (bool, error) { return true, a.s.recordPublication(ctx, a.volumeID) })
			outcome <- err
		}()
	})
}

// recorded waits until the first publication is on record, and reports whether this call
// has put it there. An attachment is not told before that: a volume that may hold data
// must not bear the mark. Only where the cloud doesn't let the account change metadata it
// stays, and no mark counts any more; see Locks.
func (a *attachment) recorded(ctx context.Context, v *cloud.Volume) (bool, error) {
	a.record(ctx, v)
	a.recordOnce.Do(func() {}) // one that has just begun is seen
	if a.recording == nil {
		return false, nil
	}
	err := <-a.recording
	switch {
	case err == nil:
		return !a.s.unrecorded.Load(), nil
	case refusesRecord(err):
		logging.From(ctx).Warn("the first publication of the volume can't be put on record", zap.Error(err))
		return false, nil
	}
	return false, fmt.Errorf("volume %s: putting its first publication on record: %w", a.volumeID, unfinished(err))
}

// recordPublication takes the mark of a volume that was never published away. A cloud
// that refuses that is asked three times, once it is known to refuse only once.
func (s *Service) recordPublication(ctx context.Context, volumeID string) error {
	refusals := 0
	return retry(ctx, func() (bool, error) {
		err := s.cloud.SetVolumeMetadata(ctx, volumeID, map[string]string{NeverPublishedKey: "false"})
		if !refusesRecord(err) {
			return false, err
		}
		if errors.Is(err, cloud.ErrNotFound) {
			if _, gone := s.cloud.GetVolume(ctx, volumeID); gone != nil {
				return false, gone // which tells nothing about other volumes
			}
		}
		refusals++
		again := refusals < 3 && !s.unrecorded.Load()
		if !again {
			s.unrecorded.Store(true)
		}
		return again, err
	})
}

// refusesRecord reports whether a cloud, or a gateway before it, takes no metadata of a
// volume that it has just attached.
func refusesRecord(err error) bool {
	return cloud.NotTold(err) && !errors.Is(err, cloud.ErrUnauthorized)
}

// serverEvents is where an operator finds why Nova gave up what it had accepted, or does not
// get on with it.
func serverEvents(serverID string) string {
	return fmt.Sprintf("`openstack server event list %s` and the log of nova-compute on its host tell why", serverID)
}

// ghostRemedy is how an operator gets rid of an attachment that Nova lists and
// Cinder doesn't know, as it stays when nova-compute hung: Nova detaches it when
// Cinder knows it, too.
func ghostRemedy(volumeID, serverID string) string {
	return fmt.Sprintf("run `openstack --os-volume-api-version 3.44 volume attachment create --connect %s %s` "+
		"and `volume attachment complete` with the id that it prints, then it can be detached", volumeID, serverID)
}
