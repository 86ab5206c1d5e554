package filesystem

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

// Format makes a filesystem on a device that holds nothing, and proves that right
// before, while nobody else can claim the device. Blocks aren't discarded
// beforehand, unless the options say so: a blank volume has none, and telling a
// large one so takes minutes on some backends.
//
// It fails with ErrNotBlank (a *NotBlankError), ErrBusy (something else uses the
// device), ErrReadOnly, ErrTooSmall or mkfs.ErrOptions (mkfs refuses them on a device of
// that size), and then has written nothing.
// What holds the device for a moment is waited for, and the proof made anew. A
// mkfs that has begun runs to its end when ctx ends before; a later call for
// the same device waits for it.
func (f *FS) Format(ctx context.Context, on Device, proof Proof, t *Type, options mkfs.List) error {
	w := blankWrite{
		on: on, proof: proof, smallest: t.smallest, of: t, options: options,
		name: t.Name, what: strings.Join(append([]string{"mkfs." + t.Name}, options.Arguments()...), " "),
	}
	err := f.onBlank(ctx, w, func(ctx context.Context, d *handle) error { return f.runMkfs(ctx, d, w) })
	if err != nil {
		return fmt.Errorf("format %s: %w", on.Path, err)
	}
	return nil
}

// WriteBlank has write put something else than a filesystem on a device that holds
// nothing, by the rules of Format: nothing is begun on a device that holds
// anything, is in use, read-only or has fewer than smallest bytes, the proof is
// made right before, and what has begun runs to its end. The name says in errors
// what would have been written.
func (f *FS) WriteBlank(ctx context.Context, on Device, proof Proof, name string, smallest int64, write func() error) error {
	w := blankWrite{on: on, proof: proof, smallest: smallest, name: name, what: "write " + name}
	err := f.onBlank(ctx, w, func(context.Context, *handle) error { return write() })
	if err != nil {
		return fmt.Errorf("write %s to %s: %w", name, on.Path, err)
	}
	return nil
}

// blankWrite is something to be put on a blank device.
type blankWrite struct {
	on       Device
	proof    Proof
	smallest int64  // bytes that the device must have
	name     string // of what will be there
	what     string // is done, by which a later call finds it running
	// of is the filesystem that mkfs makes, with options; nil for anything else.
	of      *Type
	options mkfs.List
}

// onBlank lets write change a device that is blank and free, with a proof of
// its own right before each attempt. The device stays open until that has ended,
// so that the path can't come to mean another disk. It begins nothing when ctx
// has ended; write gets a context that doesn't end.
func (f *FS) onBlank(ctx context.Context, w blankWrite, write func(context.Context, *handle) error) error {
	return f.onDevice(ctx, w.on.Path, w.what, func(detached context.Context, d *handle) error {
		proven, err := f.proveAhead(ctx, w, d)
		if err != nil {
			return err
		}
		release, err := f.formats.acquire(ctx)
		if err != nil {
			return err
		}
		defer release()
		err = f.whenFree(ctx, d.number, func() error {
			m, finished, err := f.fitToWrite(ctx, w, d, proven, release)
			if err != nil || finished {
				return err
			}
			err = write(detached, d)
			if w.on.Owner == "" || err != nil && !errors.Is(err, ErrBusy) {
				return err // what it has written is told by the mark
			}
			return errors.Join(err, m.remove(w.on.Path, d.size))
		})
		if err != nil && ctx.Err() != nil && (errors.Is(err, ErrBusy) || errors.Is(err, context.Cause(ctx))) {
			return fmt.Errorf("%w: %w", errNotStarted, err)
		}
		return err
	})
}

// proveAhead makes the thorough proof, where that is asked for, before the device is
// claimed: it may take minutes. It reports true if the device was blank then.
func (f *FS) proveAhead(ctx context.Context, w blankWrite, d *handle) (bool, error) {
	if w.proof == Quick {
		return true, nil
	}
	content, err := f.Probe(ctx, w.on)
	switch {
	case err != nil:
		return false, err
	case content.Kind == Unfinished:
		return false, nil // it isn't blank, and is read before that is mended
	case content.Kind != Blank:
		return false, &NotBlankError{Content: content}
	}
	if err = f.proveThoroughly(ctx, w.on, d.size); err != nil && ctx.Err() != nil {
		return false, fmt.Errorf("%w: %w", errNotStarted, err)
	}
	return err == nil, err
}

