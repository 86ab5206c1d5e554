package blockdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrClaimed means that something holds a device for itself: a mount in whatever
// mount namespace, swap, a device built upon it, a tool that formats or checks it.
var ErrClaimed = errors.New("held by a mount, by another device or by a tool")

// Claim is a block device that is open for reading and held against everything else
// that wants it for itself.
type Claim struct{ *os.File }

// ClaimDevice claims the block device at path. It returns an error that wraps
// ErrClaimed when something else has it. The mount of a disk that was pulled doesn't
// hold the disk that came in its place and got its number.
func ClaimDevice(path string) (*Claim, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_EXCL|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%s is %w", path, ErrClaimed)
	}
	if err != nil {
		return nil, err
	}
	return &Claim{f}, nil
}

// releaseWait is how long Release waits for children of this process. They need
// microseconds on a quiet machine, and may need a tenth of a second on a busy one, where
// the processor is taken from them.
const releaseWait = 2 * time.Second

// Release gives the device back, so that the next one can claim it. A child that another
// goroutine forks while a claim is open gets a copy of it, which it loses when its program
// begins; until then the device is claimed. syscall.ForkLock is no help: it is let go as
// soon as the child has left the parent's memory, right before the kernel closes its
// copies. Release waits for the kernel to say that nothing holds the device any more. It
// also returns after two seconds, when somebody else has claimed the device meanwhile.
func (c *Claim) Release() error {
	if err := c.Close(); err != nil {
		return err
	}
	for limit := time.Now().Add(releaseWait); ; time.Sleep(time.Millisecond) {
		// Where the device can't be opened any more, whoever comes next will tell.
		if held, _ := Claimed(c.Name()); !held || time.Now().After(limit) {
			return nil
		}
	}
}

// Claimed tells whether something holds the block device at path for itself. It opens
// the device, which may hang with its storage: see Finder.Claimed.
func Claimed(path string) (bool, error) {
	// Opened by nobody else, the device could be slow to open, or to close with
	// something left to write, and until then no program could be started.
	pin, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, fmt.Errorf("open %s: %w", path, err)
	}
	held, err := claimAndClose(path)
	if cerr := unix.Close(pin); err == nil && cerr != nil {
		err = fmt.Errorf("close %s: %w", path, cerr)
	}
	return held, err
}

// claimAndClose tries to claim a device that is open. No child is forked meanwhile, which
// would have a copy of the claim by which the next one to ask could be misled: that is what
// syscall.ForkLock is good for.
func claimAndClose(path string) (held bool, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	c, err := ClaimDevice(path)
	if errors.Is(err, ErrClaimed) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, c.Close()
}

// Claimed implements Finder.
func (r *reads) Claimed(ctx context.Context, d Disk) (bool, error) {
	held, err := r.claims.DoAfter(ctx, d.key(), func() (bool, error) { return Claimed(d.Path) })
	if err != nil {
		return false, fmt.Errorf("volume %s: whether something holds %s: %w", d.VolumeID, d.Path, err)
	}
	return held, nil
}

// Pin opens the disk for reading, after which it proves once more that it is the
// one that was found, and keeps it open until the result is closed. Meanwhile no
// other disk can get its number, even when it is unplugged, and what has been
// read of it stays in memory: a disk that nobody has open is forgotten at once.
func (d Disk) Pin() (io.Closer, error) {
	f, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", d.VolumeID, err)
	}
	if err := d.Verify(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("volume %s: stat %s: %w", d.VolumeID, d.Path, err), f.Close())
	}
	if st.Rdev != d.Number {
		err := fmt.Errorf("volume %s: %w: %s was device %s and is %s now",
			d.VolumeID, ErrUnsafe, d.Path, FormatNumber(d.Number), FormatNumber(st.Rdev))
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
