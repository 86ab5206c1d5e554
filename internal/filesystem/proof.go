package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// The thorough proof reads
//
//   - the first GiB whole: ext, XFS and btrfs keep most of what they write at first
//     there, and so does nearly everything else;
//   - every place that the quick proof reads;
//   - where the groups of an XFS begin, for any number of them up to 64;
//   - a page at each multiple of 4 MiB. No data of 4 MiB in a row hides between, and
//     no group of an XFS, on a volume that had whole GiB when it was made and grew
//     since, encrypted or not.
//
// That distance is doubled for each doubling of a device beyond 1 TiB, up to 16 MiB, so
// that 16 TiB take a million reads and 64 TiB four million. Reads are made many at once,
// since the latency of a network is what they cost. What isn't done after thoroughTime
// is given up, and the device is refused.
const (
	headWhole      = 1 << 30
	whole          = 1 << 20 // bytes of a read there
	nearestPlaces  = 4 << 20
	farthestPlaces = 16 << 20
	thoroughTime   = time.Hour
	// keepProof is how long the outcome is there for a call that is repeated.
	keepProof = 10 * time.Minute
	// proofsAtOnce bounds how many devices are read at once.
	proofsAtOnce = 4
	// proofReaders is how many reads of a device are under way at once.
	proofReaders = 16
)

// distance returns how far apart the places are that are read throughout a device.
func distance(size int64) int64 {
	every := int64(nearestPlaces)
	for size/every > 1<<40/nearestPlaces && every < farthestPlaces {
		every *= 2
	}
	return every
}

// thoroughly returns what the thorough proof reads of a device.
func thoroughly(size int64) *reading {
	every := distance(size)
	head := min(headWhole, size)
	heads := (head + whole - 1) / whole
	var known []extent // beyond the head
	for _, e := range sampledExtents(size, true) {
		if from := max(e.offset, head); e.offset+e.length > from {
			known = append(known, extent{from, e.offset + e.length - from})
		}
	}
	first := (head + every - 1) / every // of the places at equal distances
	distant := max(0, (size+every-1)/every-first)
	return &reading{hasty: true, count: heads + int64(len(known)) + distant, at: func(i int64) extent {
		switch beyond := i - heads; {
		case beyond < 0:
			return extent{i * whole, min(whole, head-i*whole)}
		case beyond < int64(len(known)):
			return known[beyond]
		default:
			at := (first + beyond - int64(len(known))) * every
			return extent{at, min(piece, size-at)}
		}
	}}
}

// proving is one thorough proof, which goes on when the call that began it ends.
type proving struct {
	done   chan struct{} // closed when found and err are set
	found  string
	err    error
	plan   *reading
	device *os.File // kept open, so that its number can't become another disk's
	writes string   // what the kernel had counted before
}

// proofs are the thorough proofs that run or whose outcome nobody has asked for yet.
type proofs struct {
	mu        sync.Mutex
	running   map[string]*proving
	semaphore semaphore
}

// proveThoroughly returns nil only if all that the thorough proof reads is zero, and
// nothing was written on this node since it was begun. When ctx ends first the
// reading goes on, and a call that is repeated gets its outcome.
func (f *FS) proveThoroughly(ctx context.Context, on Device, size int64) error {
	for range 2 {
		p, key, err := f.proofs.begin(ctx, on, size)
		if err != nil {
			return err
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return fmt.Errorf("%w: the device is being read to prove that it is blank, %d MiB so far: %w", ErrBusy, p.plan.bytes.Load()>>20, context.Cause(ctx))
		}
		now, err := writesTo(p.device)
		f.proofs.forget(key, p)
		switch {
		case p.err != nil:
			return p.err
		case p.found != "":
			content, err := f.name(ctx, on.Path, p.found)
			if err != nil {
				return err
			}
			return &NotBlankError{Content: content}
		case err != nil:
			return err
		case now == p.writes:
			return nil
		}
	}
	return fmt.Errorf("%w: the device is written to while it is read", ErrBusy)
}

// begin returns the proof that runs for a device, or has ended, or a new one.
func (p *proofs) begin(ctx context.Context, on Device, size int64) (*proving, string, error) {
	path, offset := on.Path, int64(0)
	if on.Beneath != nil {
		path, offset = on.Beneath.Path, on.Beneath.Offset
	}
	device, err := openDirect(path, os.O_RDONLY)
	if err != nil {
		return nil, "", err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(device.Fd()), &st); err != nil {
		return nil, "", errors.Join(err, device.Close())
	}
	writes, err := writesTo(device)
	if err != nil {
		return nil, "", errors.Join(err, device.Close())
	}
	key := fmt.Sprintf("%s+%d %d", blockdev.FormatNumber(st.Rdev), offset, size)
	p.mu.Lock()
	defer p.mu.Unlock()
	if current, ok := p.running[key]; ok {
		_ = device.Close() // it was only read
		return current, key, nil
	}
	if p.running == nil {
		p.running = make(map[string]*proving)
	}
	started := &proving{done: make(chan struct{}), plan: thoroughly(size), device: device, writes: writes}
	p.running[key] = started
	go func() {
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), thoroughTime)
		defer cancel()
		started.run(detached, p.semaphore, shifted{device, offset}, size)
		close(started.done)
		time.AfterFunc(keepProof, func() { p.forget(key, started) })
	}()
	return started, key, nil
}

// forget lets go of a proof that has ended.
func (p *proofs) forget(key string, ended *proving) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running[key] == ended {
		delete(p.running, key)
		_ = ended.device.Close() // it was only read
	}
}

// run makes the proof.
func (p *proving) run(ctx context.Context, all semaphore, r io.ReaderAt, size int64) {
	release, err := all.acquire(ctx)
	if err != nil {
		p.err = err
		return
	}
	defer release()
	began := time.Now()
	logging.From(ctx).Info("reading a device to prove that it is blank", zap.Int64("size", size))
	p.found, p.err = p.plan.search(ctx, r, proofReaders)
	if errors.Is(p.err, context.DeadlineExceeded) {
		p.err = fmt.Errorf("%w: reading it took longer than %v: an administrator may zero it, or put a filesystem on it", ErrNotBlank, thoroughTime)
	}
	logging.From(ctx).Info("a device was read to prove that it is blank",
		zap.Int64("size", size), zap.Int64("bytesRead", p.plan.bytes.Load()), zap.Duration("duration", time.Since(began)),
		zap.String("found", p.found), zap.Error(p.err))
}

// writesTo returns what the kernel has counted of writes to a device.
func writesTo(device *os.File) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(device.Fd()), &st); err != nil {
		return "", os.NewSyscallError("fstat", err)
	}
	return blockdev.Writes(st.Rdev)
}
