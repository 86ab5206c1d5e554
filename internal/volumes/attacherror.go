package volumes

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// unknown is returned when the volume could not be read after a refusal.
func (a *attachment) unknown(refusal, err error) error {
	if errors.Is(err, cloud.ErrNotFound) {
		return fmt.Errorf("attaching volume %s to server %s: %w", a.volumeID, a.serverID, err)
	}
	return unfinished(errors.Join(refusal, err))
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

// elsewhere names the server that has the volume.
func (a *attachment) elsewhere(v *cloud.Volume) error {
	return fmt.Errorf("volume %s: %w: %s has it, and its type %q does not allow server %s to have it too",
		v.ID, ErrAttachedElsewhere, v.Attachments[0].ServerID, v.Type, a.serverID)
}

// contradicted explains a refusal for which the volume itself gives no reason.
// That Nova forgets an attachment a moment later than Cinder is no reason to
// give up at once.
func (a *attachment) contradicted(v *cloud.Volume, refusal error) (*cloud.Volume, bool, error) {
	if strings.Contains(refusal.Error(), "already attached") {
		a.contradictions++
		return nil, a.contradictions <= 3, fmt.Errorf("volume %s has status %s, but Nova lists it as attached: %w: if that stays so, %s: %w",
			v.ID, v.Status, ErrState, ghostRemedy(v.ID, "SERVER"), refusal)
	}
	if errors.Is(refusal, cloud.ErrInvalid) {
		return nil, false, fmt.Errorf("attaching volume %s (status %s, zone %s) to server %s: %w: %w", v.ID, v.Status, v.Zone, a.serverID, ErrState, refusal)
	}
	return nil, false, fmt.Errorf("attaching volume %s to server %s: %w", v.ID, a.serverID, unfinished(refusal))
}

// ghostRemedy is how an operator gets rid of an attachment that Nova lists and
// Cinder doesn't know, as it stays when nova-compute hung: Nova detaches it when
// Cinder knows it, too.
func ghostRemedy(volumeID, serverID string) string {
	return fmt.Sprintf("run `openstack --os-volume-api-version 3.44 volume attachment create --connect %s %s` "+
		"and `volume attachment complete` with the id that it prints, then it can be detached", volumeID, serverID)
}
