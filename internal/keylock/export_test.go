package keylock

// Held returns how many keys are held at this moment.
func (l *Locks[K]) Held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.byKey)
}
