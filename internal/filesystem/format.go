package filesystem

import (
	"context"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// Format makes a filesystem on a device that is blank by the rules of Probe, and
// proves that right before, while nobody else can claim the device. Options are
// those of mkfs, each followed by its value; only what shapes a filesystem is
// allowed (else ErrOptions). Blocks aren't discarded beforehand, unless the
// options say so: a blank volume has none, and telling a large one so takes
// minutes on some backends.
//
// It fails with ErrNotBlank, ErrBusy (something else uses the device),
// ErrReadOnly, ErrTooSmall or ErrUnsupported, and then has written nothing. What
// holds the device for a moment is waited for, and the proof made anew. A
// mkfs that has begun runs to its end when ctx ends before; a later call for
// the same device waits for it.
func (f *FS) Format(ctx context.Context, path, fsType string, options []string) error {
	return f.formatOver(ctx, path, nil, fsType, options)
}

// FormatMapping is Format for a mapping whose bytes are beneath it.
func (f *FS) FormatMapping(ctx context.Context, path string, beneath Beneath, fsType string, options []string) error {
	return f.formatOver(ctx, path, &beneath, fsType, options)
}

func (f *FS) formatOver(ctx context.Context, path string, beneath *Beneath, fsType string, options []string) error {
	if !Supported(fsType) {
		return fmt.Errorf("format %s: %w: %q", path, ErrUnsupported, fsType)
	}
	asked, err := parseOptions(fsType, options)
	if err != nil {
		return fmt.Errorf("format %s: %w", path, err)
	}
	if err := f.formatBlank(ctx, path, beneath, fsType, options, asked); err != nil {
		return fmt.Errorf("format %s: %w", path, err)
	}
	return nil
}

// formatBlank does the work of Format.
func (f *FS) formatBlank(ctx context.Context, path string, beneath *Beneath, fsType string, options []string, asked []option) error {
	name := "mkfs." + fsType
	w := blankWrite{
		path: path, beneath: beneath, smallest: smallest(fsType),
		name: fsType, what: strings.Join(append([]string{name}, options...), " "),
	}
	return f.onBlank(ctx, w, func(ctx context.Context, d *device) error {
		args, err := f.mkfsArguments(fsType, asked)
		if err != nil {
			return err
		}
		output, status, err := f.writer(name, append(args, path)...)
		if err == nil && status != 0 {
			err = failed(name, status, output)
		}
		if err != nil {
			return err
		}
		return verifyFormat(ctx, path, d, fsType)
	})
}

// verifyFormat reads what mkfs says it has made.
func verifyFormat(ctx context.Context, path string, d *device, fsType string) error {
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
