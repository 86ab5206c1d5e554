package inflight_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/cinder-csi/cinder-csi/internal/inflight"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestWhatHangsCostsOneGoroutine however often it is asked, and by how many at once.
func TestWhatHangsCostsOneGoroutine(t *testing.T) {
	for name, do := range map[string]func(*inflight.Group[int], context.Context, string, func() (int, error)) (int, error){
		"Do": (*inflight.Group[int]).Do, "DoAfter": (*inflight.Group[int]).DoAfter,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var group inflight.Group[int]
				var begun atomic.Int32
				hung := make(chan struct{})
				work := func() (int, error) { begun.Add(1); <-hung; return 7, nil }
				var calls sync.WaitGroup
				for i := range 50 {
					calls.Go(func() {
						for range 3 {
							ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*time.Second)
							began := time.Now()
							if _, err := do(&group, ctx, "disk", work); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Duration(i+1)*time.Second {
								t.Errorf("%v after %v", err, time.Since(began))
							}
							cancel()
						}
					})
				}
				calls.Wait()
				if begun.Load() != 1 {
					t.Errorf("begun %d times", begun.Load())
				}
				if v, err := do(&group, t.Context(), "another disk", func() (int, error) { return 8, nil }); v != 8 || err != nil {
					t.Errorf("another key: %d, %v", v, err)
				}
				close(hung)
				synctest.Wait()
				if v, err := do(&group, t.Context(), "disk", func() (int, error) { return 9, nil }); v != 9 || err != nil {
					t.Errorf("after it went on: %d, %v", v, err)
				}
			})
		})
	}
}

func TestCallersAtOneTimeShareTheOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var group inflight.Group[string]
		var begun atomic.Int32
		failure := errors.New("I/O error")
		var calls sync.WaitGroup
		for range 20 {
			calls.Go(func() {
				v, err := group.Do(t.Context(), "disk", func() (string, error) {
					begun.Add(1)
					time.Sleep(time.Second)
					return "half", failure
				})
				if v != "half" || !errors.Is(err, failure) {
					t.Errorf("%q, %v", v, err)
				}
			})
		}
		calls.Wait()
		if begun.Load() != 1 {
			t.Errorf("begun %d times", begun.Load())
		}
	})
}

// TestDoAfterTakesNoOutcomeOfBefore: ten calls come while work of before is under way.
func TestDoAfterTakesNoOutcomeOfBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var group inflight.Group[int64]
		start := time.Now()
		var begun atomic.Int32
		work := func() (int64, error) {
			begun.Add(1)
			at := time.Since(start)
			time.Sleep(time.Second)
			return int64(at), nil
		}
		var calls sync.WaitGroup
		calls.Go(func() { _, _ = group.DoAfter(t.Context(), "disk", work) })
		time.Sleep(time.Second / 2)
		for range 10 {
			calls.Go(func() {
				called := time.Since(start)
				if at, err := group.DoAfter(t.Context(), "disk", work); err != nil || time.Duration(at) < called {
					t.Errorf("called at %v, got what was done at %v, %v", called, time.Duration(at), err)
				}
			})
		}
		calls.Wait()
		if begun.Load() != 2 {
			t.Errorf("begun %d times, want once for the first and once for all others", begun.Load())
		}
	})
}

func TestACallThatHasEndedBeginsNothing(t *testing.T) {
	var group inflight.Group[int]
	gone := errors.New("the pod was deleted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	_, err := group.Do(ctx, "disk", func() (int, error) { t.Error("begun"); return 0, nil })
	if !errors.Is(err, gone) {
		t.Error(err)
	}
}

// TestAPanicEndsTheWorkAndNothingElse, also for those who wait for it and when nobody does.
func TestAPanicEndsTheWorkAndNothingElse(t *testing.T) {
	cause := errors.New("index out of range")
	for name, value := range map[string]any{"a value": "odd", "an error": cause} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zap.DebugLevel)
				ctx := logging.Into(t.Context(), zap.New(core))
				var group inflight.Group[int]
				work := func() (int, error) { time.Sleep(time.Second); panic(value) }
				var calls sync.WaitGroup
				for range 5 {
					calls.Go(func() {
						_, err := group.Do(ctx, "disk", work)
						var p *inflight.PanicError
						if !errors.As(err, &p) || p.Value != value || errors.Is(err, cause) != (name == "an error") {
							t.Errorf("got %v", err)
						}
					})
				}
				calls.Wait()
				short, cancel := context.WithTimeout(ctx, time.Millisecond)
				defer cancel()
				if _, err := group.Do(short, "disk", work); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("it is kept: %v", err)
				}
				time.Sleep(2 * time.Second)
				if v, err := group.Do(ctx, "disk", func() (int, error) { return 1, nil }); v != 1 || err != nil {
					t.Errorf("afterwards: %d, %v", v, err)
				}
				told := logs.FilterField(zap.String("work", "disk")).All()
				if len(told) != 2 || !strings.Contains(told[0].ContextMap()["stack"].(string), "inflight_test") {
					t.Errorf("logged %d times: %v", len(told), told)
				}
			})
		})
	}
}

func TestAnInterfaceThatIsNilIsAnOutcome(t *testing.T) {
	var group inflight.Group[error]
	if v, err := group.Do(t.Context(), "x", func() (error, error) { return nil, nil }); v != nil || err != nil {
		t.Error(v, err)
	}
}
