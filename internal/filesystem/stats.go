package filesystem

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Stats are the numbers of a mounted filesystem.
type Stats struct {
	// TotalBytes, UsedBytes and AvailableBytes are in bytes. What is set aside
	// for root is neither used nor available.
	TotalBytes, UsedBytes, AvailableBytes int64
	// TotalInodes, UsedInodes and FreeInodes count inodes. They are 0 on btrfs,
	// which has no limit.
	TotalInodes, UsedInodes, FreeInodes int64
}

// Stats returns the numbers of the filesystem that path is on. A filesystem that
// doesn't answer costs one goroutine, however often it is asked: calls for the
// same path share one statfs, and each returns when its own ctx ends.
func (f *FS) Stats(ctx context.Context, path string) (Stats, error) {
	flight := f.flights.join(path)
	select {
	case <-flight.done:
	case <-ctx.Done():
		return Stats{}, fmt.Errorf("statfs %s doesn't return: %w", path, context.Cause(ctx))
	}
	if flight.err != nil {
		return Stats{}, fmt.Errorf("statfs %s: %w", path, flight.err)
	}
	return flight.stats, nil
}

// flights are the statfs under way, by path.
type flights struct {
	mu      sync.Mutex
	current map[string]*flight
}

type flight struct {
	done  chan struct{} // closed when the rest is set
	stats Stats
	err   error
}

// join returns the statfs of path that is under way, or a new one.
func (f *flights) join(path string) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	if current, ok := f.current[path]; ok {
		return current
	}
	if f.current == nil {
		f.current = make(map[string]*flight)
	}
	started := &flight{done: make(chan struct{})}
	f.current[path] = started
	go func() {
		stats, err := statfs(path)
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.current, path)
		started.stats, started.err = stats, err
		close(started.done)
	}()
	return started
}

// statfs asks the kernel.
func statfs(path string) (Stats, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Stats{}, err
	}
	return statsOf(&st), nil
}

// statsOf translates the kernel's answer, which counts in blocks.
func statsOf(st *unix.Statfs_t) Stats {
	unit := int64(st.Frsize) //nolint:unconvert // not an int64 on every architecture
	if unit == 0 {
		unit = int64(st.Bsize) //nolint:unconvert // as above
	}
	return Stats{
		TotalBytes:     int64(st.Blocks) * unit, // #nosec G115 -- no disk has 2^63 bytes
		UsedBytes:      int64(st.Blocks-st.Bfree) * unit,
		AvailableBytes: int64(st.Bavail) * unit,
		TotalInodes:    int64(st.Files),
		UsedInodes:     int64(st.Files - st.Ffree),
		FreeInodes:     int64(st.Ffree),
	}
}
