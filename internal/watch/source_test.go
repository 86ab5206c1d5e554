package watch_test

import (
	"context"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cinder-csi/cinder-csi/internal/watch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a thing with keys that are done at a given time. Asking it takes
// 10 ms, half of it before it looks.
type source struct {
	mu     sync.Mutex
	doneAt map[int]time.Time
	fail   error
	asked  []int
	times  []time.Time
	lags   []time.Duration
}

func newSource() *source { return &source{doneAt: make(map[int]time.Time)} }

func (s *source) start(key int, takes time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doneAt[key] = time.Now().Add(takes)
}

func (s *source) ask(ctx context.Context, keys []int) (map[int]bool, error) {
	s.mu.Lock()
	s.asked = append(s.asked, len(keys))
	s.times = append(s.times, time.Now())
	s.mu.Unlock()
	if err := pause(ctx, 5*time.Millisecond); err != nil {
		return nil, err
	}
	s.mu.Lock()
	fail := s.fail
	states := make(map[int]bool)
	for _, key := range keys {
		states[key] = !time.Now().Before(s.doneAt[key])
	}
	s.mu.Unlock()
	if fail != nil {
		return nil, fail
	}
	return states, pause(ctx, 5*time.Millisecond)
}

// wait waits for a key and records how late it noticed.
func (s *source) wait(ctx context.Context, w *watch.Watcher[int, bool], key int, kind string) error {
	_, err := w.Wait(ctx, key, kind, isDone)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.lags = append(s.lags, time.Since(s.doneAt[key]))
	}
	return err
}

func (s *source) setFail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *source) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// lag returns a quantile of the recorded lags, leaving out the first ones in
// which the watcher learned.
func (s *source) lag(quantile float64, skip int) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	lags := slices.Clone(s.lags[skip:])
	slices.Sort(lags)
	return lags[int(math.Round(quantile*float64(len(lags)-1)))]
}

func isDone(state bool) (bool, error) { return state, nil }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