// fitToWrite returns nil only for a blank device that nothing else uses, before
// ctx ends, after it has put a mark on it; or true for one that has been written to
// the end by an earlier call. A disk that hangs while it is read keeps neither its
// turn nor its claim for longer than that: it has to be unstaged.
func (f *FS) fitToWrite(ctx context.Context, w blankWrite, pinned *handle, proven bool, release func()) (m mark, finished bool, err error) {
	d, err := claim(w.on.Path)
	if err != nil {
		return m, false, err
	}
	// Given back right before the tool starts, which claims the device for itself.
	defer d.release()
	switch {
	case d.number != pinned.number:
		return m, false, fmt.Errorf("%w: %s has become device %s, it was %s", ErrBusy, w.on.Path,
			blockdev.FormatNumber(d.number), blockdev.FormatNumber(pinned.number))
	case d.readOnly:
		return m, false, fmt.Errorf("device is %w", ErrReadOnly)
	case d.size < w.smallest:
		return m, false, fmt.Errorf("%w: %s needs %d bytes, it has %d", ErrTooSmall, w.name, w.smallest, d.size)
	}
	keep := context.AfterFunc(ctx, func() { release(); d.close() })
	finished, err = f.leaveBlank(ctx, w, pinned, proven)
	if err == nil && !finished {
		err = f.tryOut(ctx, w, d.size)
	}
	if !keep() {
		return m, false, context.Cause(ctx)
	}
	if err != nil || finished || w.on.Owner == "" {
		return m, finished, err
	}
	m = newMark(w, d.size)
	return m, false, m.write(w.on.Path)
}

// leaveBlank returns nil only for a device that is blank, or was made so because an
// earlier call had begun to write to it; or true if that call had ended.
func (f *FS) leaveBlank(ctx context.Context, w blankWrite, d *handle, proven bool) (finished bool, err error) {
	content, err := f.probe(ctx, w.on, d)
	if err != nil {
		return false, err
	}
	if content.Kind == Unfinished {
		if finished, err = f.restart(ctx, w, d, content); err != nil || finished {
			return finished, err
		}
		if content, err = f.probe(ctx, w.on, d); err != nil {
			return false, err
		}
	} else if !proven && content.Kind == Blank {
		return false, fmt.Errorf("%w: it changes while it is read", ErrBusy)
	}
	if content.Kind != Blank {
		return false, &NotBlankError{Content: content}
	}
	return false, nil
}

// tryOut finds out whether mkfs takes options on a device of that size, where there
// are any, before anything is written.
func (f *FS) tryOut(ctx context.Context, w blankWrite, size int64) error {
	if len(w.options) == 0 {
		return nil
	}
	memory, err := f.rehearse(ctx, w.of, w.options, size, w.of.dryRun)
	if err != nil {
		return fmt.Errorf("%w: %w", mkfs.ErrOptions, err)
	}
	return memory.Close()
}

// runMkfs makes the filesystem, and reads what mkfs says it has made.
func (f *FS) runMkfs(ctx context.Context, d *handle, w blankWrite) error {
	args, err := w.of.mkfsArguments(ctx, f, w.options, d.size)
	if err != nil {
		return err
	}
	if err := f.change(ctx, "mkfs."+w.name, append(args, w.on.Path)...); err != nil {
		return err
	}
	made, err := readSuperblock(d)
	if err != nil {
		return fmt.Errorf("mkfs.%s reported success: %w", w.name, err)
	}
	if made.of.family != w.of.family || !made.full(d.size) {
		return fmt.Errorf("mkfs.%s reported success, but made a %s of %d bytes on a device of %d",
			w.name, made.of.Name, made.size, d.size)
	}
	logging.From(ctx).Info("formatted", zap.String("device", w.on.Path), zap.String("fsType", w.name), zap.Int64("size", d.size))
	return nil
}

