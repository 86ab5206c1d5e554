package state

import (
	"context"
	"sync"
)

// locks are locks by name.
type locks struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	waiters int
	ch      chan struct{}
}

// Serial runs fn while nothing else runs under the same name, as Nova does
// with the requests about one server. It gives up when ctx ends.
func (c *Cloud) Serial(ctx context.Context, name string, fn func() error) error {
	l := c.serial.take(name)
	defer c.serial.drop(name, l)
	select {
	case l.ch <- struct{}{}:
		defer func() { <-l.ch }()
		return fn()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *locks) take(name string) *lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[string]*lock{}
	}
	if l.held[name] == nil {
		l.held[name] = &lock{ch: make(chan struct{}, 1)}
	}
	l.held[name].waiters++
	return l.held[name]
}

func (l *locks) drop(name string, held *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held.waiters--
	if held.waiters == 0 {
		delete(l.held, name)
	}
}
