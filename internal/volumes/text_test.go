package volumes_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// What a call answers when it gives up waiting names the volume, the server, the status, since
// when that goes on, and what to do. A call that is kept from its turn names what keeps it.
func TestACallThatGivesUpTellsWhatIsKnown(t *testing.T) {
	type scene struct {
		*remote
		volume, server string
	}
	for name, c := range map[string]struct {
		fault  string
		call   func(ctx context.Context, s scene) error
		server bool
	}{
		"volume_create": {"volume.create", func(ctx context.Context, s scene) error {
			_, err := s.Create(ctx, volumes.CreateRequest{Name: "new", SizeGiB: 1})
			return err
		}, false},
		"volume_attach": {"attachment.create", func(ctx context.Context, s scene) error {
			_, err := s.Attach(ctx, s.volume, s.server)
			return err
		}, true},
		"volume_detach": {"attachment.delete", func(ctx context.Context, s scene) error {
			if _, err := s.Attach(ctx, s.volume, s.server); err != nil {
				return err
			}
			return s.Detach(ctx, s.volume, s.server)
		}, true},
		"volume_delete": {"volume.delete", func(ctx context.Context, s scene) error { return s.Delete(ctx, s.volume) }, false},
		"volume_extend": {"volume.extend", func(ctx context.Context, s scene) error {
			_, err := s.Extend(ctx, s.volume, 2)
			return err
		}, false},
		"snapshot_create": {"snapshot.create", func(ctx context.Context, s scene) error {
			_, err := s.CreateSnapshot(ctx, volumes.SnapshotRequest{Name: "snap", VolumeID: s.volume})
			return err
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := prometheus.NewRegistry()
			r := overHTTP(t, volumes.Options{Metrics: volumes.NewMetrics(registry), StuckAfter: time.Nanosecond})
			s := scene{r, r.create(volumes.CreateRequest{Name: "pvc-1"}).ID, r.dump().Servers[0].ID}
			r.faults(admin.Fault{Operation: c.fault, Stuck: true})
			ctx, cancel := context.WithCancel(r.within(time.Minute))
			outcome := make(chan error, 1)
			go func() { outcome <- c.call(ctx, s) }()
			labels := s.stuck(registry, name)
			var busy error
			if !c.server { // those wait for their turn
				busy = c.call(r.within(time.Minute), s)
			}
			cancel()
			err := <-outcome
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			words := []string{labels["volume_id"], "asked for since 20", "last seen in status " + labels["state"],
				"`cinder-csi-plugin inspect volume " + labels["volume_id"] + "`"}
			if c.server {
				words = append(words, s.server)
			} else {
				for _, word := range []string{"in progress: " + name, labels["state"]} {
					if !errors.Is(busy, volumes.ErrBusy) || !strings.Contains(busy.Error(), word) {
						t.Errorf("another call is told %q, without %q", busy, word)
					}
				}
			}
			for _, word := range words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
		})
	}
}

// A call that is kept from its turn names the operation that has it, and not its own.
func TestACallThatIsKeptFromItsTurnNamesWhatIsAtWork(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := overHTTP(t, volumes.Options{Metrics: volumes.NewMetrics(registry), StuckAfter: time.Nanosecond})
	v, server := r.create(volumes.CreateRequest{Name: "pvc-1"}).ID, r.dump().Servers[0].ID
	r.faults(admin.Fault{Operation: "attachment.create", Stuck: true})
	attached := make(chan error, 1)
	go func() {
		_, err := r.Attach(r.within(time.Minute), v, server)
		attached <- err
	}()
	r.stuck(registry, "volume_attach")
	_, err := r.Extend(r.within(time.Minute), v, 2)
	if !errors.Is(err, volumes.ErrBusy) || !strings.Contains(err.Error(), "in progress: volume_attach of server "+server+", asked for since") || strings.Contains(err.Error(), "volume_extend") {
		t.Errorf("got %v", err)
	}
	r.faults()
	if err := <-attached; err != nil {
		t.Error(err)
	}
}

// stuck waits until an operation counts as stuck in a state that the cloud has told, and
// returns its labels.
func (r *remote) stuck(registry *prometheus.Registry, operation string) map[string]string {
	r.Helper()
	for ctx := r.within(time.Minute); ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		for _, series := range slices.Sorted(maps.Keys(scrape(r.T, registry, "cinder_csi_stuck_operation_seconds"))) {
			labels := make(map[string]string)
			for pair := range strings.SplitSeq(series, " ") {
				name, value, _ := strings.Cut(pair, "=")
				labels[name] = value
			}
			if labels["operation"] == operation && labels["state"] != "unknown" && labels["volume_id"] != "" {
				return labels
			}
		}
	}
	r.Fatal("nothing is stuck")
	return nil
}
