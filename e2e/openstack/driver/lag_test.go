package driver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// sight is what an observer saw of all volumes at one moment: the cloud was so
// at some time between asked and answered.
type sight struct {
	asked, answered time.Time
	volumes         map[string]string
}

// observer asks the cloud again and again, past the driver.
type observer struct {
	mu   sync.Mutex
	seen []sight
}

// observe runs an observer until the context ends.
func observe(ctx context.Context, r *rig, servers []string, pause time.Duration) (*observer, *sync.WaitGroup) {
	o := &observer{}
	var wait sync.WaitGroup
	wait.Go(func() {
		for ctx.Err() == nil {
			if s, ok := r.look(ctx, servers); ok {
				o.mu.Lock()
				o.seen = append(o.seen, s)
				o.mu.Unlock()
			}
			time.Sleep(pause)
		}
	})
	return o, &wait
}

// look asks Cinder for all volumes and Nova for what it lists on the servers,
// both at once.
func (r *rig) look(ctx context.Context, servers []string) (sight, bool) {
	s := sight{asked: time.Now(), volumes: map[string]string{}}
	listed := make([]struct {
		Attachments []struct {
			VolumeID string `json:"volumeId"`
		} `json:"volumeAttachments"`
	}, len(servers))
	var all struct {
		Volumes []struct {
			ID, Name, Status string
			Size             int
			Attachments      []any
		}
	}
	errs := make([]error, len(servers)+1)
	var wait sync.WaitGroup
	for i, server := range servers {
		wait.Go(func() {
			got, err := r.member.Compute(ctx, "60", http.MethodGet, "/servers/"+r.cloud.Servers[server]+"/os-volume_attachments", nil)
			errs[i] = errors.Join(err, got.Into(&listed[i]))
		})
	}
	got, err := r.member.Volume(ctx, "66", http.MethodGet, "/volumes/detail", nil)
	errs[len(servers)] = errors.Join(err, got.Into(&all))
	wait.Wait()
	s.answered = time.Now()
	attached := map[string]bool{}
	for _, l := range listed {
		for _, a := range l.Attachments {
			attached[a.VolumeID] = true
		}
	}
	for _, v := range all.Volumes {
		state := fmt.Sprintf("%s/%d/%d", v.Status, len(v.Attachments), v.Size)
		if attached[v.ID] {
			state += " on a server"
		}
		s.volumes[v.Name] = state
	}
	return s, errors.Join(errs...) == nil
}

// lag is how long after the cloud was done the driver answered: at least and at
// most, since the observer looks now and then.
type lag struct{ least, most time.Duration }

// lagOf finds when a volume came into a state, after a call began.
func (o *observer) lagOf(name, state string, began, ended time.Time) (lag, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	last := began
	for _, s := range o.seen {
		if s.answered.Before(began) {
			continue
		}
		if s.volumes[name] == state && s.asked.After(began) {
			return lag{max(0, ended.Sub(s.answered)), max(0, ended.Sub(last))}, true
		}
		if s.asked.After(began) {
			last = s.asked
		}
	}
	return lag{}, false
}

// step is one call and the state in which the cloud is done with it.
type step struct {
	name, volume, state string
	began, ended        time.Time
}

// TestDetectionLag measures how long after the cloud is done the driver says
// so. It is a measurement: where a machine has two cores for a whole cloud, the
// cloud's own answers take most of it. make bench holds the driver to the budget.
func TestDetectionLag(t *testing.T) {
	r := start(t, "cloud.conf")
	for _, atOnce := range []int{1, 10} {
		ctx, cancel := context.WithCancel(context.Background())
		servers := []string{"node1", "node2"}
		seen, ended := observe(ctx, r, servers, 20*time.Millisecond)
		const rounds = 4
		var mu sync.Mutex
		var steps []step
		var wait sync.WaitGroup
		for i := range atOnce {
			wait.Go(func() {
				for n := range rounds {
					done, err := r.timed(fmt.Sprintf("lag-%d-%d-%d", atOnce, i, n), servers[i%2])
					mu.Lock()
					steps = append(steps, done...)
					if err != nil {
						t.Error(err)
					}
					mu.Unlock()
				}
			})
		}
		wait.Wait()
		time.Sleep(time.Second) // the observer sees the last one, too
		cancel()
		ended.Wait()
		tell(t, atOnce, seen, steps)
	}
}

// timed is the life of a volume, with the time of each call.
func (r *rig) timed(name, server string) ([]step, error) {
	ctx := context.Background()
	var id string
	calls := []struct {
		name, state string
		do          func() error
	}{
		{"create", "available/0/1", func() error {
			got, err := r.CreateVolume(ctx, request(name))
			id = got.GetVolume().GetVolumeId()
			return err
		}},
		{"attach", "in-use/1/1 on a server", func() error { return r.publish(ctx, id, server, false) }},
		{"extend", "in-use/1/2 on a server", func() error { return r.expand(ctx, id, 2*gib) }},
		{"detach", "available/0/2", func() error { return r.unpublish(ctx, id, server) }},
		{"delete", "", func() error { _, err := r.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id}); return err }},
	}
	var done []step
	for _, call := range calls {
		s := step{name: call.name, volume: name, state: call.state, began: time.Now()}
		if err := insist(call.do); err != nil {
			if id != "" {
				r.Cleanup(func() { r.remove(id) })
			}
			return done, fmt.Errorf("%s: %s: %w", name, call.name, err)
		}
		s.ended = time.Now()
		done = append(done, s)
	}
	return done, nil
}

// tell prints the lags of each kind of call, and of all.
func tell(t *testing.T, atOnce int, seen *observer, steps []step) {
	t.Helper()
	kinds, missed := map[string][]lag{}, 0
	for _, s := range steps {
		l, ok := seen.lagOf(s.volume, s.state, s.began, s.ended)
		if !ok {
			missed++ // the next call changed it before the observer looked again
			continue
		}
		kinds[s.name] = append(kinds[s.name], l)
		kinds["all"] = append(kinds["all"], l)
	}
	if missed == len(steps) {
		t.Error("the observer has missed all states")
	}
	t.Logf("| lag, %2d in flight: the observer has missed %d of %d states", atOnce, missed, len(steps))
	for _, name := range []string{"create", "attach", "extend", "detach", "delete", "all"} {
		ls := kinds[name]
		if len(ls) == 0 {
			continue
		}
		t.Logf("| lag, %2d in flight, %-7s %3d calls: median %s, p99 %s (budget 250 ms, 1 s)", atOnce, name, len(ls), at(ls, 0.5), at(ls, 0.99))
	}
}

// at is a quantile of the bounds.
func at(ls []lag, q float64) string {
	pick := func(of func(lag) time.Duration) int64 {
		all := make([]time.Duration, 0, len(ls))
		for _, l := range ls {
			all = append(all, of(l))
		}
		slices.Sort(all)
		return all[min(len(all)-1, int(q*float64(len(all))))].Milliseconds()
	}
	return fmt.Sprintf("%d to %d ms", pick(func(l lag) time.Duration { return l.least }), pick(func(l lag) time.Duration { return l.most }))
}
