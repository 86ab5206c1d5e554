package watch_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/watch"
)

// chance returns numbers in [0, 1) of a seed that is logged: WATCH_SEED has a test draw
// the same numbers again.
func chance(t *testing.T) func() float64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("WATCH_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("WATCH_SEED: %v", err)
		}
	}
	t.Logf("WATCH_SEED=%d", seed)
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(seed, 0))
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return dice.Float64()
	}
}

// taking returns how long the operation of a number takes.
type taking func(n int, random func() float64) time.Duration

func always(d time.Duration) taking {
	return func(int, func() float64) time.Duration { return d }
}

func between(lo, hi time.Duration) taking {
	return func(_ int, random func() float64) time.Duration { return lo + time.Duration(random()*float64(hi-lo)) }
}

func TestALoneWaiterIsAnsweredSoonWithFewQuestions(t *testing.T) {
	cases := map[string]struct {
		takes     taking
		median    time.Duration
		questions float64
	}{
		"operations that always take 50 ms":             {always(50 * time.Millisecond), 120 * time.Millisecond, 2},
		"operations that always take 1 s":               {always(time.Second), 150 * time.Millisecond, 2},
		"operations that always take 3.3 s":             {always(3300 * time.Millisecond), 250 * time.Millisecond, 4},
		"operations that always take 20 s":              {always(20 * time.Second), 250 * time.Millisecond, 8},
		"operations that take between 50 ms and 2 s":    {between(50*time.Millisecond, 2*time.Second), 250 * time.Millisecond, 5},
		"operations that take between 1.5 s and 2.5 s":  {between(1500*time.Millisecond, 2500*time.Millisecond), 250 * time.Millisecond, 5},
		"operations that have become ten times shorter": {func(n int, _ func() float64) time.Duration { return time.Second / time.Duration(1+9*min(n/50, 1)) }, 250 * time.Millisecond, 3},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, random := newSource(), chance(t)
				w := watch.New(watch.Options[int, bool]{Ask: s.ask, Few: 2, Random: random})
				const rounds, skip = 1000, 20 // so many that chance decides nothing
				for n := range rounds {
					s.start(n, c.takes(n, random))
					if err := s.wait(t.Context(), w, n, "create"); err != nil {
						t.Fatal(err)
					}
				}
				mean := float64(s.questions()) / rounds
				t.Logf("lag: median %v, p99 %v; %.1f questions each", s.lag(0.5, skip), s.lag(0.99, skip), mean)
				if got := s.lag(0.5, skip); got > c.median {
					t.Errorf("median lag %v, want at most %v", got, c.median)
				}
				if got := s.lag(0.99, skip); got > time.Second {
					t.Errorf("p99 lag %v", got)
				}
				if mean > c.questions {
					t.Errorf("%.1f questions each, want at most %.1f", mean, c.questions)
				}
			})
		})
	}
}

func TestManyWaitersShareOneQuestionASecond(t *testing.T) {
	cases := map[string]struct {
		takes  taking
		median time.Duration
	}{
		"operations that always take 0.9 s":            {always(900 * time.Millisecond), 250 * time.Millisecond},
		"operations that always take 1 s":              {always(time.Second), 250 * time.Millisecond},
		"operations that always take 1.3 s":            {always(1300 * time.Millisecond), 250 * time.Millisecond},
		"operations that always take 2 s":              {always(2 * time.Second), 250 * time.Millisecond},
		"operations that always take 5 s":              {always(5 * time.Second), 250 * time.Millisecond},
		"operations that always take 30 s":             {always(30 * time.Second), 250 * time.Millisecond},
		"operations that take between 50 ms and 2 s":   {between(50*time.Millisecond, 2*time.Second), 700 * time.Millisecond},
		"operations that take between 0.5 s and 0.8 s": {between(500*time.Millisecond, 800*time.Millisecond), 600 * time.Millisecond},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, random := newSource(), chance(t)
				w := watch.New(watch.Options[int, bool]{Ask: s.ask, Few: 2, Burst: 3, Random: random})
				const callers, rounds = 200, 30
				start := time.Now()
				var group sync.WaitGroup
				for caller := range callers {
					group.Go(func() {
						for round := range rounds {
							key := caller*rounds + round
							s.start(key, c.takes(round, random))
							if err := s.wait(t.Context(), w, key, "create"); err != nil {
								t.Error(err)
							}
						}
					})
				}
				group.Wait()
				took := time.Since(start)
				lists := s.lists(2)
				perSecond := float64(lists) / took.Seconds()
				const skip = callers * 3
				t.Logf("lag: median %v, p99 %v; %.2f questions a second", s.lag(0.5, skip), s.lag(0.99, skip), perSecond)
				if limit := took.Seconds() + 3; float64(lists) > limit+5 {
					t.Errorf("%d questions about many in %v", lists, took)
				}
				if got := s.lag(0.99, skip); got > 1100*time.Millisecond {
					t.Errorf("p99 lag %v", got)
				}
				if got := s.lag(0.5, skip); got > c.median {
					t.Errorf("median lag %v, want at most %v", got, c.median)
				}
			})
		})
	}
}

// lists counts the questions about more than few things.
func (s *source) lists(few int) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, keys := range s.asked {
		if keys > few {
			n++
		}
	}
	return n
}

func TestABurstAfterAQuietTimeIsAnsweredQuickly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, random := newSource(), chance(t)
		w := watch.New(watch.Options[int, bool]{Ask: s.ask, Few: 2, Burst: 3, Random: random})
		for round := range 20 {
			var group sync.WaitGroup
			for caller := range 20 {
				group.Go(func() {
					key := round*20 + caller
					s.start(key, between(300*time.Millisecond, 600*time.Millisecond)(round, random))
					if err := s.wait(t.Context(), w, key, "create"); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			time.Sleep(10 * time.Second)
		}
		t.Logf("lag: median %v, p99 %v; %d questions for 20 bursts", s.lag(0.5, 20), s.lag(0.99, 20), s.questions())
		if got := s.lag(0.5, 20); got > 250*time.Millisecond {
			t.Errorf("median lag %v", got)
		}
		if n := s.questions(); n > 80 {
			t.Errorf("%d questions for 20 bursts", n)
		}
	})
}
