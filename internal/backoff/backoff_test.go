package backoff_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/backoff"
)

var errRefused = errors.New("refused")

func newFailures() *backoff.Failures[string] {
	return backoff.New[string](backoff.Options{First: 200 * time.Millisecond, Max: time.Minute, Size: 3})
}

// remembered reports whether key is in its pause.
func remembered(f *backoff.Failures[string], key string) bool {
	left, err := f.Check(key)
	return errors.Is(err, errRefused) && left > 0
}

func TestPausesDoubleUpToTheLongestAndVary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFailures()
		shares := map[float64]bool{}
		for want := 200 * time.Millisecond; want < time.Hour; want *= 2 {
			f.Fail("a", errRefused)
			longest := min(want, time.Minute)
			left, _ := f.Check("a")
			if left < longest/2 || left > longest {
				t.Fatalf("a pause of %v, want between %v and %v", left, longest/2, longest)
			}
			shares[left.Seconds()/longest.Seconds()] = true
			time.Sleep(left)
			if remembered(f, "a") {
				t.Fatalf("the pause is not over after %v", left)
			}
		}
		if len(shares) < 3 {
			t.Errorf("pauses do not vary")
		}
	})
}

func TestWhatIsForgottenStartsAnew(t *testing.T) {
	for name, forget := range map[string]func(*backoff.Failures[string]){
		"by its key": func(f *backoff.Failures[string]) { f.Forget("a") },
		"by a match": func(f *backoff.Failures[string]) { f.ForgetAll(func(key string) bool { return key == "a" }) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFailures()
			for range 10 {
				f.Fail("a", errRefused)
			}
			f.Fail("b", errRefused)
			forget(f)
			if remembered(f, "a") || !remembered(f, "b") {
				t.Fatal("the wrong one is remembered")
			}
			f.Fail("a", errRefused)
			if left, _ := f.Check("a"); left > 200*time.Millisecond {
				t.Errorf("a pause of %v after the first failure", left)
			}
		})
	}
}

func TestKeysDoNotKnowOfEachOther(t *testing.T) {
	f := newFailures()
	f.Fail("a", errRefused)
	if remembered(f, "b") || !remembered(f, "a") {
		t.Fatal("the wrong one is remembered")
	}
}

func TestTheLastErrorIsTheOneThatIsTold(t *testing.T) {
	f := newFailures()
	f.Fail("a", errors.New("an older one"))
	f.Fail("a", errRefused)
	if !remembered(f, "a") {
		t.Error("the older error is told")
	}
}

func TestTheMemoryIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	f := newFailures()
	for _, key := range []string{"a", "b", "c"} {
		f.Fail(key, errRefused)
	}
	remembered(f, "a") // is a use
	f.Fail("d", errRefused)
	if f.Len() != 3 {
		t.Errorf("%d are remembered", f.Len())
	}
	for key, want := range map[string]bool{"a": true, "b": false, "c": true, "d": true} {
		if remembered(f, key) != want {
			t.Errorf("%s: remembered %v, want %v", key, !want, want)
		}
	}
}

func TestItMayBeUsedByMany(t *testing.T) {
	f := newFailures()
	var group sync.WaitGroup
	for n := range 20 {
		group.Go(func() {
			key := string(rune('a' + n%5))
			for range 200 {
				f.Fail(key, errRefused)
				f.Check(key)
				f.Forget(key)
				f.ForgetAll(func(other string) bool { return other == key })
			}
		})
	}
	group.Wait()
	if f.Len() != 0 {
		t.Errorf("%d are left", f.Len())
	}
}
