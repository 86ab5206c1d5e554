package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
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
	thoroughGroups = 64
	thoroughTime   = time.Hour
	// keepProof is how long the outcome is there for a call that is repeated.
	keepProof = 10 * time.Minute
	// proofsAtOnce bounds how many devices are read at once.
	proofsAtOnce = 4
	// proofReaders is how many reads of a device are under way at once.
	proofReaders = 16
)

// places are the extents that the thorough proof reads of a device.
type places struct {
	size, head   int64
	known        []extent // beyond the head
	first, every int64    // of the places at equal distances
}

// thoroughly returns the places for a device.
func thoroughly(size int64) places {
	p := places{size: size, head: min(headWhole, size), every: nearestPlaces}
	for size/p.every > 1<<40/nearestPlaces && p.every < farthestPlaces {
		p.every *= 2
	}
	p.first = (p.head + p.every - 1) / p.every
	var groups []int64
	for n := int64(2); n <= thoroughGroups; n++ {
		groups = append(groups, groupPlaces(size, n)...)
	}
	for _, e := range telling(size, groups...) {
		if e.offset+e.length > p.head {
			from := max(e.offset, p.head)
			p.known = append(p.known, extent{from, e.offset + e.length - from})
		}
	}
	return p
}

// count returns how many extents there are.
func (p places) count() int64 {
	distant := max(0, (p.size+p.every-1)/p.every-p.first)
	return (p.head+whole-1)/whole + int64(len(p.known)) + distant
}

// extent returns one of them.
func (p places) extent(i int64) extent {
	heads := (p.head + whole - 1) / whole
	if i < heads {
		return extent{i * whole, min(whole, p.head-i*whole)}
	}
	i -= heads
	if i < int64(len(p.known)) {
		return p.known[i]
	}
	at := (p.first + i - int64(len(p.known))) * p.every
	return extent{at, min(piece, p.size-at)}
}

// proving is one thorough proof, which goes on when the call that began it ends.
type proving struct {
	done   chan struct{} // closed when found and err are set
	found  string
	err    error
	bytes  atomic.Int64
	device *os.File // kept open, so that its number can't become another disk's
	writes string   // what the kernel had counted before
}

// proofs are the thorough proofs that run or whose outcome nobody has asked for yet.
type proofs struct {
	mu      sync.Mutex
	running map[string]*proving
	turns   turns
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
			return fmt.Errorf("%w: the device is being read to prove that it is blank, %d MiB so far: %w", ErrBusy, p.bytes.Load()>>20, context.Cause(ctx))
		}
		now, err := writesTo(p.device)
		f.proofs.forget(key, p)
		switch {
		case p.err != nil:
			return p.err
		case p.found != "":
			content, err := f.name(on.Path, p.found)
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
	key := fmt.Sprintf("%s+%d %d", numberString(st.Rdev), offset, size)
	p.mu.Lock()
	defer p.mu.Unlock()
	if current, ok := p.running[key]; ok {
		_ = device.Close() // it was only read
		return current, key, nil
	}
	if p.running == nil {
		p.running = make(map[string]*proving)
	}
	started := &proving{done: make(chan struct{}), device: device, writes: writes}
	p.running[key] = started
	go func() {
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), thoroughTime)
		defer cancel()
		started.run(detached, p.turns, shifted{device, offset}, size)
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
func (p *proving) run(ctx context.Context, all turns, r io.ReaderAt, size int64) {
	giveBack, err := all.take(ctx)
	if err != nil {
		p.err = err
		return
	}
	defer giveBack()
	began := time.Now()
	logging.From(ctx).Info("reading a device to prove that it is blank", zap.Int64("size", size))
	plan := thoroughly(size)
	p.found, p.err = firstDataAmong(ctx, r, plan.count(), plan.extent, proofReaders, &p.bytes)
	if errors.Is(p.err, context.DeadlineExceeded) {
		p.err = fmt.Errorf("%w: reading it took longer than %v: an administrator may zero it, or put a filesystem on it", ErrNotBlank, thoroughTime)
	}
	logging.From(ctx).Info("a device was read to prove that it is blank",
		zap.Int64("size", size), zap.Int64("bytes_read", p.bytes.Load()), zap.Duration("took", time.Since(began)),
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

// firstDataAmong reads extents, so many at once, until one of them isn't zero. It
// returns what was found there.
func firstDataAmong(ctx context.Context, r io.ReaderAt, count int64, at func(int64) extent, readers int, bytes *atomic.Int64) (string, error) {
	var found atomic.Pointer[string]
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range readers {
		group.Go(func() error {
			buf := aligned(chunk)
			for i := next.Add(1) - 1; i < count && found.Load() == nil; i = next.Add(1) - 1 {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				e := at(i)
				data, err := dataIn(r, e, buf)
				if err != nil {
					return err
				}
				bytes.Add(e.length)
				if data != "" {
					found.CompareAndSwap(nil, &data)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	if data := found.Load(); data != nil {
		return *data, nil
	}
	return "", nil
}
