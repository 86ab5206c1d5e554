package filesystem

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// Check makes sure that an unmounted filesystem is fit to be mounted. An ext
// filesystem that has errors on record, or no journal and wasn't unmounted cleanly, is
// repaired as far as e2fsck does without asking (-p); where that isn't enough it
// fails with ErrCorrupt and e2fsck's own words. Nothing else needs it: the kernel
// replays journals, and the logs of XFS and btrfs, when it mounts. Of a read-only device nothing is checked, since it is
// mounted without its journal being replayed.
//
// It fails with ErrBusy when something uses the device. An e2fsck waits for its
// turn, see checksAtOnce. One that has begun runs to its end when ctx ends before;
// a later call waits for it.
func (f *FS) Check(ctx context.Context, path, fsType string) error {
	if !Supported(fsType) {
		return fmt.Errorf("check %s: %w: %q", path, ErrUnsupported, fsType)
	}
	if !isExt(fsType) {
		return nil
	}
	unclean, err := abandonable(ctx, f, path, func() (bool, error) { return needsCheck(path) })
	if err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	if !unclean {
		return nil
	}
	if err := f.e2fsck(ctx, path, "-p"); err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	return nil
}

// needsCheck tells whether there is an unclean ext filesystem that could be
// written to.
func needsCheck(path string) (bool, error) {
	d, err := openDevice(path)
	if err != nil {
		return false, err
	}
	defer d.close()
	s, err := readSuperblock(d)
	if err != nil {
		return false, err
	}
	if s.fsType != ext4 {
		return false, fmt.Errorf("%w: it holds %s, not ext", ErrUnsupported, s.fsType)
	}
	return s.unclean && !d.readOnly, nil
}

// e2fsck runs e2fsck on a device that nothing else uses.
func (f *FS) e2fsck(ctx context.Context, path string, options ...string) error {
	return f.exclusively(ctx, path, "e2fsck", func(ctx context.Context) error {
		return f.runE2fsck(ctx, path, options...)
	})
}

func (f *FS) runE2fsck(ctx context.Context, path string, options ...string) error {
	const repaired = 1 | 2 // errors corrected; 2 also asks for a reboot, meant for a root filesystem
	output, status, err := f.writer("e2fsck", append(options, path)...)
	if err != nil {
		return err
	}
	if status&^repaired != 0 {
		if err := failed("e2fsck", status, output); errors.Is(err, ErrBusy) {
			return err
		}
		return fmt.Errorf("%w: e2fsck: exit status %d: %s", ErrCorrupt, status, words(output))
	}
	if status != 0 {
		logging.From(ctx).Warn("filesystem repaired", zap.String("device", path), zap.String("e2fsck", words(output)))
	}
	return nil
}

// exclusively runs work on a device that nothing else uses, when it is its turn
// and to its end, while the device can't be replaced. The device is held open,
// but not claimed: tools do that themselves.
func (f *FS) exclusively(ctx context.Context, path, what string, work func(context.Context) error) error {
	d, err := openDevice(path)
	if err != nil {
		return err
	}
	return f.jobs.onDevice(ctx, d, what, func(detached context.Context) error {
		giveBack, err := f.checksOf(d.size).take(ctx)
		if err != nil {
			return err
		}
		defer giveBack()
		return f.whenFree(ctx, d.number, func() error {
			if err := claimable(path, d.number); err != nil {
				return err
			}
			return work(detached)
		})
	})
}

// claimable returns nil if nothing else uses the device, which has the number.
func claimable(path string, number uint64) error {
	d, err := claim(path)
	if err != nil {
		return err
	}
	defer d.release()
	if d.number != number {
		return fmt.Errorf("%w: %s has become another device", ErrBusy, path)
	}
	return nil
}
