package keylock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cinder-csi/cinder-csi/internal/keylock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestASecondCallerGetsTheKeyWhenTheFirstGivesItUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks keylock.Locks[string]
		unlock := mustLock(t, &locks, "a", 0)
		var got atomic.Bool
		go func() {
			second := mustLock(t, &locks, "a", time.Minute)
			got.Store(true)
			second()
		}()
		synctest.Wait()
		if got.Load() {
			t.Fatal("two callers hold the same key")
		}
		unlock()
		synctest.Wait()
		if !got.Load() {
			t.Fatal("the key was not handed on")
		}
		if n := locks.Held(); n != 0 {
			t.Fatalf("%d keys are still remembered", n)
		}
	})
}

func TestDifferentKeysDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks keylock.Locks[int]
		for key := range 10 {
			defer mustLock(t, &locks, key, time.Millisecond)()
		}
	})
}

func TestACallerThatMayNotWaitLongerIsToldThatTheKeyIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks keylock.Locks[string]
		unlock := mustLock(t, &locks, "a", 0)
		start := time.Now()
		_, err := locks.Lock(t.Context(), "a", 2*time.Second)
		if !errors.Is(err, keylock.ErrBusy) {
			t.Fatalf("got %v, want ErrBusy", err)
		}
		if waited := time.Since(start); waited != 2*time.Second {
			t.Fatalf("waited %v", waited)
		}
		unlock()
		mustLock(t, &locks, "a", time.Second)()
	})
}

func TestACancelledCallerLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks keylock.Locks[string]
		unlock := mustLock(t, &locks, "a", 0)
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() {
			_, err := locks.Lock(ctx, "a", 0)
			failed <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want context.Canceled", err)
		}
		unlock()
		if n := locks.Held(); n != 0 {
			t.Fatalf("%d keys are still remembered", n)
		}
		if _, err := locks.Lock(ctx, "free", 0); !errors.Is(err, context.Canceled) {
			t.Fatalf("an ended context took a free key: %v", err)
		}
	})
}

func TestWaitersAreServedInTheOrderInWhichTheyAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks keylock.Locks[string]
		unlock := mustLock(t, &locks, "a", 0)
		var group sync.WaitGroup
		var order []int
		for i := range 20 {
			group.Go(func() {
				release := mustLock(t, &locks, "a", time.Hour)
				order = append(order, i)
				time.Sleep(time.Millisecond)
				release()
			})
			synctest.Wait()
		}
		unlock()
		group.Wait()
		if got, want := fmt.Sprint(order), "[0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19]"; got != want {
			t.Fatalf("served %s", got)
		}
	})
}

func TestUnlockingTwiceDoesNotFreeTheNextHolder(t *testing.T) {
	var locks keylock.Locks[string]
	first := mustLock(t, &locks, "a", 0)
	first()
	second := mustLock(t, &locks, "a", 0)
	first()
	if _, err := locks.Lock(t.Context(), "a", time.Millisecond); !errors.Is(err, keylock.ErrBusy) {
		t.Fatalf("got %v, want ErrBusy", err)
	}
	second()
}

func TestManyCallersThatComeGoAndGiveUpNeverShareAKey(t *testing.T) {
	var locks keylock.Locks[int]
	var holders [5]atomic.Int32
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			for range 200 {
				key := rand.IntN(len(holders))
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rand.IntN(500))*time.Microsecond)
				unlock, err := locks.Lock(ctx, key, time.Duration(rand.IntN(400))*time.Microsecond)
				if err == nil {
					if holders[key].Add(1) != 1 {
						t.Error("two callers hold the same key")
					}
					holders[key].Add(-1)
					unlock()
				}
				cancel()
			}
		})
	}
	group.Wait()
	if n := locks.Held(); n != 0 {
		t.Fatalf("%d keys are still remembered", n)
	}
}

func mustLock[K comparable](t *testing.T, locks *keylock.Locks[K], key K, maxWait time.Duration) func() {
	t.Helper()
	unlock, err := locks.Lock(t.Context(), key, maxWait)
	if err != nil {
		t.Error(err)
		return func() {}
	}
	return unlock
}
