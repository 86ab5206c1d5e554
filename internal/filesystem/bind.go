package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Bind makes source, a directory or a device node, appear at target too, which
// must exist and be of the same sort. Of options only those count that belong
// to a single mount, such as noexec; others belong to the filesystem and were
// given when it was mounted.
//
// What is at target already is left as it is when it is source, and ErrMounted
// when it is something else; the one thing that is mended is a bind that should
// be read-only and isn't (on a kernel where that takes two steps, an earlier
// call ended between them).
//
// A read-only bind of a device node doesn't make the device read-only.
func (f *FS) Bind(ctx context.Context, source, target string, readOnly bool, options []string) error {
	place, err := canonical(target)
	if err != nil {
		return fmt.Errorf("bind %s: %w", source, err)
	}
	what := fmt.Sprintf("bind %s %t %s", source, readOnly, strings.Join(options, ","))
	err = f.jobs.do(ctx, "mount "+place, what, func(context.Context) error {
		return f.bind(source, place, readOnly, options)
	})
	if err != nil {
		return fmt.Errorf("bind %s at %s: %w", source, target, err)
	}
	return nil
}

// bind does the work of Bind.
func (f *FS) bind(source, place string, readOnly bool, options []string) error {
	mounted, there, err := f.Lookup(place)
	if err != nil {
		return err
	}
	if !there {
		info, err := os.Lstat(place)
		if err != nil {
			return fmt.Errorf("target: %w", err)
		}
		if info.Mode()&os.ModeSymlink != 0 {
			return errors.New("target is a symlink")
		}
		a := bindAttributes(readOnly, options)
		if err = bindAtOnce(source, place, a); tooOld(err) || withoutAttribute(err, a) {
			err = bindInSteps(source, place, a)
		}
		if err != nil {
			return undo(place, err)
		}
		if err := f.verifyBind(source, place, readOnly); err != nil {
			return undo(place, err)
		}
		return nil
	}
	if err := sameThing(source, place); err != nil {
		return err
	}
	if readOnly && !mounted.ReadOnly {
		a := attributes{set: unix.MOUNT_ATTR_RDONLY}
		err := unix.MountSetattr(unix.AT_FDCWD, place, unix.AT_SYMLINK_NOFOLLOW, &unix.MountAttr{Attr_set: a.set})
		if tooOld(err) {
			err = remount(place, a)
		}
		if err != nil {
			return fmt.Errorf("make it read-only: %w", err)
		}
	}
	return f.verifyBind(source, place, readOnly)
}

// verifyBind returns nil when source is mounted at place, read-only where that
// was asked for.
func (f *FS) verifyBind(source, place string, readOnly bool) error {
	mounted, there, err := f.Lookup(place)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("%w: mount(8) said it succeeded", ErrNotMounted)
	}
	if err := sameThing(source, place); err != nil {
		return err
	}
	switch {
	case readOnly && !mounted.ReadOnly:
		return fmt.Errorf("%w: writable, and it should be read-only", ErrMounted)
	case !readOnly && mounted.GivenUp:
		return fmt.Errorf("%w: %s", ErrGivenUp, source)
	case !readOnly && !mounted.Writable():
		return fmt.Errorf("%w: read-only, and it should be writable", ErrMounted)
	}
	return nil
}

// sameThing returns nil when both paths lead to the same file, directory or node.
func sameThing(source, place string) error {
	a, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("source: %w", spent(err))
	}
	b, err := os.Stat(place)
	if err != nil {
		return fmt.Errorf("target: %w", spent(err))
	}
	if !os.SameFile(a, b) {
		return fmt.Errorf("%w: something else than %s", ErrMounted, source)
	}
	return nil
}

// spent wraps the error of a look at the root of a filesystem with ErrGivenUp when
// it is XFS's way of saying so.
func spent(err error) error {
	if errors.Is(err, unix.EIO) {
		return fmt.Errorf("%w: %w", ErrGivenUp, err)
	}
	return err
}
