package filesystem

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

// Format makes a filesystem on a device that holds nothing, and proves that right
// before, while nobody else can claim the device. Options are those that package
// mkfs accepts, in any spelling (else mkfs.ErrOptions). Blocks aren't discarded
// beforehand, unless the options say so: a blank volume has none, and telling a
// large one so takes minutes on some backends.
//
// It fails with ErrNotBlank (a *NotBlankError), ErrBusy (something else uses the
// device), ErrReadOnly, ErrTooSmall or ErrUnsupported, and then has written nothing.
// What holds the device for a moment is waited for, and the proof made anew. A
// mkfs that has begun runs to its end when ctx ends before; a later call for
// the same device waits for it.
func (f *FS) Format(ctx context.Context, on Device, proof Proof, fsType string, options []string) error {
	if !Supported(fsType) {
		return fmt.Errorf("format %s: %w: %q", on.Path, ErrUnsupported, fsType)
	}
	asked, err := mkfs.Parse(fsType, options)
	if err != nil {
		return fmt.Errorf("format %s: %w", on.Path, err)
	}
	w := blankWrite{
		on: on, proof: proof, smallest: smallest(fsType), asked: asked,
		name: fsType, what: strings.Join(append([]string{"mkfs." + fsType}, options...), " "),
	}
	err = f.onBlank(ctx, w, func(ctx context.Context, d *handle) error {
		return f.runMkfs(ctx, d, on.Path, fsType, asked)
	})
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
	asked    mkfs.List
	what     string // is done, by which a later call finds it running
}

