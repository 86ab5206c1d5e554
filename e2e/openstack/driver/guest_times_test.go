package driver

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"
)

// watchAttached returns when Nova first lists a volume on a server, and Cinder
// says that it is in use.
func (r *rig) watchAttached(ctx context.Context, id, server string) <-chan time.Time {
	seen := make(chan time.Time, 1)
	go func() {
		defer close(seen)
		listed := false
		for ctx.Err() == nil {
			if !listed {
				got, err := r.member.Compute(ctx, "60", http.MethodGet, "/servers/"+server+"/os-volume_attachments/"+id, nil)
				listed = err == nil && got.Status == http.StatusOK
			}
			if listed {
				var answer struct{ Volume struct{ Status string } }
				got, err := r.member.Volume(ctx, "66", http.MethodGet, "/volumes/"+id, nil)
				if err == nil && got.Into(&answer) == nil && answer.Volume.Status == "in-use" {
					seen <- time.Now()
					return
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	return seen
}

// TestGuestTimes measures how long it takes from when the cloud has attached a
// volume to when it is mounted in the guest: a new one, that is formatted first,
// and one that holds a filesystem.
func TestGuestTimes(t *testing.T) {
	r, one, two := withGuests(t)
	const rounds = 3
	for _, n := range []*node{one, two} {
		for _, fsType := range []string{"ext4", "xfs"} {
			var fresh, used, lag times
			for i := range rounds {
				req := request(fmt.Sprintf("times-%s-%s-%d", n.name, fsType, i))
				id := r.create(req)
				for _, kind := range []*times{&fresh, &used} {
					ctx, cancel := context.WithTimeout(t.Context(), slow)
					attached := r.watchAttached(ctx, id, n.guest.ID)
					d := n.attach(id, mountMode(fsType))
					answered := time.Now()
					d.stage()
					mounted := time.Now()
					at, ok := <-attached
					cancel()
					if !ok {
						t.Fatal("nobody saw the volume attached")
					}
					kind.add(mounted.Sub(at))
					lag.add(answered.Sub(at))
					d.leave()
				}
			}
			t.Logf("| %s, %s: attached to formatted and mounted %s, to mounted again %s; the driver's answer after %s",
				map[string]string{"guest1": "virtio-blk", "guest2": "virtio-scsi"}[n.name], fsType, fresh, used, lag)
		}
	}
}

// times are measurements of one thing.
type times []time.Duration

// add adds one. What the watcher saw later than the driver was not later.
func (t *times) add(d time.Duration) { *t = append(*t, max(0, d)) }

func (t times) String() string {
	sorted := slices.Sorted(slices.Values(t))
	if len(sorted) == 0 {
		return "never"
	}
	return fmt.Sprintf("%.2f s (%.2f to %.2f)", sorted[len(sorted)/2].Seconds(), sorted[0].Seconds(), sorted[len(sorted)-1].Seconds())
}
