package filesystem

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	// Unread is nothing in the head, which is all that Glance reads.
	Unread
)

// String returns the kind in lower case.
func (k Kind) String() string {
	switch k {
	case Blank:
		return "blank"
	case Filesystem:
		return "filesystem"
	case Unread:
		return "not read"
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
// every place that could tell of something reads as zeros: head, tail, and
// wherever a filesystem, RAID or volume manager that libblkid knows keeps a
// signature, or one of the supported filesystems a copy of its superblock. A
// device that can't be read there is an error, not blank.
func (f *FS) Probe(ctx context.Context, path string) (Content, error) {
	return f.probeOver(ctx, path, nil)
}

// ProbeMapping is Probe for a mapping whose bytes are beneath it. A mapping that
// decrypts shows noise where nothing was ever written; it is blank when all that
// Probe looks at reads as zeros beneath.
func (f *FS) ProbeMapping(ctx context.Context, path string, beneath Beneath) (Content, error) {
	return f.probeOver(ctx, path, &beneath)
}

// Glance is Probe for who needs to know a blank device only when it is written to,
// by Format, which reads all of it then. What has zeros at its head is Unread, and
// so is a mapping without a filesystem, whose bytes beneath aren't looked at.
func (f *FS) Glance(ctx context.Context, path string, mapping bool) (Content, error) {
	return f.reading(ctx, path, func(d *device) (Content, error) {
		content, err := f.recognize(path, d)
		if err != nil || content.Kind == Filesystem || mapping {
			return content, err
		}
		data, err := dataIn(d, extent{0, min(chunk, d.size)}, aligned(chunk))
		if err != nil || data == "" {
			return content, err
		}
		return f.search(ctx, path, d, nil)
	})
}

func (f *FS) probeOver(ctx context.Context, path string, beneath *Beneath) (Content, error) {
	return f.reading(ctx, path, func(d *device) (Content, error) { return f.probe(ctx, path, d, beneath) })
}

// reading has read look at a device, and leaves it behind when ctx ends.
func (f *FS) reading(ctx context.Context, path string, read func(*device) (Content, error)) (Content, error) {
	content, err := abandonable(ctx, f, path, func() (Content, error) {
		d, err := openDevice(path)
		if err != nil {
			return Content{}, err
		}
		defer d.close()
		return read(d)
	})
	if err != nil {
		return Content{}, fmt.Errorf("probe %s: %w", path, err)
	}
	return content, nil
}

// recognize tells whether a supported filesystem is on an open device, and nothing
// else; it is Unread otherwise.
func (f *FS) recognize(path string, d *device) (Content, error) {
	unread := Content{Kind: Unread, Detail: "something that was not read"}
	switch _, err := readSuperblock(d); {
	case errors.Is(err, ErrUnsupported):
		return unread, nil
	case err != nil:
		return Content{}, err
	}
	is, err := f.blkid(path)
	if err != nil {
		return Content{}, err
	}
	if is.usage != "filesystem" || is.table != "" || !Supported(is.fsType) {
		return unread, nil
	}
	return Content{Kind: Filesystem, Type: is.fsType, UUID: is.uuid, Detail: is.fsType + " filesystem"}, nil
}

// probe is Probe of an open device; beneath is nil unless it is a mapping.
func (f *FS) probe(ctx context.Context, path string, d *device, beneath *Beneath) (Content, error) {
	// Where blkid says what the superblock says, its word will do: it saves
	// reading all over a device that is merely mounted again.
	if content, err := f.recognize(path, d); err != nil || content.Kind == Filesystem {
		return content, err
	}
	return f.search(ctx, path, d, beneath)
}

// search is probe of a device that holds no supported filesystem in its place.
func (f *FS) search(ctx context.Context, path string, d *device, beneath *Beneath) (Content, error) {
	if beneath != nil {
		data, err := beneath.firstData(ctx, d.size)
		if err != nil {
			return Content{}, err
		}
		if data == "" {
			return Content{Kind: Blank, Detail: "blank"}, nil
		}
	}
	data, err := firstData(ctx, d)
	if err != nil {
		return Content{}, err
	}
	if data == "" {
		// Where there are only zeros, no tool can find a signature.
		return Content{Kind: Blank, Detail: "blank"}, nil
	}
	return f.name(path, data)
}

// name asks the tools what it is that was found on a device, besides data.
func (f *FS) name(path, data string) (Content, error) {
	is, err := f.blkid(path)
	if err != nil {
		return Content{}, err
	}
	traces, err := f.wipefs(path)
	if err != nil {
		return Content{}, err
	}
	if is.found() || len(traces) > 0 {
		return foreign(is, traces), nil
	}
	return Content{Kind: Foreign, Detail: data}, nil
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