// newMark returns the mark for a write that is about to begin.
func newMark(w blankWrite, size int64) mark {
	command := sha256.Sum256([]byte(w.what))
	return mark{Owner: w.on.Owner, Name: w.name, Command: hex.EncodeToString(command[:8]), Size: size, Nonce: rand.Text()}
}

// page returns the mark as it lies on a disk, in memory for direct reads and writes.
func (m mark) page() ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	page := aligned(piece)
	text = fmt.Appendf([]byte(markMagic), "%s\n%x\n", text, sum)
	if copy(page[:markLength], text) != len(text) {
		return nil, fmt.Errorf("the owner %q is too long", m.Owner)
	}
	return page, nil
}

// write puts the mark on a device of its size and flushes it.
func (m mark) write(path string) (err error) {
	page, err := m.page()
	if err != nil {
		return fmt.Errorf("mark the device: %w", err)
	}
	f, err := openDirect(path, os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, at := range markPlaces(m.Size) {
		if _, err := f.WriteAt(page, at); err != nil {
			return fmt.Errorf("mark the device: %w", err)
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("mark the device: %w", err)
	}
	return nil
}

// remove takes the marks of an owner from a device that has size bytes now. What
// isn't such a mark is left alone, in its page too.
func (m mark) remove(path string, size int64) (err error) {
	f, err := openDirect(path, os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page := aligned(piece)
	for _, at := range append(markPlaces(size), markPlaces(min(m.Size, size))...) {
		if _, err := f.ReadAt(page, at); err != nil {
			return fmt.Errorf("take the mark away: %w", err)
		}
		if found, ok := parseMark(page); !ok || found.Owner != m.Owner {
			continue
		}
		clear(page[:markLength])
		if _, err := f.WriteAt(page, at); err != nil {
			return fmt.Errorf("take the mark away: %w", err)
		}
	}
	if m.Name != luksName {
		return nil
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("take the mark away: %w", err)
	}
	return nil
}

// restart leaves the device of a write that never ended ready to be written to
// again, or returns true if it had ended after all. It fails with ErrNotBlank for
// what may be anything else than that write's.
func (f *FS) restart(ctx context.Context, w blankWrite, d *handle, content Content) (finished bool, err error) {
	direct, err := openDirect(w.on.Path, os.O_RDWR)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, direct.Close()) }()
	m, marked, err := readMark(direct, d.size, w.on.Owner)
	if err != nil || !marked {
		return false, errors.Join(err, fmt.Errorf("%w: its mark has gone", ErrBusy))
	}
	// Another size is one that the volume has grown to.
	if now := newMark(w, d.size); now.Name != m.Name || now.Command != m.Command {
		return false, refuse(content, "; it was begun with other options, as "+m.Name)
	}
	there, err := f.recognize(ctx, w.on.Path, d)
	if err != nil {
		return false, err
	}
	if there.Kind == Filesystem {
		// Whether it fills its device, which may have grown, its stage finds out.
		finished = there.Filesystem.complete == nil
		if !finished {
			finished, err = there.Filesystem.complete(ctx, f, w.on.Path)
		}
		if err != nil {
			return false, err
		}
		if finished {
			return true, m.remove(w.on.Path, d.size)
		}
	}
	allowed, done, err := f.writtenBy(ctx, w, m.Size)
	if err != nil {
		return false, err
	}
	defer done()
	left, err := f.leftovers(ctx, w.on, direct, d.size, allowed)
	if err != nil {
		return false, err
	}
	logging.From(ctx).Warn("beginning again to format a device: the last attempt never ended",
		zap.String("device", w.on.Path), zap.String("volumeID", w.on.Owner), zap.String("what", m.Name), zap.Int("pieces", len(left)))
	zeros := aligned(piece)
	for _, at := range left {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if _, err := direct.WriteAt(zeros, at); err != nil {
			return false, fmt.Errorf("wipe what is left: %w", err)
		}
	}
	if err := direct.Sync(); err != nil {
		return false, fmt.Errorf("wipe what is left: %w", err)
	}
	return false, m.remove(w.on.Path, d.size)
}

// refuse makes the error for a device that holds something else.
func refuse(content Content, why string) error {
	content.Kind = Foreign
	content.Detail += why
	return &NotBlankError{Content: content}
}

// writtenBy returns a function that tells whether the page at a byte is one that
// the write leaves something in.
func (f *FS) writtenBy(ctx context.Context, w blankWrite, size int64) (allowed func(at int64) bool, done func(), err error) {
	switch {
	case w.name == luksName:
		return func(at int64) bool { return at < luksHeader }, func() {}, nil
	case w.of == nil:
		return nil, nil, fmt.Errorf("%w: it is not known where %s writes to", ErrUnsupported, w.name)
	}
	shadow, err := f.rehearse(ctx, w.of, w.options, size, "")
	if err != nil {
		return nil, nil, err
	}
	page := make([]byte, piece)
	return func(at int64) bool {
		_, err := shadow.ReadAt(page, at)
		return err == nil && firstNonZero(page) >= 0
	}, func() { _ = shadow.Close() }, nil // it is memory
}

// rehearse runs mkfs on as much empty memory as the device has, of which only what
// is written takes room; or has it check its options and write nothing, where dryRun is
// the option for that.
func (f *FS) rehearse(ctx context.Context, t *Type, asked mkfs.List, size int64, dryRun string) (*os.File, error) {
	const most = 16 << 40
	if size > most {
		return nil, fmt.Errorf("%w: mkfs can't be rehearsed for more than %d bytes, and the device has %d", ErrUnsupported, int64(most), size)
	}
	fd, err := unix.MemfdCreate("mkfs", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	memory := os.NewFile(uintptr(fd), fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)) // #nosec G115 -- not negative
	if err := memory.Truncate(size); err != nil {
		return nil, errors.Join(err, memory.Close())
	}
	var args []string
	if dryRun != "" {
		args = append(args, dryRun)
	} else if t.rehearsed.Name != "" { // zeros that nobody needs would be memory
		asked = asked.DefaultSetting(t.rehearsed.Name, t.rehearsed.Value)
	}
	arguments, err := t.mkfsArguments(ctx, f, asked, size)
	if err == nil {
		err = f.change(ctx, "mkfs."+t.Name, slices.Concat(args, arguments, []string{memory.Name()})...)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("rehearse: %w", err), memory.Close())
	}
	return memory, nil
}

