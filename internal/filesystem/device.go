package filesystem

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
)

// handle is an open block device. While it is open, its number can't be given
// to another disk, even when this one is unplugged.
type handle struct {
	*os.File
	number   uint64 // dev_t
	size     int64  // bytes, above 0
	readOnly bool
}

// busyWait is how long something else may hold a device, or its mount, before a
// call gives up. A child that was forked while a claim was open, or a tool that
// has a look, is gone in milliseconds; to send the caller away for that costs the
// seconds until it comes back.
const busyWait = 2 * time.Second

// openDevice opens a block device for reading.
func openDevice(path string) (*handle, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("device: %w", err)
	}
	return inspected(f)
}

// claim opens a block device that nothing else uses: no mount in any mount
// namespace, no swap, no device built upon it, no tool that formats or checks.
func claim(path string) (*handle, error) {
	c, err := blockdev.ClaimDevice(path)
	if errors.Is(err, blockdev.ErrClaimed) {
		return nil, fmt.Errorf("%w: %w", ErrBusy, err)
	}
	if err != nil {
		return nil, fmt.Errorf("device: %w", err)
	}
	return inspected(c.File)
}

// inspected returns the handle of an open device.
func inspected(f *os.File) (*handle, error) {
	d := &handle{File: f}
	if err := d.inspect(); err != nil {
		return nil, errors.Join(fmt.Errorf("device %s: %w", f.Name(), err), f.Close())
	}
	return d, nil
}

// inspect fills in what the kernel knows about the open device.
func (d *handle) inspect() error {
	var st unix.Stat_t
	fd := int(d.Fd())
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return errors.New("not a block device")
	}
	d.number = st.Rdev
	// lseek(2) would wait for a read of the device that hangs.
	size := make([]byte, 8)
	if err := ioctl(d.File, unix.BLKGETSIZE64, size); err != nil {
		return fmt.Errorf("capacity: %w", err)
	}
	d.size = int64(binary.NativeEndian.Uint64(size)) // #nosec G115 -- the kernel counts bytes as it does
	if d.size == 0 {
		return errors.New("has no capacity")
	}
	readOnly, err := unix.IoctlGetInt(fd, unix.BLKROGET)
	if err != nil {
		return fmt.Errorf("read-only flag: %w", err)
	}
	d.readOnly = readOnly != 0
	return nil
}

// release gives a claim back, see blockdev.Claim. One that was closed before has been
// given back.
func (d *handle) release() { _ = (&blockdev.Claim{File: d.File}).Release() }

// Requests of ioctl(2), whose encoding differs between architectures: the bit
// for reading is taken from a request that the unix package knows.
const (
	ioctlRead  = unix.BLKGETSIZE64 & 0xe0000000
	ioctlWrite = 0xc0000000 &^ ioctlRead
)

// ioctl passes buf, which must be as long as the request says.
func ioctl(f *os.File, request uintptr, buf []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&buf[0]))) // #nosec G103 -- the kernel fills the buffer
	if errno != 0 {
		return errno
	}
	return nil
}

// whenFree does work that needs a device for itself, and does it again while
// something else holds the device for a moment, until ctx ends. A mount is not
// for a moment.
func (f *FS) whenFree(ctx context.Context, number uint64, work func() error) error {
	return whileBusy(ctx, work, func() bool {
		mounts, err := f.MountsOf(number)
		return err == nil && len(mounts) == 0
	})
}

// whileBusy does work again while that is ErrBusy, until ctx ends, or busyWait, or it
// may not be done again.
func whileBusy(ctx context.Context, work func() error, again func() bool) error {
	limit := time.NewTimer(busyWait)
	defer limit.Stop()
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := work()
		if !errors.Is(err, ErrBusy) || !again() {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-limit.C:
			return err
		case <-time.After(pause):
		}
	}
}

// free returns nil if nothing else uses the device, which is to be written to.
func (d *handle) free(path string) error {
	c, err := claim(path)
	if err != nil {
		return err
	}
	defer c.release()
	switch {
	case c.number != d.number:
		return fmt.Errorf("%w: %s has become device %s, it was %s", ErrBusy, path, blockdev.FormatNumber(c.number), blockdev.FormatNumber(d.number))
	case c.readOnly:
		return fmt.Errorf("device is %w", ErrReadOnly)
	}
	return nil
}

// whenItsTurn does work that changes a filesystem in an open device, when it is its turn
// and nothing else uses the device. The device isn't claimed meanwhile: tools do that
// themselves.
func (f *FS) whenItsTurn(ctx context.Context, d *handle, path string, work func() error) error {
	release, err := f.checksOf(d.size).acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	return f.whenFree(ctx, d.number, func() error {
		if err := d.free(path); err != nil {
			return err
		}
		return work()
	})
}

// close closes the device; that can't lose anything, since it was only read.
func (d *handle) close() {
	_ = d.Close()
}

// jobs runs work that must not be stopped half way. A caller whose context ends
// leaves its job behind; one that asks for the same again joins it.
type jobs struct {
	mu      sync.Mutex
	running map[string]*job
}

// errNotStarted is for work whose caller went away while the work waited for its turn.
var errNotStarted = errors.New("not started")

