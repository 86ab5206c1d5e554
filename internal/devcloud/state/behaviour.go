package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// Behaviour is what real clouds differ in.
type Behaviour struct {
	// ClonesHoldSnapshots: as with Ceph RBD, the deletion of a snapshot that a
	// volume was made from is accepted and then given up.
	ClonesHoldSnapshots bool `json:"clones_hold_snapshots"`
	// HangBusyDetach: the detachment of a device that is still open stays in
	// `detaching` until the device is let go of. Otherwise it is given up
	// after the latency's step "attachment.busy", and the volume is in use again.
	HangBusyDetach bool `json:"hang_busy_detach"`
	// RefuseDeleteWhileCreating: a volume that is being created is never
	// deleted. Otherwise one that no backend was chosen for yet is gone at
	// once, and its file is an orphan on the backend later.
	RefuseDeleteWhileCreating bool `json:"refuse_delete_while_creating"`
	// SeparateZones: a volume cannot be attached to a server in another zone
	// (Nova's cross_az_attach=False).
	SeparateZones bool `json:"separate_zones"`
	// ZoneFallback: a volume for a zone that does not exist is made in the
	// default zone instead of being refused (Cinder's
	// allow_availability_zone_fallback=True).
	ZoneFallback bool `json:"zone_fallback"`
	// BackendZones are the zones that a back end is in, by the back end's name; one
	// that is left out is in all of them. A volume for another zone ends in error,
	// as it does where a zone has no room.
	BackendZones map[string][]string `json:"backend_zones,omitempty"`
	// MaxDisks is the number of disks that a server may have, its root disk
	// counted; 0 is no limit.
	MaxDisks int `json:"max_disks"`
	// Slots is the number of disks that a guest has places for; 0 is no limit. One
	// more is accepted by Nova and then gone, as where libvirt finds no PCI slot.
	Slots int `json:"slots"`
	// RPCTimeout is how long Nova's API waits for a compute that hangs, and
	// DownAfter when it knows that the compute does. In JSON: strings.
	RPCTimeout Span `json:"rpc_timeout"`
	DownAfter  Span `json:"down_after"`
	// OnlineExtendFails: the extension of an attached volume is accepted and
	// ends in error_extending, as with Cinder's NFS driver.
	OnlineExtendFails bool `json:"online_extend_fails"`
	// TokenLifetime is how long a token is good for. In JSON: a string.
	TokenLifetime Span `json:"token_lifetime"`
	// CredentialsExpire is when the application credentials end, and PasswordsExpire when
	// the passwords do; zero for never.
	CredentialsExpire time.Time `json:"credentials_expire,omitzero"`
	PasswordsExpire   time.Time `json:"passwords_expire,omitzero"`
	// MadeEarlier is how much earlier than it was a new volume says that it was made, as
	// if that had been so long ago. In JSON: a string.
	MadeEarlier Span `json:"made_earlier"`
	// ComputeVersion is Nova's highest microversion, up to 2.101.
	ComputeVersion string `json:"compute_version"`
	// VolumeVersion is Cinder's highest microversion, up to 3.70.
	VolumeVersion string `json:"volume_version"`
}

// DefaultBehaviour is that of the cloud that was measured.
func DefaultBehaviour() Behaviour {
	return Behaviour{TokenLifetime: Span(time.Hour), RPCTimeout: Span(time.Minute), DownAfter: Span(time.Minute), ComputeVersion: "2.93", VolumeVersion: "3.70"}
}

// serves reports whether a back end is in a zone. The back end "" is nowhere.
func (b Behaviour) serves(backend, zone string) bool {
	zones, limited := b.BackendZones[backend]
	return backend != "" && (!limited || slices.Contains(zones, zone))
}

// Ended reports whether credentials that end then have ended.
func Ended(end time.Time) bool { return !end.IsZero() && !time.Now().Before(end) }

// Span is a duration that is a string in JSON.
type Span time.Duration

// MarshalText writes "1h0m0s".
func (s Span) MarshalText() ([]byte, error) { return []byte(time.Duration(s).String()), nil }

// UnmarshalText reads "1h".
func (s *Span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	*s = Span(d)
	return err
}

// check completes a behaviour with defaults and refuses what makes no sense.
func (b Behaviour) check() (Behaviour, error) {
	standard := DefaultBehaviour()
	for _, span := range []struct {
		value    *Span
		standard Span
	}{{&b.TokenLifetime, standard.TokenLifetime}, {&b.RPCTimeout, standard.RPCTimeout}, {&b.DownAfter, standard.DownAfter}} {
		if *span.value <= 0 {
			*span.value = span.standard
		}
	}
	for _, v := range []struct {
		name, limit string
		value       *string
		standard    string
	}{
		{"compute_version", "2.101", &b.ComputeVersion, standard.ComputeVersion},
		{"volume_version", "3.70", &b.VolumeVersion, standard.VolumeVersion},
	} {
		if *v.value == "" {
			*v.value = v.standard
		}
		limit, err := rest.ParseMicroversion(v.limit)
		if err != nil {
			return b, err
		}
		got, err := rest.ParseMicroversion(*v.value)
		if err != nil || got.Major != limit.Major || got.Minor > limit.Minor {
			return b, fmt.Errorf("%s %q: use a version up to %s", v.name, *v.value, v.limit)
		}
	}
	if b.MaxDisks < 0 || b.Slots < 0 {
		return b, errors.New("max_disks and slots must not be negative")
	}
	return b, nil
}

// Behaviour returns how the cloud behaves.
func (c *Cloud) Behaviour() Behaviour {
	c.timing.RLock()
	defer c.timing.RUnlock()
	return c.behave
}

// SetBehaviour changes how the cloud behaves, now and after a restart.
func (c *Cloud) SetBehaviour(b Behaviour) error {
	b, err := b.check()
	if err != nil {
		return err
	}
	err = c.update(func() error {
		s, _ := c.settings.Get(settingsKey)
		s.Behaviour = &b
		c.settings.Put(settingsKey, s)
		return nil
	})
	if err != nil {
		return err
	}
	c.timing.Lock()
	defer c.timing.Unlock()
	c.behave = b
	return nil
}

// Latency returns how long everything takes.
func (c *Cloud) Latency() latency.Model {
	c.timing.RLock()
	defer c.timing.RUnlock()
	return c.model
}

// SetLatency changes how long everything takes from now on, until a restart.
func (c *Cloud) SetLatency(m latency.Model) {
	c.timing.Lock()
	defer c.timing.Unlock()
	c.model = m.WithDefaults()
}

// pause waits for as long as a step takes.
func (c *Cloud) pause(ctx context.Context, step string) error {
	return latency.Sleep(ctx, c.Latency().Step(step))
}
