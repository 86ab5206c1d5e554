package demo

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// cloudAdmin is what the demo asks of the development cloud beside its
// OpenStack APIs. None of it counts as a request.
type cloudAdmin interface {
	// Requests returns how many OpenStack requests have been counted since
	// the cloud was started.
	Requests(ctx context.Context) (int, error)
	// Left says what the cloud still holds, one sentence each.
	Left(ctx context.Context) ([]string, error)
}

// meter adds up the requests that the cloud counts, over its restarts.
type meter struct {
	admin cloudAdmin

	mu sync.Mutex
	// before is the sum up to the last restart, last the count since, as it
	// was when it was read.
	before, last int
	// mark is the total at the end of the last step; only the show uses it.
	mark int
}

// askPause is the pause between two questions to a cloud that does not answer.
const askPause = 10 * time.Millisecond

// total returns the number of requests so far. It waits for a cloud that is
// just being started again.
func (m *meter) total(ctx context.Context) (int, error) {
	for {
		n, err := m.admin.Requests(ctx)
		if err == nil {
			return m.add(n), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("the development cloud does not answer: %w", err)
		case <-time.After(askPause):
		}
	}
}

func (m *meter) add(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = n
	return m.before + n
}

// readLast reads the counter of a cloud that is about to be killed.
func (m *meter) readLast() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if n, err := m.admin.Requests(ctx); err == nil {
		m.add(n)
	}
}

// restarted tells that the cloud counts from zero again.
func (m *meter) restarted() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before += m.last
	m.last = 0
}