type job struct {
	what string
	done chan struct{} // closed when err is set
	err  error
}

// Run does work on a device by path, which stays open meanwhile and so can't come
// to mean another disk. It is the only one that works on it, and runs to its end
// when ctx ends before; then Run returns an error that wraps ErrBusy. A later call
// for the same work, which what names, waits for it and gets its outcome.
func (f *FS) Run(ctx context.Context, path, what string, work func(context.Context) error) error {
	return f.onDevice(ctx, path, what, func(detached context.Context, _ *handle) error { return work(detached) })
}

// onDevice is Run for work that needs the open device.
func (f *FS) onDevice(ctx context.Context, path, what string, work func(detached context.Context, d *handle) error) error {
	d, err := openDevice(path)
	if err != nil {
		return err
	}
	return f.jobs.doHolding(ctx, "device "+blockdev.FormatNumber(d.number), what, d.close,
		func(detached context.Context) error { return work(detached, d) })
}

// RunNamed is Run for work on something that has a name and need not be there.
func (f *FS) RunNamed(ctx context.Context, name, what string, work func(context.Context) error) error {
	return f.jobs.do(ctx, name, what, work)
}

// do runs work, unless the same work is already being done on key: then it
// waits for that and returns its outcome. Other work on key is waited for
// first. The context that work gets is never cancelled. When ctx ends before
// the work does, do returns an error that wraps ErrBusy and the cause.
func (j *jobs) do(ctx context.Context, key, what string, work func(context.Context) error) error {
	return j.doHolding(ctx, key, what, func() {}, work)
}

// doHolding is do, calling release once: when the work that it began has ended,
// or on return when it began none.
func (j *jobs) doHolding(ctx context.Context, key, what string, release func(), work func(context.Context) error) error {
	for {
		if ctx.Err() != nil {
			release()
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
		current, started := j.start(ctx, key, what, release, work)
		if !started && !current.wait(ctx) {
			release()
			return fmt.Errorf("%w: %s has not ended: %w", ErrBusy, current.what, context.Cause(ctx))
		}
		if started {
			if !current.wait(ctx) {
				return fmt.Errorf("%w: %s has not ended: %w", ErrBusy, what, context.Cause(ctx))
			}
			return current.err
		}
		if current.what == what && !errors.Is(current.err, errNotStarted) {
			release()
			return current.err
		}
	}
}

// wait returns false when ctx ends before the job.
func (c *job) wait(ctx context.Context) bool {
	select {
	case <-c.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// start returns the job that runs on key, after starting work when none does.
func (j *jobs) start(ctx context.Context, key, what string, release func(), work func(context.Context) error) (*job, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if current, ok := j.running[key]; ok {
		return current, false
	}
	if j.running == nil {
		j.running = make(map[string]*job)
	}
	current := &job{what: what, done: make(chan struct{})}
	j.running[key] = current
	go func() {
		err := work(context.WithoutCancel(ctx))
		release()
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(j.running, key)
		current.err = err
		close(current.done)
	}()
	return current, true
}

// drain waits until no job runs or ctx ends.
func (j *jobs) drain(ctx context.Context) error {
	for {
		current := j.any()
		if current == nil {
			return nil
		}
		if !current.wait(ctx) {
			return fmt.Errorf("%w: %s: %w", ErrBusy, current.what, context.Cause(ctx))
		}
	}
}

func (j *jobs) any() *job {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, current := range j.running {
		return current
	}
	return nil
}

// abandonable runs read, which changes nothing but may hang in the kernel, and
// leaves it behind when ctx ends. There is one at a time for each path, whatever is
// read: whoever asks a device that hangs again and again leaves no more behind.
func abandonable[T any](ctx context.Context, f *FS, path string, read func() (T, error)) (T, error) {
	var zero T
	for {
		value, err := f.reads.DoAfter(ctx, path, func() (any, error) {
			value, err := read()
			return value, err
		})
		if err != nil {
			return zero, err
		}
		if value, ok := value.(T); ok {
			return value, nil
		}
		// Somebody else asked at the same time for something else.
	}
}

// semaphore bounds how many tools of a kind run at once. A caller that holds a place in
// it waits for nothing that needs another place, and for no job.
type semaphore chan struct{}

// longestHold is how long a place is held at most, though its tool goes on: one whose
// disk has died never ends, and must not keep all other volumes waiting. mkfs takes
// seconds, and few checks that long.
const longestHold = 5 * time.Minute

// acquire waits for a place and returns the function that gives it back. When ctx
// ends before, the error wraps errNotStarted: a tool that hasn't begun when its
// call ends never does, since by the time of its turn the disk may be used
// elsewhere. One that has begun keeps its turn to its end.
func (t semaphore) acquire(ctx context.Context) (release func(), err error) {
	select {
	case t <- struct{}{}:
		if ctx.Err() == nil {
			once := sync.OnceFunc(func() { <-t })
			limit := time.AfterFunc(longestHold, once)
			return func() { limit.Stop(); once() }, nil
		}
		<-t
	case <-ctx.Done():
	}
	return nil, fmt.Errorf("%w: too many others run: %w", errNotStarted, context.Cause(ctx))
}
