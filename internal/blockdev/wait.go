package blockdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/logging"
)

const (
	// slowPoll is how often Wait looks without having been woken.
	slowPoll = time.Second
	// settle is how long Wait lets a burst of events pass before it looks.
	settle = 5 * time.Millisecond
)

// watcher is a Finder that knows which directories change when a disk comes.
type watcher interface{ watched() []string }

// deviceDirs returns the directories of a /dev in which a new disk shows.
func deviceDirs(devDir string) []string {
	return []string{devDir, filepath.Join(devDir, "disk"), filepath.Join(devDir, "disk", "by-id")}
}

// Waiter waits for disks.
type Waiter struct {
	Finder Finder
	// Poll is how often it looks without having been woken, 1 s when 0: a net for
	// events that never come, such as a serial that appears after the node.
	Poll time.Duration
}

// Wait waits for the disk of a volume, see [Waiter.Wait].
func Wait(ctx context.Context, f Finder, volumeID string) (Disk, error) {
	return Waiter{Finder: f}.Wait(ctx, volumeID)
}

// Wait looks for the disk of a volume until it is found or ctx ends. It is
// woken by the kernel's events and by changes in the device directories, and has
// those SCSI hosts look again that announce nothing, and a disk that has the serial
// but no capacity. Only ErrNotFound makes it wait: any other error is returned at
// once. When ctx ends, the error wraps both its cause and what was last found.
func (w Waiter) Wait(ctx context.Context, volumeID string) (Disk, error) {
	f := w.Finder
	d, err := f.Find(ctx, volumeID)
	if !errors.Is(err, ErrNotFound) {
		return d, err
	}
	var dirs []string
	if f, ok := f.(watcher); ok {
		dirs = f.watched()
	}
	bell := newBell(dirs)
	defer bell.close()
	poll := time.NewTicker(cmp.Or(w.Poll, slowPoll))
	defer poll.Stop()
	hosts, capacity := newLooks(), newLooks()
	defer hosts.stop()
	defer capacity.stop()
	if f, ok := f.(scanner); ok {
		hosts.begin(scanOf(ctx, f.muteHosts()))
	}
	for {
		// Directories may have come since, and what came before the watch
		// would be missed: so watch first, then look.
		bell.watch()
		d, now := f.Find(ctx, volumeID)
		if now == nil || errors.Is(now, ErrUnsafe) || !errors.Is(now, ErrNotFound) && ctx.Err() == nil {
			return d, now
		}
		if ctx.Err() == nil { // else it was interrupted, and what it says is that
			err = now
		}
		var empty emptyError
		if errors.As(now, &empty) {
			capacity.begin(empty.lookAgain)
		}
		select {
		case <-ctx.Done():
			return Disk{}, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-poll.C:
		case <-hosts.due():
			hosts.run(ctx)
		case <-capacity.due():
			capacity.run(ctx)
		case <-hosts.done:
			hosts.done = nil
		case <-capacity.done: // the kernel doesn't tell of what it has found
			capacity.done = nil
		case <-bell.events():
			bell.drain(ctx)
		case <-bell.kernel.rings():
			bell.drain(ctx)
		case err := <-bell.overflow():
			logging.From(ctx).Debug("device events were lost", zap.Error(err))
		}
	}
}

// bell rings when the kernel tells of a disk or a directory changes. Where the
// kernel gives neither (inotify is limited per user), it stays silent and the
// slow poll does the work.
type bell struct {
	kernel  *uevents
	watcher *fsnotify.Watcher
	dirs    []string
}

func newBell(dirs []string) *bell {
	b := &bell{kernel: listen(), dirs: dirs}
	if w, err := fsnotify.NewWatcher(); err == nil {
		b.watcher = w
	}
	return b
}

// watch adds the directories that exist; those already watched don't mind.
func (b *bell) watch() {
	for _, dir := range b.dirs {
		if b.watcher != nil {
			_ = b.watcher.Add(dir) // missing now, it may come later
		}
	}
}

func (b *bell) events() <-chan fsnotify.Event {
	if b.watcher == nil {
		return nil
	}
	return b.watcher.Events
}

// overflow rings when events were lost.
func (b *bell) overflow() <-chan error {
	if b.watcher == nil {
		return nil
	}
	return b.watcher.Errors
}

// drain lets the rest of a burst pass.
func (b *bell) drain(ctx context.Context) {
	timer := time.NewTimer(settle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-b.events():
		case <-b.kernel.rings():
		case err := <-b.overflow():
			logging.From(ctx).Debug("device events were lost", zap.Error(err))
		}
	}
}

func (b *bell) close() {
	b.kernel.close()
	if b.watcher != nil {
		_ = b.watcher.Close() // it only closes descriptors
	}
}
