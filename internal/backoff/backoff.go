// Package backoff remembers what failed, so that a caller who repeats it at
// once gets the same answer without anybody being asked again. The pause after
// a failure doubles with every further one; success, or whatever else makes a
// new attempt worthwhile, ends it.
package backoff

import (
	"container/list"
	"math/rand/v2"
	"sync"
	"time"
)

// Options say how long the pauses are and how much is remembered.
type Options struct {
	// First is the longest pause after the first failure, Max the longest pause
	// there is. Each pause is between half of its length and all of it, so that
	// what failed together is not tried again together. First has to be more
	// than 0; a Max below it counts as First.
	First, Max time.Duration
	// Size is how many failures are remembered, at least 1. When there are
	// more, those are forgotten that were used least recently.
	Size int
}

// Failures are what failed lately, by key. They are safe for concurrent use.
type Failures[K comparable] struct {
	opts Options

	mu    sync.Mutex
	byKey map[K]*list.Element
	// recent has the failures in the order of their last use, the latest first.
	recent *list.List
}

// failure is what is remembered of one key.
type failure[K comparable] struct {
	key   K
	err   error
	pause time.Duration
	until time.Time
}

// New returns an empty memory.
func New[K comparable](opts Options) *Failures[K] {
	opts.Max = max(opts.Max, opts.First)
	opts.Size = max(opts.Size, 1)
	return &Failures[K]{opts: opts, byKey: make(map[K]*list.Element), recent: list.New()}
}

// Check returns how much is left of the pause after the last failure of key, and
// its error; 0 and nil when there was none, or its pause is over.
func (f *Failures[K]) Check(key K) (left time.Duration, last error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	element, ok := f.byKey[key]
	if !ok {
		return 0, nil
	}
	one := element.Value.(*failure[K])
	if left = time.Until(one.until); left <= 0 {
		return 0, nil
	}
	f.recent.MoveToFront(element)
	return left, one.err
}

// Fail notes that key failed with err, and starts a pause that is twice as long
// as the one before.
func (f *Failures[K]) Fail(key K, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	element, ok := f.byKey[key]
	if !ok {
		element = f.recent.PushFront(&failure[K]{key: key})
		f.byKey[key] = element
	}
	f.recent.MoveToFront(element)
	one := element.Value.(*failure[K])
	one.err = err
	one.pause = min(max(2*one.pause, f.opts.First), f.opts.Max)
	half := one.pause / 2
	one.until = time.Now().Add(half + rand.N(half+1)) //nolint:gosec // jitter is no secret
	for len(f.byKey) > f.opts.Size {
		f.remove(f.recent.Back())
	}
}

// Forget ends the pause of key and starts its failures anew.
func (f *Failures[K]) Forget(key K) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if element, ok := f.byKey[key]; ok {
		f.remove(element)
	}
}

// ForgetAll does what Forget does for all keys that match. It looks at all that
// is remembered.
func (f *Failures[K]) ForgetAll(match func(K) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, element := range f.byKey {
		if match(key) {
			f.remove(element)
		}
	}
}

// Len returns how many failures are remembered.
func (f *Failures[K]) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.byKey)
}

// remove forgets one failure. f.mu is held.
func (f *Failures[K]) remove(element *list.Element) {
	delete(f.byKey, element.Value.(*failure[K]).key)
	f.recent.Remove(element)
}
