package filesystem

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
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

// statsTimeout is how long a call waits for statfs, which answers from
// memory, within microseconds, or hangs. The kubelet asks every minute for each
// volume, for those of a pod one after the other, and itself waits for two
// minutes: one that hangs would keep the others from being asked.
const statsTimeout = 10 * time.Second

// Stats returns the numbers of the filesystem that is mounted at m, as Lookup
// returned it, and ErrNotMounted when it isn't any more. It gives up after
// statsTimeout. A filesystem that doesn't answer costs one goroutine,
// however often and at whichever of its mounts it is asked: one statfs answers
// for all of them.
func (f *FS) Stats(ctx context.Context, m MountPoint) (Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, f.statsTimeout)
	defer cancel()
	// What mounts with the same numbers have in common: a part of a filesystem may
	// have a quota, and so numbers, of its own. The disk's number isn't given to
	// another one while a filesystem on it still hangs.
	key := blockdev.FormatNumber(m.Number) + " " + m.Root
	for {
		got, err := f.stats.Do(ctx, key, func() (statsAnswer, error) {
			stats, err := f.ask(m)
			return statsAnswer{m.Target, stats, err}, nil
		})
		switch {
		case err != nil:
			return Stats{}, fmt.Errorf("statfs %s doesn't return: %w", m.Target, err)
		case got.err == nil:
			return got.stats, nil
		case got.target == m.Target:
			return Stats{}, fmt.Errorf("statfs %s: %w", m.Target, got.err)
		}
		// It was asked at another mount, which may be gone while m isn't.
	}
}

// asked is what came of a statfs at one of a filesystem's mounts.
type statsAnswer struct {
	target string
	stats  Stats
	err    error
}

// statfs asks the kernel. A mount that goes away at that moment leaves a directory
// of another filesystem, whose numbers would be taken for its own.
func (f *FS) statfs(m MountPoint) (Stats, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(m.Target, &st); err != nil {
		return Stats{}, err
	}
	now, there, err := f.Lookup(m.Target)
	if err != nil {
		return Stats{}, err
	}
	if !there || now.Number != m.Number || now.Root != m.Root {
		return Stats{}, fmt.Errorf("device %s is %w there any more", blockdev.FormatNumber(m.Number), ErrNotMounted)
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
