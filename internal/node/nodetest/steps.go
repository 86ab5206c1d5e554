package nodetest

import (
	"context"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/luks"
	"github.com/cinder-csi/cinder-csi/internal/mkfs"
	"github.com/cinder-csi/cinder-csi/internal/node"
)

// Steps has a function called before and after each call of a server that changes
// something on the node, or tells of it, with the name of the step.
func Steps(cfg node.Config, step func(string)) node.Config {
	cfg.Finder = disks{cfg.Finder, step}
	cfg.FS = filesystems{cfg.FS, step}
	if cfg.Crypt != nil {
		cfg.Crypt = encryption{cfg.Crypt, step}
	}
	return cfg
}

type disks struct {
	blockdev.Finder
	step func(string)
}

func (d disks) Wait(ctx context.Context, volumeID string) (blockdev.Disk, error) {
	disk, err := d.Finder.Wait(ctx, volumeID)
	if err == nil {
		d.step("found")
	}
	return disk, err
}

func (d disks) Candidates(ctx context.Context, volumeID string) ([]blockdev.Disk, error) {
	all, err := d.Finder.Candidates(ctx, volumeID)
	if err == nil {
		d.step("disks known")
	}
	return all, err
}

func (d disks) Refresh(ctx context.Context, disk blockdev.Disk) (blockdev.Disk, error) {
	disk, err := d.Finder.Refresh(ctx, disk)
	if err == nil {
		d.step("refreshed")
	}
	return disk, err
}

type filesystems struct {
	node.Filesystems
	step func(string)
}

// between calls step before and after do, unless that failed.
func between(step func(string), before string, do func() error, after string) error {
	step(before)
	err := do()
	if err == nil {
		step(after)
	}
	return err
}

func (f filesystems) Probe(ctx context.Context, on filesystem.Device) (c filesystem.Content, err error) {
	err = between(f.step, "probing", func() error { c, err = f.Filesystems.Probe(ctx, on); return err }, "probed")
	return c, err
}

func (f filesystems) Recognize(ctx context.Context, on filesystem.Device) (c filesystem.Content, err error) {
	err = between(f.step, "probing", func() error { c, err = f.Filesystems.Recognize(ctx, on); return err }, "probed")
	return c, err
}

func (f filesystems) Format(ctx context.Context, on filesystem.Device, proof filesystem.Proof, t *filesystem.Type, options mkfs.List) error {
	return between(f.step, "formatting", func() error { return f.Filesystems.Format(ctx, on, proof, t, options) }, "formatted")
}

func (f filesystems) Check(ctx context.Context, path string, t *filesystem.Type) error {
	return between(f.step, "checking", func() error { return f.Filesystems.Check(ctx, path, t) }, "checked")
}

func (f filesystems) Grow(ctx context.Context, path, mountpoint string) (size int64, err error) {
	err = between(f.step, "growing", func() error { size, err = f.Filesystems.Grow(ctx, path, mountpoint); return err }, "grown")
	return size, err
}

func (f filesystems) Mount(ctx context.Context, path, target string, t *filesystem.Type, options []string) error {
	return between(f.step, "mounting", func() error { return f.Filesystems.Mount(ctx, path, target, t, options) }, "mounted")
}

func (f filesystems) Bind(ctx context.Context, source, target string, readOnly bool, options []string) error {
	return between(f.step, "target made", func() error { return f.Filesystems.Bind(ctx, source, target, readOnly, options) }, "bound")
}

func (f filesystems) Unmount(ctx context.Context, target string) error {
	return between(f.step, "unmounting", func() error { return f.Filesystems.Unmount(ctx, target) }, "unmounted")
}

type encryption struct {
	node.Encryption
	step func(string)
}

func (e encryption) Format(ctx context.Context, on filesystem.Device, proof filesystem.Proof, passphrase []byte) error {
	return between(e.step, "encrypting", func() error { return e.Encryption.Format(ctx, on, proof, passphrase) }, "encrypted")
}

func (e encryption) Open(ctx context.Context, path string, h luks.Header, title string, passphrase []byte, o luks.Options) error {
	return between(e.step, "opening", func() error { return e.Encryption.Open(ctx, path, h, title, passphrase, o) }, "opened")
}

func (e encryption) Resize(ctx context.Context, path string, h luks.Header, title string) error {
	return between(e.step, "growing the mapping", func() error { return e.Encryption.Resize(ctx, path, h, title) }, "mapping grown")
}

func (e encryption) Close(ctx context.Context, title string) error {
	return between(e.step, "closing", func() error { return e.Encryption.Close(ctx, title) }, "closed")
}
