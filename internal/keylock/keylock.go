// Package keylock serialises work per key: one holder at a time, others in the
// order in which they asked, each waiting no longer than it is willing to.
// A key costs memory only while somebody holds it or waits for it.
package keylock

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrBusy is returned when another holder kept a key for longer than the
// caller was willing to wait.
var ErrBusy = errors.New("another operation is in progress")

// Locks is a set of locks, one per key. The zero value is ready to use; it
// must not be copied after its first use.
type Locks[K comparable] struct {
	mu    sync.Mutex
	byKey map[K]*lock
}

// lock is one key that is held, or waited for.
type lock struct {
	// held has room for one holder. Go serves those who send to a channel in the
	// order in which they came.
	held chan struct{}
	// users are the holder and those who wait.
	users int
}

// Lock waits until the caller is the only holder of key and returns the
// function that gives it up, which may be called more than once. It returns
// ErrBusy when maxWait has passed before that, and the context's error when ctx
// ended. A maxWait of zero or less waits as long as ctx allows.
func (l *Locks[K]) Lock(ctx context.Context, key K, maxWait time.Duration) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	one := l.enter(key)
	var expired <-chan time.Time
	if maxWait > 0 {
		timer := time.NewTimer(maxWait)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case one.held <- struct{}{}:
		return sync.OnceFunc(func() {
			<-one.held
			l.leave(key, one)
		}), nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-expired:
		err = ErrBusy
	}
	l.leave(key, one)
	return nil, err
}

func (l *Locks[K]) enter(key K) *lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byKey == nil {
		l.byKey = make(map[K]*lock)
	}
	one := l.byKey[key]
	if one == nil {
		one = &lock{held: make(chan struct{}, 1)}
		l.byKey[key] = one
	}
	one.users++
	return one
}

func (l *Locks[K]) leave(key K, one *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one.users--; one.users == 0 {
		delete(l.byKey, key)
	}
}
