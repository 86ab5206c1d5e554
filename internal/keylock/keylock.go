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
	mu      sync.Mutex
	waiting map[K]*queue
}

// queue is the state of a key that is held: those who wait for it, first come
// first served. A waiter's channel is closed when the key has become its own.
type queue struct {
	waiters []chan struct{}
}

// Lock waits until the caller is the only holder of key and returns the
// function that gives it up, which may be called more than once. It returns
// ErrBusy when maxWait has passed before that, and the context's error when ctx
// ended. A maxWait of zero or less waits as long as ctx allows.
func (l *Locks[K]) Lock(ctx context.Context, key K, maxWait time.Duration) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	turn := l.enqueue(key)
	if turn == nil {
		return l.releaser(key), nil
	}
	var expired <-chan time.Time
	if maxWait > 0 {
		timer := time.NewTimer(maxWait)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-turn:
		return l.releaser(key), nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-expired:
		err = ErrBusy
	}
	l.leave(key, turn)
	return nil, err
}

// Held reports how many keys are held at this moment.
func (l *Locks[K]) Held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// enqueue takes a free key and returns nil, or queues up for a held one and
// returns the channel that tells when it is the caller's turn.
func (l *Locks[K]) enqueue(key K) chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	q, held := l.waiting[key]
	if !held {
		if l.waiting == nil {
			l.waiting = make(map[K]*queue)
		}
		l.waiting[key] = &queue{}
		return nil
	}
	turn := make(chan struct{})
	q.waiters = append(q.waiters, turn)
	return turn
}

// leave takes a waiter that gave up out of the queue. When the key was handed
// to it at the same moment, it is handed on.
func (l *Locks[K]) leave(key K, turn chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q := l.waiting[key]; q != nil {
		for i, w := range q.waiters {
			if w == turn {
				q.waiters = append(q.waiters[:i], q.waiters[i+1:]...)
				return
			}
		}
	}
	l.handOn(key)
}

// releaser returns a function that gives key up, once.
func (l *Locks[K]) releaser(key K) func() {
	var once sync.Once
	return func() {
		once.Do(func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.handOn(key)
		})
	}
}

// handOn gives key to the first in its queue, or forgets it. l.mu is held.
func (l *Locks[K]) handOn(key K) {
	q := l.waiting[key]
	if len(q.waiters) == 0 {
		delete(l.waiting, key)
		return
	}
	first := q.waiters[0]
	q.waiters = q.waiters[1:]
	close(first)
}
