package filesystem

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// Format makes a filesystem on a device that Probe says is blank, and proves it
// once more right before. Options are those of mkfs, each followed by its
// value; only what shapes a filesystem is allowed (else ErrOptions). Blocks
// aren't discarded beforehand, unless the options say so: a blank volume has
// none, and telling a large one so takes minutes on some backends.
//
// It fails with ErrNotBlank, ErrBusy (something else uses the device),
// ErrReadOnly, ErrTooSmall or ErrUnsupported, and then has written nothing. What
// holds the device for a moment is waited for, and the proof made anew. A
// mkfs that has begun runs to its end when ctx ends before; a later call for
// the same device waits for it.
func (f *FS) Format(ctx context.Context, path, fsType string, options []string) error {
	if !Supported(fsType) {
		return fmt.Errorf("format %s: %w: %q", path, ErrUnsupported, fsType)
	}
	asked, err := parseOptions(fsType, options)
	if err != nil {
		return fmt.Errorf("format %s: %w", path, err)
	}
	d, err := openDevice(path)
	if err != nil {
		return fmt.Errorf("format %s: %w", path, err)
	}
	// The device stays open until mkfs has ended, so that the path can't come
	// to mean another disk.
	what := strings.Join(append([]string{"mkfs." + fsType}, options...), " ")
	err = f.jobs.onDevice(ctx, d, what, func(detached context.Context) error {
		select {
		case f.slots <- struct{}{}:
			defer func() { <-f.slots }()
		case <-ctx.Done():
			return fmt.Errorf("%w: too many others run: %w", errNeverBegan, context.Cause(ctx))
		}
		return f.format(ctx, detached, path, d, fsType, asked)
	})
	if err != nil {
		return fmt.Errorf("format %s: %w", path, err)
	}
	return nil
}

// format does the work of Format. It begins nothing more when ctx has ended.
func (f *FS) format(ctx, detached context.Context, path string, d *device, fsType string, asked []option) error {
	args, err := f.mkfsArguments(fsType, asked)
	if err != nil {
		return err
	}
	// Each mkfs that is tried has a proof of its own right before it.
	err = f.whenFree(ctx, d.number, func() error {
		if err := f.fitToFormat(ctx, path, d, fsType); err != nil {
			return err
		}
		output, status, err := f.writer("mkfs."+fsType, append(args, path)...)
		if err == nil && status != 0 {
			err = failed("mkfs."+fsType, status, output)
		}
		return err
	})
	if err != nil && ctx.Err() != nil && (errors.Is(err, ErrBusy) || errors.Is(err, context.Cause(ctx))) {
		return fmt.Errorf("%w: %w", errNeverBegan, err)
	}
	if err != nil {
		return err
	}
	made, err := readSuperblock(d)
	if err != nil {
		return fmt.Errorf("mkfs.%s said it succeeded: %w", fsType, err)
	}
	asAsked := made.fsType == fsType || isExt(made.fsType) && isExt(fsType)
	if !asAsked || !made.full(d.size) {
		return fmt.Errorf("mkfs.%s said it succeeded, but made a %s of %d bytes on a device of %d",
			fsType, made.fsType, made.size, d.size)
	}
	logging.From(detached).Info("formatted", zap.String("device", path), zap.String("fs_type", fsType),
		zap.Int64("size", d.size))
	return nil
}

// fitToFormat returns nil only for a blank device that nothing else uses.
func (f *FS) fitToFormat(ctx context.Context, path string, pinned *device, fsType string) error {
	d, err := claim(path)
	if err != nil {
		return err
	}
	// Given back right before mkfs, which claims the device for itself.
	defer d.release()
	switch {
	case d.number != pinned.number:
		return fmt.Errorf("%w: %s has become device %s, it was %s", ErrBusy, path,
			numberString(d.number), numberString(pinned.number))
	case d.readOnly:
		return fmt.Errorf("device is %w", ErrReadOnly)
	case d.size < smallest(fsType):
		return fmt.Errorf("%w: %s needs %d bytes, it has %d", ErrTooSmall, fsType, smallest(fsType), d.size)
	}
	content, err := f.probe(ctx, path, d)
	if err != nil {
		return err
	}
	if content.Kind != Blank {
		return fmt.Errorf("%w: it holds %s", ErrNotBlank, content.Detail)
	}
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

// mkfsArguments returns the arguments of mkfs, without the device.
func (f *FS) mkfsArguments(fsType string, asked []option) ([]string, error) {
	off, err := f.tooNew(fsType)
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(off); i += 2 {
		asked = preset(asked, off[i], off[i+1])
	}
	arguments := []string{"-q"}
	switch fsType {
	case ext2, ext3:
		asked = preset(asked, "-E", "nodiscard")
		asked = presetValue(asked, "-m", "0")
	case ext4:
		// Inode tables are zeroed by the kernel after the first mount, so that
		// mkfs takes as long for 10 TiB as for 1 GiB. The journal is not left
		// for later: what a device held there before must never be replayed.
		asked = preset(asked, "-E", "lazy_itable_init=1")
		asked = preset(asked, "-E", "lazy_journal_init=0")
		asked = preset(asked, "-E", "nodiscard")
		// No blocks set aside for root: a volume is no system disk.
		asked = presetValue(asked, "-m", "0")
	case xfs, btrfs:
		arguments = append(arguments, "-K")
	}
	for _, o := range asked {
		arguments = append(arguments, o.name, o.value)
	}
	return arguments, nil
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
