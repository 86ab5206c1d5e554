package watch_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/watch"
)

func TestWaitReturnsTheStateThatSatisfiesThePredicate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		w := watch.New(watch.Options[int, bool]{Ask: s.ask, Few: 2})
		s.start(1, time.Second)
		state, err := w.Wait(t.Context(), 1, "create", isDone)
		if err != nil || !state {
			t.Fatalf("got %v, %v", state, err)
		}
	})
}

func TestAnErrorOfThePredicateEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, broken := newSource(), errors.New("broken")
		w := watch.New(watch.Options[int, bool]{Ask: s.ask})
		_, err := w.Wait(t.Context(), 1, "", func(bool) (bool, error) { return false, broken })
		if !errors.Is(err, broken) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestNobodyIsAskedWhenNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		w := watch.New(watch.Options[int, bool]{Ask: s.ask, Few: 2})
		s.start(1, time.Second)
		if err := s.wait(t.Context(), w, 1, "create"); err != nil {
			t.Fatal(err)
		}
		before := s.questions()
		time.Sleep(time.Hour)
		if after := s.questions(); after != before {
			t.Fatalf("%d questions while nobody waited", after-before)
		}
	})
}

func TestACancelledCallerLeavesTheOthersWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		w := watch.New(watch.Options[int, bool]{Ask: s.ask, Few: 2})
		s.start(1, 3*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var group sync.WaitGroup
		var stayed, left error
		group.Go(func() { stayed = s.wait(t.Context(), w, 1, "create") })
		group.Go(func() { left = s.wait(ctx, w, 1, "create") })
		group.Wait()
		if stayed != nil || !errors.Is(left, context.DeadlineExceeded) {
			t.Fatalf("stayed: %v, left: %v", stayed, left)
		}
	})
}

func TestTheLastCallerToLeaveEndsTheQuestionUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		ask := func(ctx context.Context, _ []int) (map[int]bool, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		}
		w := watch.New(watch.Options[int, bool]{Ask: ask})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.Wait(ctx, 1, "", isDone); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Fatalf("the question ended with %v", err)
		}
	})
}

func TestAStateThatWasAskedForBeforeTheCallDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		questions := 0
		ask := func(ctx context.Context, _ []int) (map[int]int, error) {
			mu.Lock()
			questions++
			n := questions
			mu.Unlock()
			return map[int]int{1: n, 2: n}, pause(ctx, time.Second)
		}
		w := watch.New(watch.Options[int, int]{Ask: ask, Few: 2})
		whatever := func(int) (bool, error) { return true, nil }
		var first, second int
		var group sync.WaitGroup
		group.Go(func() { first, _ = w.Wait(t.Context(), 1, "", whatever) })
		time.Sleep(500 * time.Millisecond)
		group.Go(func() { second, _ = w.Wait(t.Context(), 1, "", whatever) })
		group.Wait()
		if first != 1 || second != 2 {
			t.Fatalf("the first saw question %d, the second %d", first, second)
		}
	})
}

func TestErrorsOfTheSource(t *testing.T) {
	temporary, final := errors.New("temporary"), errors.New("final")
	cases := map[string]struct {
		fail   error
		lasts  time.Duration
		want   error
		within time.Duration
	}{
		"a short failure is hidden from those who wait": {temporary, 3 * time.Second, nil, 8 * time.Second},
		"a failure that lasts is told":                  {temporary, time.Hour, temporary, 15 * time.Second},
		"a final failure is told at once":               {final, time.Hour, final, 2 * time.Second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSource()
				w := watch.New(watch.Options[int, bool]{
					Ask: s.ask, Few: 2,
					Final: func(err error) bool { return errors.Is(err, final) },
				})
				s.start(1, time.Second)
				s.setFail(c.fail)
				cure := time.AfterFunc(c.lasts, func() { s.setFail(nil) })
				defer cure.Stop()
				start := time.Now()
				if err := s.wait(t.Context(), w, 1, "create"); !errors.Is(err, c.want) {
					t.Fatalf("got %v, want %v", err, c.want)
				}
				if took := time.Since(start); took > c.within {
					t.Fatalf("took %v", took)
				}
				if n := s.questions(); n > 10 {
					t.Fatalf("%d questions to a source in trouble", n)
				}
			})
		})
	}
}

// What can't be told of one thing is no reason to ask about another one later.
func TestAThingThatIsNeverToldDoesNotDelayOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		odd := errors.New("nonsense")
		w := watch.New(watch.Options[int, bool]{Few: 2, Ask: func(ctx context.Context, keys []int) (map[int]bool, error) {
			states, err := s.ask(ctx, keys)
			if _, asked := states[1]; asked {
				delete(states, 1)
				err = odd
			}
			return states, err
		}})
		told := make(chan error, 1)
		go func() {
			_, err := w.Wait(t.Context(), 1, "make", isDone)
			told <- err
		}()
		s.start(2, 7*time.Second)
		if err := s.wait(t.Context(), w, 2, "make"); err != nil {
			t.Fatal(err)
		}
		if late := s.lag(1, 0); late > 1100*time.Millisecond {
			t.Errorf("it was noticed %s late", late)
		}
		if err := <-told; !errors.Is(err, odd) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAnEndedContextAsksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		w := watch.New(watch.Options[int, bool]{Ask: s.ask})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.Wait(ctx, 1, "", isDone); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		if n := s.questions(); n != 0 {
			t.Fatalf("%d questions", n)
		}
	})
}

func TestAPanicEndsTheWaitsThatItIsAbout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, told := newSource(), errors.New("told")
		broken := true
		w := watch.New(watch.Options[int, bool]{
			Ask: func(ctx context.Context, keys []int) (map[int]bool, error) {
				if broken {
					panic("broken")
				}
				return s.ask(ctx, keys)
			},
			Panicked: func(any) error { return told },
		})
		if _, err := w.Wait(t.Context(), 1, "", isDone); !errors.Is(err, told) {
			t.Fatalf("a question that panics: %v", err)
		}
		broken = false
		var group sync.WaitGroup
		var mine, others error
		group.Go(func() { _, mine = w.Wait(t.Context(), 1, "", func(bool) (bool, error) { panic("broken") }) })
		group.Go(func() { _, others = w.Wait(t.Context(), 1, "", isDone) })
		group.Wait()
		if !errors.Is(mine, told) || others != nil {
			t.Fatalf("a caller that panics: %v; another one: %v", mine, others)
		}
	})
}
