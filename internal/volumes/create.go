package volumes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// CreateRequest asks for a volume.
type CreateRequest struct {
	// Name identifies the request: repeated with the same name, it finds the
	// volume that it made before. At most 255 characters; see StoredName.
	Name string
	// SizeGiB is at least 1. A volume from a source gets the source's size
	// where that is larger, unless LimitGiB (0: none) forbids it.
	SizeGiB, LimitGiB int64
	// Type is the name or id of a volume type, Zone the name of one of
	// Cinder's zones or its label (see zone.Label). Empty: Cinder's defaults.
	Type, Zone string
	// AcceptZones are labels of zones in which the volume is as good, the best
	// first; empty: only in Zone. They are tried in their order where Cinder doesn't
	// have Zone, has no room there, or makes no volumes of the type there.
	AcceptZones []string
	// AnyZone tells that Zone is a wish: where Cinder does not know it, its
	// default will do.
	AnyZone bool
	// SnapshotID is the id of a snapshot or of a backup, SourceVolumeID that
	// of a volume to be cloned. At most one is set.
	SnapshotID, SourceVolumeID string
	// Multiattach tells that the volume has to serve several servers.
	Multiattach bool
	// Metadata is recorded with the volume, besides the driver's own.
	Metadata map[string]string
	// Claim returns what the volume is claimed with; nil for nothing. It is called when a
	// volume has to be made, and not when one is found: a repetition gets the answer of
	// the first call, whatever has changed meanwhile.
	Claim func(context.Context) (Claim, error)
}

// attempt is how far a creation has come.
type attempt struct {
	// volume is the one that is to be the answer; nil: none exists.
	volume *cloud.Volume
	// others have the same name and were made for the same cluster, the oldest
	// first.
	others []cloud.Volume
	// mine tells that this very call has made the volume, so that no other call has
	// returned it. seen tells that this call has seen it in the making: it never was
	// usable before.
	mine, seen bool
	// usable tells that the creation is over.
	usable bool
}

// next passes to the next volume of the same name, if there is one.
func (a attempt) next() attempt {
	if len(a.others) == 0 {
		return attempt{}
	}
	return attempt{volume: &a.others[0], others: a.others[1:]}
}