// onBlank lets write change a device that is blank and free, with a proof of
// its own right before each attempt. The device stays open until that has ended,
// so that the path can't come to mean another disk. It begins nothing when ctx
// has ended; write gets a context that doesn't end.
func (f *FS) onBlank(ctx context.Context, w blankWrite, write func(context.Context, *handle) error) error {
	d, err := openDevice(w.on.Path)
	if err != nil {
		return err
	}
	return f.jobs.onDevice(ctx, d, w.what, func(detached context.Context) error {
		proven, err := f.proveAhead(ctx, w, d)
		if err != nil {
			return err
		}
		giveBack, err := f.formats.take(ctx)
		if err != nil {
			return err
		}
		defer giveBack()
		err = f.whenFree(ctx, d.number, func() error {
			m, finished, err := f.fitToWrite(ctx, w, d, proven, giveBack)
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
			return fmt.Errorf("%w: %w", errNeverBegan, err)
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
		return false, fmt.Errorf("%w: %w", errNeverBegan, err)
	}
	return err == nil, err
}

// fitToWrite returns nil only for a blank device that nothing else uses, before
// ctx ends, after it has put a mark on it; or true for one that has been written to
// the end by an earlier call. A disk that hangs while it is read keeps neither its
// turn nor its claim for longer than that: it has to be unstaged.
func (f *FS) fitToWrite(ctx context.Context, w blankWrite, pinned *handle, proven bool, giveBack func()) (m mark, finished bool, err error) {
	d, err := claim(w.on.Path)
	if err != nil {
		return m, false, err
	}
	// Given back right before the tool starts, which claims the device for itself.
	defer d.release()
	switch {
	case d.number != pinned.number:
		return m, false, fmt.Errorf("%w: %s has become device %s, it was %s", ErrBusy, w.on.Path,
			numberString(d.number), numberString(pinned.number))
	case d.readOnly:
		return m, false, fmt.Errorf("device is %w", ErrReadOnly)
	case d.size < w.smallest:
		return m, false, fmt.Errorf("%w: %s needs %d bytes, it has %d", ErrTooSmall, w.name, w.smallest, d.size)
	}
	keep := context.AfterFunc(ctx, func() { giveBack(); d.close() })
	finished, err = f.leaveBlank(ctx, w, pinned, proven)
	if err == nil && !finished {
		err = f.tryOut(w, d.size)
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
func (f *FS) tryOut(w blankWrite, size int64) error {
	if len(w.asked) == 0 {
		return nil
	}
	memory, err := f.rehearse(w.name, w.asked, size, w.name == xfs)
	if err != nil {
		return fmt.Errorf("%w: %w", mkfs.ErrOptions, err)
	}
	return memory.Close()
}

// runMkfs makes the filesystem.
func (f *FS) runMkfs(ctx context.Context, d *handle, path, fsType string, asked mkfs.List) error {
	args, err := f.mkfsArguments(fsType, asked, d.size)
	if err != nil {
		return err
	}
	if err := f.makeFilesystem(fsType, append(args, path)); err != nil {
		return err
	}
	return verifyFormat(ctx, path, d, fsType)
}

// makeFilesystem runs mkfs.
func (f *FS) makeFilesystem(fsType string, args []string) error {
	name := "mkfs." + fsType
	output, status, err := f.writer(name, args...)
	if err == nil && status != 0 {
		err = failed(name, status, output)
	}
	return err
}

// verifyFormat reads what mkfs says it has made.
func verifyFormat(ctx context.Context, path string, d *handle, fsType string) error {
	made, err := readSuperblock(d)
	if err != nil {
		return fmt.Errorf("mkfs.%s said it succeeded: %w", fsType, err)
	}
	asAsked := made.fsType == fsType || isExt(made.fsType) && isExt(fsType)
	if !asAsked || !made.full(d.size) {
		return fmt.Errorf("mkfs.%s said it succeeded, but made a %s of %d bytes on a device of %d",
			fsType, made.fsType, made.size, d.size)
	}
	logging.From(ctx).Info("formatted", zap.String("device", path), zap.String("fs_type", fsType),
		zap.Int64("size", d.size))
	return nil
}

// smallest returns how many bytes a device must have. The tools find that out
// too, but some of them only after they have begun to write.
func smallest(fsType string) int64 {
	switch fsType {
	case xfs:
		return 300 << 20 // what mkfs.xfs asks for since 5.19
	case btrfs:
		return 109 << 20 // with the usual profiles: 16 MiB nodes, twice for metadata
	}
	return 2 << 20
}

// mkfsArguments returns the arguments of mkfs, without the device, which has that size.
func (f *FS) mkfsArguments(fsType string, asked mkfs.List, size int64) ([]string, error) {
	off, err := f.tooNew(fsType)
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(off); i += 2 {
		asked = asked.DefaultSetting(off[i], off[i+1])
	}
	arguments := []string{"-q"}
	switch fsType {
	case ext2, ext3:
		asked = asked.DefaultSetting("-E", "nodiscard").Default("-m", "0")
	case ext4:
		// Inode tables are zeroed by the kernel after the first mount, so that
		// mkfs takes as long for 10 TiB as for 1 GiB. The journal is not left
		// for later: what a device held there before must never be replayed.
		// No blocks are set aside for root: a volume is no system disk.
		asked = asked.DefaultSetting("-E", "lazy_itable_init=1").DefaultSetting("-E", "lazy_journal_init=0").
			DefaultSetting("-E", "nodiscard").Default("-m", "0")
	case xfs:
		arguments = append(arguments, "-K")
		// What mkfs.xfs does by itself on one plain disk. With stripes it would make
		// groups whose beginnings no proof of blankness knows, and newer ones as many
		// as the node has processors.
		if size < 4<<40 {
			asked = asked.DefaultSetting("-d", "agcount=4")
		} else if !asked.Sets("-d", "agcount") {
			asked = asked.DefaultSetting("-d", "agsize=1t")
		}
	case btrfs:
		arguments = append(arguments, "-K")
	}
	return append(arguments, asked.Arguments()...), nil
}

// tooNew returns the options that turn off what mkfs would turn on and the
// running kernel couldn't mount.
func (f *FS) tooNew(fsType string) ([]string, error) {
	kernel, err := kernelVersion()
	if err != nil {
		return nil, err
	}
	// The newest mkfs that could be: nothing to turn off for it, nothing to ask.
	if newest := (version{1 << 20, 0}); len(mountable(fsType, newest, kernel)) == 0 {
		return nil, nil
	}
	output, status, err := f.writer("mkfs."+fsType, "-V")
	if err != nil {
		return nil, err
	}
	tool, ok := parseVersion(strings.TrimPrefix(output, "mke2fs"))
	if status != 0 || !ok {
		return nil, fmt.Errorf("mkfs.%s -V doesn't tell its version: %s", fsType, words(output))
	}
	return mountable(fsType, tool, kernel), nil
}
