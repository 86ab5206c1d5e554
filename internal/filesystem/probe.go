package filesystem

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Kind says what a device holds, roughly.
type Kind int

const (
	// Foreign is something that is neither to be mounted nor overwritten. It is
	// the zero value.
	Foreign Kind = iota
	// Blank is nothing, as far as can be read.
	Blank
	// Filesystem is one of the supported filesystems.
	Filesystem
)

// String returns the kind in lower case.
func (k Kind) String() string {
	switch k {
	case Blank:
		return "blank"
	case Filesystem:
		return "filesystem"
	}
	return "foreign"
}

// Content is what a device holds.
type Content struct {
	// Kind says it roughly.
	Kind Kind
	// Type is the name that libblkid gives it, as in ext4, crypto_LUKS or
	// LVM2_member; the kind of a partition table where it is that; may be empty.
	Type string
	// UUID of the filesystem; empty where there is none.
	UUID string
	// Detail says in words what was found.
	Detail string
}

// Probe reads what a device holds. It may be mounted. It is Blank only when
// neither libblkid knows anything on it nor any place where the supported
// filesystems keep copies of their superblocks holds anything but zeros, head
// and tail included. A device that can't be read there is an error, not blank.
func (f *FS) Probe(ctx context.Context, path string) (Content, error) {
	content, err := abandonable(ctx, func() (Content, error) {
		d, err := openDevice(path)
		if err != nil {
			return Content{}, err
		}
		defer d.close()
		return f.probe(ctx, path, d)
	})
	if err != nil {
		return Content{}, fmt.Errorf("probe %s: %w", path, err)
	}
	return content, nil
}

// probe is Probe of an open device.
func (f *FS) probe(ctx context.Context, path string, d *device) (Content, error) {
	if _, err := readSuperblock(d); err == nil {
		// A filesystem, most likely: blkid's word will do, and saves reading
		// all over a device that is merely mounted again.
		is, err := f.blkid(path)
		if err != nil {
			return Content{}, err
		}
		if is.usage == "filesystem" && is.table == "" && Supported(is.fsType) {
			return Content{Kind: Filesystem, Type: is.fsType, UUID: is.uuid, Detail: is.fsType + " filesystem"}, nil
		}
	}
	var (
		is     signature
		traces []trace
		data   string
	)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		is, err = f.blkid(path)
		return err
	})
	group.Go(func() (err error) {
		traces, err = f.wipefs(path)
		return err
	})
	group.Go(func() (err error) {
		data, err = firstData(ctx, d)
		return err
	})
	if err := group.Wait(); err != nil {
		return Content{}, err
	}
	switch {
	case is.found() || len(traces) > 0:
		return foreign(is, traces), nil
	case data != "":
		return Content{Kind: Foreign, Detail: data}, nil
	}
	return Content{Kind: Blank, Detail: "blank"}, nil
}

// foreign describes what libblkid knows and this package doesn't handle.
func foreign(is signature, traces []trace) Content {
	c := Content{Kind: Foreign, Type: is.fsType, UUID: is.uuid}
	var words []string
	if is.fsType != "" {
		words = append(words, is.fsType)
	}
	if is.table != "" {
		words = append(words, "a partition table ("+is.table+")")
		if c.Type == "" {
			c.Type = is.table
		}
	}
	if is.ambiguous || len(words) == 0 {
		for _, t := range traces {
			words = append(words, t.String())
		}
	}
	if is.ambiguous && len(words) == 0 {
		words = append(words, "signatures that exclude each other")
	}
	c.Detail = strings.Join(words, ", ")
	return c
}