// Create returns a volume that is usable: it waits until Cinder says so, ctx ends or
// Options.CreateWait is over. It returns ErrExists when the name is taken by a
// volume that differs, ErrNoCapacity or cloud.ErrQuota when another zone or type
// might do, ErrTooLarge when the source is larger than the limit,
// ErrNotMultiattach, cloud.ErrNotFound when the source does not exist: nothing that
// the call has made is left then. After any other error the same call finds what
// became of this one.
func (s *Service) Create(ctx context.Context, req CreateRequest) (made *cloud.Volume, err error) {
	p, err := s.plan(ctx, req)
	if err != nil {
		return nil, err
	}
	ctx, end := s.operation(ctx, volumeCreate, p.Name, "")
	defer func() { err = end(err) }()
	unlock, err := s.lock(ctx, "volume name", p.Name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	at, err := s.find(ctx, p.Name)
	for err == nil && !at.usable {
		if at.volume == nil {
			at, err = s.post(ctx, p)
		} else {
			at, err = s.advance(ctx, p, at)
		}
	}
	if err != nil {
		return nil, err
	}
	return at.volume, nil
}

// advance takes a creation one step further, as its volume is:
//
//	an older one has its name, this call made it → withdrawn, the older one is used
//	an older one has its name                    → the older one is used
//	never returned, and not what was asked for   → withdrawn, the next zone is tried
//	error, and never was usable                  → removed, the next zone is tried
//	without a status or a size                   → ErrUnfinished
//	not what is asked for                        → ErrExists
//	in the making                                → waited for
//	error, or being deleted before our eyes      → ErrUnfinished
//	usable                                       → the answer
func (s *Service) advance(ctx context.Context, p *plan, at attempt) (attempt, error) {
	v := at.volume
	unfit := p.unfit(v)
	switch {
	case len(at.others) > 0 && older(&at.others[0], v):
		return s.preferOlder(ctx, at)
	case unfit != nil && len(v.Attachments) == 0 && (at.mine || v.Metadata[provisionalKey] == "true"):
		return s.takeBack(ctx, p, at, unfit)
	case v.Status == cloud.VolumeError:
		return s.creationFailed(ctx, p, at)
	case v.Status == "", v.SizeGiB == 0:
		return at, fmt.Errorf("volume %s (%s): Cinder tells no status or no size of it: %w", v.ID, p.Name, ErrUnfinished)
	}
	if err := p.differs(v); err != nil {
		return at, err
	}
	switch {
	case beingMade(v):
		return s.untilMade(ctx, p, at)
	case v.Status == cloud.VolumeDeleting, v.Status == cloud.VolumeErrorDeleting,
		v.Status == cloud.VolumeErrorExtending, v.Status == cloud.VolumeErrorRestoring:
		return at, fmt.Errorf("volume %s (%s) has status %s: %w", v.ID, p.Name, v.Status, ErrUnfinished)
	case v.Metadata[provisionalKey] == "true":
		if err := s.cloud.SetVolumeMetadata(ctx, v.ID, map[string]string{provisionalKey: "false"}); err != nil {
			return at, unfinished(fmt.Errorf("volume %s (%s) was created, but its metadata can't be changed to say so: %w", v.ID, p.Name, err))
		}
	}
	if err := s.recordOwner(ctx, p, v); err != nil {
		return at, err
	}
	s.removeTwins(ctx, at)
	at.usable = true
	return at, nil
}

// recordOwner gives a volume that was restored from a backup its own metadata again, by
// which the next call knows it.
func (s *Service) recordOwner(ctx context.Context, p *plan, v *cloud.Volume) error {
	if !s.owned(v.Metadata) {
		metadata := maps.Clone(p.ask.Metadata)
		delete(metadata, provisionalKey)
		err := s.cloud.SetVolumeMetadata(ctx, v.ID, metadata)
		switch {
		case refusesRecord(err):
			log(ctx, v.ID).Warn("a restored volume does not get its metadata", zap.Error(err))
			return nil
		case err != nil:
			return unfinished(fmt.Errorf("volume %s (%s) is restored, and has to get its metadata: %w", v.ID, p.Name, err))
		}
	}
	s.restored.Delete(p.Name)
	return nil
}

// untilMade waits until an accepted volume is made, and longer than
// Options.CreateWait only in several calls: a creation may have been lost in the
// cloud, and the caller has others to make.
func (s *Service) untilMade(ctx context.Context, p *plan, at attempt) (attempt, error) {
	v := at.volume
	// The volume of this very call is old only by a clock that is wrong.
	if !at.mine {
		if gone, err := s.removeLost(ctx, v); gone || err != nil {
			return at.next(), err
		}
	}
	if p.SnapshotID != "" {
		s.restored.Store(p.Name, v.ID)
	}
	limited, cancel := context.WithTimeout(ctx, s.opts.CreateWait)
	defer cancel()
	now, err := wait(limited, s, s.volumes, volumeKey{id: v.ID, name: p.Name}, p.operation(), func(now volumeState) (bool, error) {
		// Its own created_at has a fraction of a second in the answer to the request only.
		yields := at.mine && slices.ContainsFunc(s.claimants(now.named, p.Name), func(o cloud.Volume) bool { return o.ID != v.ID && older(&o, v) })
		return now.volume == nil || !beingMade(now.volume) || yields, nil
	})
	switch {
	case err != nil && ctx.Err() == nil && limited.Err() != nil:
		return at, fmt.Errorf("volume %s (%s) still has status %s, %s after it was asked for: %w",
			v.ID, p.Name, v.Status, time.Since(v.CreatedAt).Round(time.Second), ErrUnfinished)
	case err != nil:
		return at, fmt.Errorf("waiting for volume %s: %w", p.Name, unfinished(err))
	case now.volume == nil:
		return at, fmt.Errorf("volume %s (%s) disappeared while it was created: %w", v.ID, p.Name, ErrUnfinished)
	}
	// A backup may be restored over what had data before.
	at.seen = at.seen || v.Status != cloud.VolumeRestoringBackup
	at.volume = now.volume
	at.others = slices.DeleteFunc(s.claimants(now.named, p.Name), func(o cloud.Volume) bool { return o.ID == v.ID })
	return at, nil
}

// beingMade reports whether Cinder is still at work on a new volume.
func beingMade(v *cloud.Volume) bool {
	switch v.Status {
	case cloud.VolumeCreating, cloud.VolumeDownloading, cloud.VolumeRestoringBackup:
		return true
	}
	return false
}

// creationFailed removes a volume that could not be created and goes on elsewhere: it was
// seen in the making, or Cinder says that its creation failed, and it was not published
// since (one back end may have failed before another made it). Any other in error is
// kept, since it may have held data.
func (s *Service) creationFailed(ctx context.Context, p *plan, at attempt) (attempt, error) {
	v := at.volume
	fault, err := s.cloud.VolumeFault(ctx, v.ID)
	if err != nil {
		return at, unfinished(fmt.Errorf("volume %s has status error, reading the cause: %w", v.ID, err))
	}
	cause := fmt.Sprintf("creating volume %s (%s) failed: %s", v.ID, v.Name, fault)
	neverUsable := at.seen || fault.Creation && v.Metadata[NeverPublishedKey] != "false" && !s.unrecorded.Load()
	if len(v.Attachments) > 0 || !neverUsable {
		if err := p.differs(v); err != nil {
			return at, err
		}
		return at, fmt.Errorf("%s: it is kept, because it may have been usable once; remove it by hand if it was not: %w", cause, ErrUnfinished)
	}
	log(ctx, v.ID).Info("removing a volume that could not be created", zap.Stringer("cause", fault))
	if err := s.untilGone(ctx, v.ID); err != nil {
		return at, unfinished(fmt.Errorf("%s; removing it: %w", cause, err))
	}
	switch {
	case !at.seen:
		p.last(v.Zone)
	case !fault.NoRoom && fault.Text != "":
		return at, fmt.Errorf("%s: %w", cause, ErrUnfinished)
	default:
		p.unsure = p.unsure || !fault.NoRoom
		err = p.elsewhere(cause)
	}
	return at.next(), err
}

// takeBack removes a volume that no call has returned, because it isn't what was
// asked for. Where that is its zone, the next one may do.
func (s *Service) takeBack(ctx context.Context, p *plan, at attempt, unfit error) (attempt, error) {
	v := at.volume
	log(ctx, v.ID).Warn("the cloud has made another volume than was asked for: it is removed again", zap.Error(unfit))
	if err := s.withdraw(ctx, v); err != nil {
		return at, unfinished(fmt.Errorf("%s; removing volume %s again: %w", unfit.Error(), v.ID, err))
	}
	switch {
	case !at.mine:
		return at.next(), nil
	case errors.Is(unfit, ErrNoCapacity):
		return at.next(), p.elsewhere(unfit.Error())
	}
	return at, unfit
}

// removeLost asks Cinder to forget a creation that has been going on for longer than
// Options.LostAfter. Cinder does so only as long as the scheduler has found no host
// for it, so that nothing was ever made: the message to the scheduler is lost. As
// soon as a host has the volume, Cinder refuses.
func (s *Service) removeLost(ctx context.Context, v *cloud.Volume) (gone bool, err error) {
	age := time.Since(v.CreatedAt)
	if v.Status != cloud.VolumeCreating || v.CreatedAt.IsZero() || age < s.opts.LostAfter || len(v.Attachments) > 0 {
		return false, nil
	}
	err = s.cloud.DeleteVolume(ctx, v.ID)
	switch {
	case errors.Is(err, cloud.ErrInvalid), errors.Is(err, cloud.ErrConflict):
		log(ctx, v.ID).Warn("a host of Cinder's has been making a volume for very long", zap.Duration("age", age))
		return false, nil
	case err == nil:
		log(ctx, v.ID).Warn("the cloud had lost a creation before a host was found: it is repeated", zap.Duration("age", age))
		err = s.waitGone(ctx, v.ID)
	}
	if err != nil && !errors.Is(err, cloud.ErrNotFound) {
		return false, unfinished(fmt.Errorf("removing volume %s, which has been creating for %s: %w", v.ID, age.Round(time.Second), err))
	}
	return true, nil
}

// withdraw removes a volume that may still be in the making, when that is over.
// Cinder takes an earlier deletion for done: it forgets the volume, and the back
// end makes it all the same, for nobody, where nothing ever deletes it.
func (s *Service) withdraw(ctx context.Context, v *cloud.Volume) error {
	if v.Status == cloud.VolumeCreating {
		limited, cancel := context.WithTimeout(ctx, s.opts.CreateWait)
		defer cancel()
		_, err := s.waitVolume(limited, v.ID, "create volume", func(v *cloud.Volume) (bool, error) {
			return v == nil || v.Status != cloud.VolumeCreating, nil
		})
		if err != nil && ctx.Err() == nil && limited.Err() != nil {
			return fmt.Errorf("volume %s has been creating for %s: %w", v.ID, time.Since(v.CreatedAt).Round(time.Second), ErrUnfinished)
		}
		if err != nil {
			return fmt.Errorf("waiting for volume %s to be made: %w", v.ID, err)
		}
	}
	return s.untilGone(ctx, v.ID)
}

// operation names the creation for the watcher: copies take longer.
func (r CreateRequest) operation() string {
	switch {
	case r.SnapshotID != "":
		return "create volume from snapshot"
	case r.SourceVolumeID != "":
		return "create volume from volume"
	}
	return "create volume"
}
