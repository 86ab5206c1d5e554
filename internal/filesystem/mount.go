package filesystem

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Mount mounts the device at target, an existing directory, and proves that it
// has done so. When the very device is mounted there already, read-only or not
// as asked, nothing is done; anything else there is ErrMounted.
//
// XFS is mounted with nouuid, since a clone or a restored snapshot on the same
// node carries its origin's UUID. With the option ro no journal is replayed: what
// was promised not to be written to isn't written to. A read-only device that
// isn't asked to be mounted so is ErrReadOnly.
//
// When ctx ends first, the mount goes on; a later call waits for it.
func (f *FS) Mount(ctx context.Context, path, target, fsType string, options []string) error {
	if !Supported(fsType) {
		return fmt.Errorf("mount %s: %w: %q", path, ErrUnsupported, fsType)
	}
	place, err := mountTarget(target)
	if err != nil {
		return fmt.Errorf("mount %s: %w", path, err)
	}
	d, err := openDevice(path)
	if err != nil {
		return fmt.Errorf("mount %s: %w", path, err)
	}
	what := "mount " + path + " " + fsType + " " + strings.Join(options, ",")
	err = f.jobs.doHolding(ctx, "mount "+place, what, d.close, func(context.Context) error {
		return f.whenFree(ctx, d.number, func() error { return f.mount(path, d, place, fsType, options) })
	})
	if err != nil {
		return fmt.Errorf("mount %s at %s: %w", path, target, err)
	}
	return nil
}

// mountTarget returns the canonical path of an existing directory.
func mountTarget(target string) (string, error) {
	place, err := canonical(target)
	if err != nil {
		return "", err
	}
	info, err := os.Lstat(place)
	if err != nil {
		return "", fmt.Errorf("target: %w", spent(err))
	}
	if !info.IsDir() {
		return "", fmt.Errorf("target %s is not a directory", target)
	}
	return place, nil
}

// mount does the work of Mount.
func (f *FS) mount(path string, d *handle, place, fsType string, options []string) error {
	readOnly := wantsReadOnly(options)
	if d.readOnly && !readOnly {
		return fmt.Errorf("device is %w", ErrReadOnly)
	}
	mounted, there, err := f.Lookup(place)
	if err != nil {
		return err
	}
	if there {
		return sameMount(mounted, d.number, readOnly)
	}
	if err := f.mountFilesystem(path, place, fsType, mountOptions(fsType, options)); err != nil {
		return err
	}
	mounted, there, err = f.Lookup(place)
	if err == nil && !there {
		err = fmt.Errorf("%w: mount(8) said it succeeded", ErrNotMounted)
	}
	if err == nil {
		err = sameMount(mounted, d.number, readOnly)
	}
	if err != nil {
		return undo(place, err)
	}
	return nil
}

// mountFilesystem asks the kernel to mount, or mount(8) where it has a part in it.
func (f *FS) mountFilesystem(source, place, fsType string, options []string) error {
	if mount, plain, ok := plainOptions(options, hasSELinux()); ok {
		err := kernelMount(source, place, fsType, mount, plain)
		if !tooOld(err) && !withoutAttribute(err, mount) {
			return err
		}
	}
	if err := f.mounter.Mount(source, place, fsType, options); err != nil {
		return markBusy(err, err.Error())
	}
	return nil
}

// sameMount returns nil when m is a mount of a whole filesystem on that disk,
// read-only or not as asked.
func sameMount(m MountPoint, number uint64, readOnly bool) error {
	switch {
	case m.Number != number:
		return fmt.Errorf("%w: device %s is, and %s should be", ErrMounted, numberString(m.Number), numberString(number))
	case m.Root != "/":
		return fmt.Errorf("%w: only %s of the device is", ErrMounted, m.Root)
	case m.GivenUp:
		return fmt.Errorf("%w: %s", ErrGivenUp, m.Target)
	case (m.ReadOnly || m.FilesystemReadOnly) && !readOnly:
		return fmt.Errorf("%w: read-only, and it should be writable", ErrMounted)
	case !m.ReadOnly && readOnly:
		return fmt.Errorf("%w: writable, and it should be read-only", ErrMounted)
	}
	return nil
}

// wantsReadOnly tells whether the last of ro and rw is ro.
func wantsReadOnly(options []string) bool {
	readOnly := false
	for _, list := range options {
		for _, o := range strings.Split(list, ",") {
			switch o {
			case "ro":
				readOnly = true
			case "rw":
				readOnly = false
			}
		}
	}
	return readOnly
}

// mountOptions adds what a filesystem must always be mounted with.
func mountOptions(fsType string, options []string) []string {
	options = slices.Clone(options)
	add := func(option string) {
		if !slices.Contains(options, option) {
			options = append(options, option)
		}
	}
	if fsType == xfs {
		add("nouuid")
	}
	if !wantsReadOnly(options) {
		return options
	}
	switch fsType {
	case ext3, ext4:
		add("noload")
	case xfs:
		add("norecovery")
	case btrfs:
		add("rescue=nologreplay")
	}
	return options
}
