package disk

import "sync"

// keyed is a mutex per key. The zero value is ready to use.
type keyed struct {
	mu    sync.Mutex
	locks map[string]*counted
}

type counted struct {
	sync.Mutex
	users int // holder and waiters
}

// Lock locks the key and returns what unlocks it.
func (k *keyed) Lock(key string) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*counted{}
	}
	c := k.locks[key]
	if c == nil {
		c = &counted{}
		k.locks[key] = c
	}
	c.users++
	k.mu.Unlock()

	c.Lock()
	return func() {
		c.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if c.users--; c.users == 0 {
			delete(k.locks, key)
		}
	}
}
