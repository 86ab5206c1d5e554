package filesystem

import (
	"context"
	"errors"
	"fmt"
)

// blankWrite is something to be put on a blank device.
type blankWrite struct {
	path     string
	beneath  *Beneath // nil unless path is a mapping
	smallest int64    // bytes that the device must have
	name     string   // of what will be there
	what     string   // is done, by which a later call finds it running
}

// WriteBlank has write put something else than a filesystem on a device that is
// proven blank, by the rules of Format: nothing is begun on a device that holds
// anything, is in use, read-only or has fewer than smallest bytes, the proof is
// made right before, and what has begun runs to its end. The name says in errors
// what would have been written.
func (f *FS) WriteBlank(ctx context.Context, path, name string, smallest int64, write func() error) error {
	w := blankWrite{path: path, smallest: smallest, name: name, what: "write " + name}
	err := f.onBlank(ctx, w, func(context.Context, *device) error { return write() })
	if err != nil {
		return fmt.Errorf("write %s to %s: %w", name, path, err)
	}
	return nil
}

// onBlank lets write change a device that is blank and free, with a proof of
// its own right before each attempt. The device stays open until that has ended,
// so that the path can't come to mean another disk. It begins nothing when ctx
// has ended; write gets a context that doesn't end.
func (f *FS) onBlank(ctx context.Context, w blankWrite, write func(context.Context, *device) error) error {
	d, err := openDevice(w.path)
	if err != nil {
		return err
	}
	return f.jobs.onDevice(ctx, d, w.what, func(detached context.Context) error {
		giveBack, err := f.formats.take(ctx)
		if err != nil {
			return err
		}
		defer giveBack()
		err = f.whenFree(ctx, d.number, func() error {
			if err := f.fitToWrite(ctx, w, d, giveBack); err != nil {
				return err
			}
			return write(detached, d)
		})
		if err != nil && ctx.Err() != nil && (errors.Is(err, ErrBusy) || errors.Is(err, context.Cause(ctx))) {
			return fmt.Errorf("%w: %w", errNeverBegan, err)
		}
		return err
	})
}

// fitToWrite returns nil only for a blank device that nothing else uses, before
// ctx ends. A disk that hangs while it is read keeps neither its turn nor its claim
// for longer than that: it has to be unstaged.
func (f *FS) fitToWrite(ctx context.Context, w blankWrite, pinned *device, giveBack func()) error {
	d, err := claim(w.path)
	if err != nil {
		return err
	}
	// Given back right before the tool starts, which claims the device for itself.
	defer d.release()
	switch {
	case d.number != pinned.number:
		return fmt.Errorf("%w: %s has become device %s, it was %s", ErrBusy, w.path,
			numberString(d.number), numberString(pinned.number))
	case d.readOnly:
		return fmt.Errorf("device is %w", ErrReadOnly)
	case d.size < w.smallest:
		return fmt.Errorf("%w: %s needs %d bytes, it has %d", ErrTooSmall, w.name, w.smallest, d.size)
	}
	keep := context.AfterFunc(ctx, func() { giveBack(); d.close() })
	content, err := f.probe(ctx, w.path, pinned, w.beneath)
	if !keep() {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	if content.Kind != Blank {
		return fmt.Errorf("%w: it holds %s", ErrNotBlank, content.Detail)
	}
	return nil
}
