package volumes

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// Names are not unique in Cinder, and two volumes get the name of one request where
// its POST was delayed, its answer lost, and the request repeated meanwhile, by this
// controller or by the one that leads now. The rule for volumes of one name and
// cluster:
//
//   - The oldest is the answer, by created_at and then by id. What is being deleted,
//     or failed to be deleted, was given up by its owner and doesn't count.
//   - A call that has made a younger one withdraws it. No call has returned it, since
//     every call returns the oldest.
//   - A call that returns the oldest removes the younger ones that nobody can have
//     used: they are marked as never published (see NeverPublishedKey), and are not
//     attached. Their maker may have died. Copies have no such mark; they are told in
//     the log.
//
// They are noticed by the list that looks for an earlier attempt and by the polls that
// wait for the volume, which ask for its name. Who commits last sees both. What stays
// unnoticed is a POST that is delayed until after the answer; the next call for the
// name finds it, if there is one. created_at has seconds, and API servers have clocks
// of their own: the younger of two made within that error may have been returned
// before the older appeared, by one of two controllers that work at the same time. A
// volume that was published since is not removed even then.

// find returns the volume that earlier calls of this name have made for this
// cluster, and others of the name. While that can't be found out, nothing is over:
// there may be one.
func (s *Service) find(ctx context.Context, name string) (attempt, error) {
	named, err := everyPage(func(page cloud.Page) ([]cloud.Volume, string, error) {
		return s.cloud.ListVolumes(ctx, cloud.VolumeFilter{Name: name}, page)
	})
	if err != nil {
		return attempt{}, unfinished(fmt.Errorf("looking for an earlier volume %s: %w", name, err))
	}
	for _, v := range named {
		if v.Name == name && s.owned(v.Metadata) && v.Status == cloud.VolumeErrorDeleting {
			log(ctx, v.ID).Warn("a volume of this name could not be deleted by Cinder: it is not used any more")
		}
	}
	return attempt{others: s.claimants(named, name)}.next(), nil
}

// claimants returns the volumes among some that a request of a name may have made,
// the oldest first. What others have named alike is none of ours, and so is what
// Cinder's filter takes for the same name. A volume that was restored from a backup is
// known by its id: in the end Cinder gives it all metadata of the volume that was backed
// up, perhaps by another cluster (cinder/backup/driver.py, _restore_vol_meta).
func (s *Service) claimants(volumes []cloud.Volume, name string) []cloud.Volume {
	var ours []cloud.Volume
	for _, v := range volumes {
		abandoned := v.Status == cloud.VolumeDeleting || v.Status == cloud.VolumeErrorDeleting
		restored, _ := s.restored.Load(name)
		if v.Name == name && (s.owned(v.Metadata) || restored == v.ID) && !abandoned {
			ours = append(ours, v)
		}
	}
	slices.SortFunc(ours, byAge)
	return ours
}

// byAge orders the older before the younger.
func byAge(a, b cloud.Volume) int {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
}

func older(a, b *cloud.Volume) bool { return byAge(*a, *b) < 0 }

// preferOlder passes to an older volume of the same name.
func (s *Service) preferOlder(ctx context.Context, at attempt) (attempt, error) {
	if !at.mine {
		at.others = append(at.others, *at.volume)
		return at.next(), nil
	}
	log(ctx, at.volume.ID).Info("an older volume has the same name: the one that was just made is removed",
		zap.String("older", at.others[0].ID))
	if err := s.withdraw(ctx, at.volume); err != nil {
		return at, unfinished(fmt.Errorf("removing volume %s, in place of which the older volume %s is used: %w", at.volume.ID, at.others[0].ID, err))
	}
	return at.next(), nil
}

// removeTwins removes younger volumes of the same name that nobody can have used.
// That it fails, or takes longer than one creation may, is no reason to withhold the
// volume that is good.
func (s *Service) removeTwins(ctx context.Context, at attempt) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.CreateWait)
	defer cancel()
	for i := range at.others {
		twin := &at.others[i]
		about := log(ctx, at.volume.ID).With(zap.String("twin", twin.ID))
		if s.unrecorded.Load() || !NeverPublished(twin) || len(twin.Attachments) > 0 || twin.Status == cloud.VolumeRestoringBackup {
			about.Warn("two volumes of this cluster have one name: the older is used, remove the other if nobody needs it")
			continue
		}
		about.Warn("two volumes of this cluster have one name: the older is used, the other was never published and is removed")
		if err := s.withdraw(ctx, twin); err != nil {
			about.Warn("the younger of two volumes of one name could not be removed", zap.Error(err))
		}
	}
}

// NeverPublished reports whether a volume bears the mark of one that was never
// published; see NeverPublishedKey. A copy doesn't: Cinder restores the metadata of a
// backup's volume, with the mark, but not what the mark says.
func NeverPublished(v *cloud.Volume) bool {
	return v.Metadata[NeverPublishedKey] == "true" && v.SnapshotID+v.SourceVolumeID+v.BackupID == ""
}

// StoredName returns a name as Cinder stores it: without white space around it.
func StoredName(name string) string {
	return strings.TrimFunc(name, func(r rune) bool {
		// Python strips four separators of ASCII besides.
		return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f
	})
}
