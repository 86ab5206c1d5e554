// Package filesystem says what a device holds, puts a filesystem on one that is
// proven blank, checks, mounts and grows filesystems, and takes mounts away.
//
// It never overwrites anything: a device is formatted only when every place
// where anything known has a signature, or a filesystem a copy of its
// superblock, reads as zeros, and the tools are never told to use force. What
// has begun to write to a device runs to its end, whatever becomes of the call.
package filesystem

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	mount "k8s.io/mount-utils"
	utilexec "k8s.io/utils/exec"

	"github.com/cinder-csi/cinder-csi/internal/inflight"
)

var (
	// ErrNotBlank means that the device holds something, so it isn't formatted.
	ErrNotBlank = errors.New("device is not blank")
	// ErrBusy means that the device or the mount is in use by something else, or
	// that an earlier call still works on it.
	ErrBusy = errors.New("in use")
	// ErrUnsupported means that this package doesn't handle that kind of
	// filesystem.
	ErrUnsupported = errors.New("unsupported filesystem")
	// ErrTooSmall means that the device has no room for that kind of filesystem.
	ErrTooSmall = errors.New("device too small")
	// ErrReadOnly means that the device or the mount can't be written to.
	ErrReadOnly = errors.New("read-only")
	// ErrCorrupt means that the filesystem is damaged and wasn't repaired.
	ErrCorrupt = errors.New("filesystem is damaged")
	// ErrGivenUp means that the kernel has given the filesystem up after an error,
	// see MountPoint.GivenUp. It is repaired when it was unmounted everywhere.
	ErrGivenUp = errors.New("the kernel has given the filesystem up after an error")
	// ErrMounted means that something else is mounted at the target, or
	// otherwise than asked for.
	ErrMounted = errors.New("the target is mounted differently")
	// ErrNotMounted means that nothing is mounted at the path, or another
	// device than the one that was named.
	ErrNotMounted = errors.New("not mounted")
	// ErrOnlineGrowth means that the kernel doesn't let this process grow the
	// filesystem while it is mounted (ext needs CAP_SYS_RESOURCE). Unmounted it
	// grows.
	ErrOnlineGrowth = errors.New("can't grow while mounted")
	// ErrNeedsMount means that this kind of filesystem grows only while it is
	// mounted.
	ErrNeedsMount = errors.New("grows only while mounted")
)

// formatsAtOnce is how many mkfs run at once on a node. More gain nothing:
// they wait for the same network and the same cores.
const formatsAtOnce = 2

// checksAtOnce is how many checks, and growths of what isn't mounted, run at once
// on a node. For a filesystem of several TiB e2fsck and resize2fs take hundreds of
// MiB, in the one container that all of them share. Their turns aren't those of
// mkfs: they may take hours, while a blank volume is ready within seconds.
//
// Those of filesystems beyond longCheck bytes have turns of their own, so that two of
// them don't keep all others waiting.
const (
	checksAtOnce = 2
	longCheck    = 256 << 30
)

// checksOf returns the semaphore for a check of a device of that size.
func (f *FS) checksOf(size int64) semaphore {
	if size > longCheck {
		return f.long
	}
	return f.checks
}

// Options of an FS. The zero value is right for production.
type Options struct {
	// Metrics gets the metrics of programs and mounts; nil for none.
	Metrics prometheus.Registerer
	// Exec runs the tools; nil means the operating system does.
	Exec utilexec.Interface
	// Mounter runs mount(8), which is for what the kernel's own calls can't do
	// or understand; nil means mount-utils', without systemd.
	Mounter mount.Interface
}

// FS works on filesystems. It is safe for concurrent use.
type FS struct {
	exec    utilexec.Interface
	mounter mount.Interface
	seen    observer
	formats semaphore // of mkfs
	checks  semaphore // of e2fsck and resize2fs
	long    semaphore // of those that take long
	jobs    jobs
	reads   inflight.Group[any] // of devices, by path
	proofs  proofs
	stats   inflight.Group[statsAnswer] // by filesystem
	ask     func(MountPoint) (Stats, error)

	statsTimeout time.Duration
}

// New returns an FS.
func New(opts Options) *FS {
	if opts.Exec == nil {
		opts.Exec = utilexec.New()
	}
	if opts.Mounter == nil {
		// Disk filesystems have no daemons to be kept alive in a scope of
		// their own, so systemd has no part in mounting them.
		opts.Mounter = mount.NewWithoutSystemd("")
	}
	f := &FS{
		exec: opts.Exec, mounter: opts.Mounter, seen: newObserver(opts.Metrics), statsTimeout: statsTimeout,
		formats: make(semaphore, formatsAtOnce), checks: make(semaphore, checksAtOnce), long: make(semaphore, checksAtOnce),
		proofs: proofs{semaphore: make(semaphore, proofsAtOnce)},
	}
	f.ask = f.statfs
	return f
}

// Drain waits until nothing that was begun runs in the background any more, or
// ctx ends. A process that is about to end calls it, so that no mkfs dies with it.
func (f *FS) Drain(ctx context.Context) error {
	return f.jobs.drain(ctx)
}
