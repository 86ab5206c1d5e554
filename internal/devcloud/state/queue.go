package state

import (
	"context"
	"sync"
)

// queue holds the tasks that are stored and not yet running, and the ways to
// stop those that are. Nothing runs while it is shut, which it is at first.
type queue struct {
	mu      sync.Mutex
	open    bool
	tasks   []Task
	cancels map[string]context.CancelFunc
}

// add appends a task. It runs under the store's lock.
func (q *queue) add(t Task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tasks = append(q.tasks, t)
}

// start hands every task that waits to run, which must not block.
func (q *queue) start(run func(context.Context, Task)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.open {
		return
	}
	for _, t := range q.tasks {
		ctx, cancel := context.WithCancel(context.Background())
		q.cancels[t.ID] = cancel
		run(ctx, t)
	}
	q.tasks = nil
}

// ended forgets a task that ran.
func (q *queue) ended(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if cancel := q.cancels[id]; cancel != nil {
		cancel()
		delete(q.cancels, id)
	}
}

// unlock opens the queue with these tasks in place of what is in it.
func (q *queue) unlock(tasks []Task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tasks, q.open, q.cancels = tasks, true, map[string]context.CancelFunc{}
}

// shut closes the queue and stops what runs.
func (q *queue) shut() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open = false
	for _, cancel := range q.cancels {
		cancel()
	}
}

// launch runs the tasks that the last updates left.
func (c *Cloud) launch() {
	c.queue.start(func(ctx context.Context, t Task) {
		c.running.Go(func() {
			defer c.queue.ended(t.ID)
			c.perform(ctx, t)
		})
	})
}

// freeze stops all tasks where they are; their records stay.
func (c *Cloud) freeze() {
	c.queue.shut()
	c.running.Wait()
}

// thaw starts all tasks that are on record.
func (c *Cloud) thaw() {
	c.view(func() {
		var tasks []Task
		c.tasks.Each(func(t *Task) bool {
			tasks = append(tasks, *t)
			return true
		})
		c.queue.unlock(tasks)
	})
	c.launch()
}
