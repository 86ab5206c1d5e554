package volumes_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/volumes/cloudtest"
)

// lags records how long after the cloud was done a call returned.
type lags struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *lags) note(done time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, time.Since(done))
}

// quantile leaves out the first quarter, in which the durations are learned.
func (l *lags) quantile(q float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	some := slices.Clone(l.all[len(l.all)/4:])
	slices.Sort(some)
	return some[int(q*float64(len(some)-1))].Round(time.Millisecond)
}

// busy runs callers that each take volumes through their lives on servers,
// beside other volumes, and returns how late they noticed and what they cost.
func busy(t *testing.T, callers, rounds, servers, others int, spread float64) (l *lags, requests map[string]int, took time.Duration) {
	c := cloudtest.New()
	c.Latency = cloudtest.Latency{
		Request: 10 * time.Millisecond, Create: 400 * time.Millisecond, Delete: 300 * time.Millisecond,
		Attach: 1200 * time.Millisecond, Detach: 800 * time.Millisecond, Extend: 300 * time.Millisecond, Spread: spread,
	}
	s := volumes.New(c, volumes.Options{Cluster: cluster})
	for range others {
		c.Add(cloud.Volume{Status: cloud.VolumeAvailable, SizeGiB: 1})
	}
	var ids []string
	for range servers {
		ids = append(ids, c.AddServer())
	}
	l = &lags{}
	start := time.Now()
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			for round := range rounds {
				if err := life(t, s, c, l, fmt.Sprintf("%d-%d", caller, round), ids[caller%servers]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if n := len(c.Volumes()); n != others {
		t.Errorf("%d volumes are left of %d", n, others)
	}
	return l, c.Requests(), time.Since(start)
}

func life(t *testing.T, s *volumes.Service, c *cloudtest.Cloud, l *lags, name, server string) error {
	v, err := s.Create(t.Context(), volumes.CreateRequest{Name: name, SizeGiB: 1})
	if err != nil {
		return err
	}
	l.note(c.Changed(v.ID))
	if _, err := s.Attach(t.Context(), v.ID, server); err != nil {
		return err
	}
	l.note(c.Changed(v.ID))
	if _, err := s.Extend(t.Context(), v.ID, 2); err != nil {
		return err
	}
	l.note(c.Changed(v.ID))
	if err := s.Detach(t.Context(), v.ID, server); err != nil {
		return err
	}
	l.note(c.Changed(v.ID))
	if err := s.Delete(t.Context(), v.ID); err != nil {
		return err
	}
	l.note(c.Changed(v.ID))
	return nil
}

func TestCallsReturnSoonAfterTheCloudIsDone(t *testing.T) {
	cases := map[string]struct {
		callers, rounds, servers, others int
		// spread is how much the durations vary.
		spread float64

		requests    float64 // per volume
		median, p99 time.Duration
	}{
		"with one in flight":                                          {1, 60, 1, 0, 0.6, 23, 150 * time.Millisecond, 600 * time.Millisecond},
		"with twenty in flight on 4 servers":                          {20, 10, 4, 0, 0.6, 9, 300 * time.Millisecond, 1200 * time.Millisecond},
		"with 100 in flight on 50 servers":                            {100, 10, 50, 0, 0.6, 8.5, 200 * time.Millisecond, time.Second},
		"with 200 in flight on 20 servers":                            {200, 10, 20, 0, 0.6, 8, 250 * time.Millisecond, time.Second},
		"with one in flight, always of the same duration":             {1, 60, 1, 0, 0, 23, 150 * time.Millisecond, 600 * time.Millisecond},
		"with 200 in flight on 20 servers, all of the same duration":  {200, 10, 20, 0, 0, 8, 250 * time.Millisecond, time.Second},
		"with 100 in flight on 50 servers beside 3,000 other volumes": {100, 10, 50, 3000, 0.6, 9.5, 250 * time.Millisecond, time.Second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, requests, took := busy(t, c.callers, c.rounds, c.servers, c.others, c.spread)
				total := 0
				for _, n := range requests {
					total += n
				}
				lives := c.callers * c.rounds
				each, polls := float64(total)/float64(lives), float64(total-7*lives)/took.Seconds()
				median, p99 := l.quantile(0.5), l.quantile(0.99)
				t.Logf("%.1f requests per volume, %.1f polls a second, lag: median %v, p99 %v", each, polls, median, p99)
				if each > c.requests {
					t.Errorf("%.1f requests per volume, at most %.1f are allowed", each, c.requests)
				}
				if limit := 1.1 * float64(1+c.servers); c.callers > 1 && polls > limit {
					t.Errorf("%.1f polls a second, at most %.1f are allowed", polls, limit)
				}
				if median > c.median || p99 > c.p99 {
					t.Errorf("lag: median %v, p99 %v, at most %v and %v are allowed", median, p99, c.median, c.p99)
				}
			})
		})
	}
}
