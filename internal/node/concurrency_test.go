package node_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/node"
)

// TestManyVolumesAtOnce takes 64 volumes through their lives on one server, each
// call made by two callers at once, one of whom often gives up, and repeated
// until it succeeds. When all are over, nothing is left of them.
func TestManyVolumesAtOnce(t *testing.T) {
	const volumes = 64
	r := newRig(t)
	s := r.server()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // some seconds on a quiet machine
	defer cancel()
	kinds := []string{"ext4", "xfs", "btrfs", "block"}
	attached := make([]volume, volumes)
	for i := range attached {
		capability := rawBlock()
		if kind := kinds[i%len(kinds)]; kind != "block" {
			capability = filesystemOf(kind)
		}
		attached[i] = r.attach(small, capability)
	}
	var all sync.WaitGroup
	for i, v := range attached {
		all.Go(func() {
			if err := r.life(ctx, s, v, kinds[i%len(kinds)]); err != nil {
				t.Errorf("volume %d, %s: %v", i, kinds[i%len(kinds)], err)
			}
		})
	}
	all.Wait()
	if m := r.mounts(); len(m) != 0 {
		t.Errorf("left mounted: %+v", m)
	}
}

// life takes one volume through its calls.
func (r *rig) life(ctx context.Context, s *node.Server, v volume, kind string) error {
	file := filepath.Join(v.target, "file")
	steps := []struct {
		name string
		call func(context.Context) error
		then func() error
	}{
		{"stage", func(ctx context.Context) error { _, err := s.NodeStageVolume(ctx, v.stageRequest()); return err }, nil},
		{"publish", func(ctx context.Context) error { _, err := s.NodePublishVolume(ctx, v.publishRequest()); return err }, func() error {
			if n := r.mountedAt(v.target); n != 1 {
				return fmt.Errorf("%d mounts", n)
			}
			if kind == "block" {
				return nil
			}
			return os.WriteFile(file, []byte(v.id), 0o600)
		}},
		{"expand", func(ctx context.Context) error {
			if kind == "ext4" && !typed(kind).GrowsOnline() {
				return nil
			}
			if err := r.store.Extend(v.id, 2*small); err != nil {
				return err
			}
			if err := r.store.GrowAttached(v.id); err != nil {
				return err
			}
			_, err := s.NodeExpandVolume(ctx, v.expandRequest(2*small))
			return err
		}, func() error {
			if kind == "block" {
				return nil
			}
			got, err := os.ReadFile(file)
			if err == nil && string(got) != v.id {
				err = fmt.Errorf("the file holds %q", got)
			}
			return err
		}},
		{"unpublish", func(ctx context.Context) error {
			_, err := s.NodeUnpublishVolume(ctx, v.unpublishRequest())
			return err
		}, nil},
		{"unstage", func(ctx context.Context) error { _, err := s.NodeUnstageVolume(ctx, v.unstageRequest()); return err }, nil},
	}
	for _, step := range steps {
		if err := twice(ctx, step.call); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		if step.then != nil {
			if err := step.then(); err != nil {
				return fmt.Errorf("after %s: %w", step.name, err)
			}
		}
	}
	return r.store.Detach(r.name, v.id)
}

// twice makes a call by two callers at once, and repeats it until it succeeds.
// Only codes that say that the outcome is open are put up with.
func twice(ctx context.Context, call func(context.Context) error) error {
	impatient, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(300))*time.Millisecond)
	defer cancel()
	var other error
	var done sync.WaitGroup
	done.Go(func() { other = call(impatient) })
	defer done.Wait()
	var last error
	for ctx.Err() == nil {
		err := call(ctx)
		if err == nil {
			done.Wait()
			return open(other)
		}
		if fatal := open(err); fatal != nil {
			return fatal
		}
		last = cmp.Or(last, err)
	}
	return fmt.Errorf("it never succeeds: %w", last)
}

// open returns nil for errors that ask to call again.
func open(err error) error {
	switch status.Code(err) {
	case codes.OK, codes.Aborted, codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
		return nil
	}
	return err
}