// leftovers returns the pages of a device that aren't zero, among those that the
// thorough proof reads. It fails with ErrNotBlank when one isn't allowed, which the
// mark itself always is.
func (f *FS) leftovers(ctx context.Context, on Device, direct *os.File, size int64, allowed func(int64) bool) (found []int64, err error) {
	layers := []io.ReaderAt{direct}
	if on.Beneath != nil {
		below, err := openDirect(on.Beneath.Path, os.O_RDONLY)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, below.Close()) }()
		// What was never written is noise above, and zero beneath; what was written
		// as zeros is zero above, and noise beneath.
		layers = []io.ReaderAt{shifted{below, on.Beneath.Offset}, direct}
	}
	plan := thoroughly(size)
	buf, page := aligned(whole), aligned(piece)
	for i := range plan.count {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		e := plan.at(i)
		if _, err := layers[0].ReadAt(buf[:e.length], e.offset); err != nil {
			return nil, fmt.Errorf("read %d bytes at byte %d: %w", e.length, e.offset, err)
		}
		for start := int64(0); start < e.length; start += piece {
			part := buf[start:min(start+piece, e.length)]
			if firstNonZero(part) < 0 {
				continue
			}
			at := e.offset + start
			if len(layers) > 1 {
				part = page[:len(part)]
				if _, err := layers[1].ReadAt(part, at); err != nil {
					return nil, fmt.Errorf("read %d bytes at byte %d: %w", len(part), at, err)
				}
			}
			if m, ok := parseMark(part); firstNonZero(part) < 0 || ok && m.Owner == on.Owner {
				continue
			}
			if !allowed(at) {
				return nil, refuse(Content{Detail: describe(part, at, firstNonZero(part))}, ", which no mkfs wrote there")
			}
			found = append(found, at)
		}
	}
	return found, nil
}
