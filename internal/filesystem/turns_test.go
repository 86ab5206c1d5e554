package filesystem

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
)

// uncleanDisk returns a device with an ext4 that Check has e2fsck look at.
func uncleanDisk(t *testing.T) *looptest.Device {
	t.Helper()
	d := formattedDisk(t, New(Options{}), ext4)
	run(t, "debugfs", "-w", "-R", "set_super_value state 2", d.Path)
	return d
}

// growableDisk returns a device that is larger than its ext4.
func growableDisk(t *testing.T) *looptest.Device {
	t.Helper()
	d := formattedDisk(t, New(Options{}), ext4)
	d.Grow(t, gib)
	return d
}

// growOffline grows a filesystem that nothing uses.
func growOffline(ctx context.Context, f *FS, path string) error {
	_, err := f.Grow(ctx, path, "")
	return err
}

// noMore fails the test when another program comes to the gate.
func (g *gate) noMore(t *testing.T) {
	t.Helper()
	select {
	case path := <-g.arrived:
		t.Errorf("%s of %s was started too", g.name, path)
	case <-time.After(300 * time.Millisecond):
	}
}

// fill has as many e2fsck come to the gate as may run at once, by calls that end
// while they run.
func (g *gate) fill(t *testing.T, f *FS) {
	t.Helper()
	for range 2 {
		d := uncleanDisk(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Check(ctx, d.Path, typed(ext4)) }()
		<-g.arrived
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || !errors.Is(err, ErrBusy) {
			t.Errorf("cancelled: %v", err)
		}
	}
}

func TestABoundedNumberOfE2fsckRunsAtOnce(t *testing.T) {
	t.Run("check", func(t *testing.T) {
		wantTwoAtOnce(t, newGate("e2fsck"), 5, uncleanDisk, func(f *FS, path string) error { return f.Check(soon(t), path, typed(ext4)) })
	})
	t.Run("growth", func(t *testing.T) {
		wantTwoAtOnce(t, newGate("e2fsck"), 5, growableDisk, func(f *FS, path string) error { return growOffline(soon(t), f, path) })
	})
}

// TestAResize2fsHasATurnToo: not only the check that it insists on.
func TestAResize2fsHasATurnToo(t *testing.T) {
	g := newGate("resize2fs")
	g.least = 2 // it has no options
	wantTwoAtOnce(t, g, 3, growableDisk, func(f *FS, path string) error { return growOffline(soon(t), f, path) })
}

// wantTwoAtOnce does work on so many disks at once, and wants the gate's tool to
// run for each of them, two at a time.
func wantTwoAtOnce(t *testing.T, g *gate, disks int, disk func(*testing.T) *looptest.Device, work func(*FS, string) error) {
	t.Helper()
	f := New(Options{Exec: g.exec()})
	var wg sync.WaitGroup
	for range disks {
		d := disk(t)
		wg.Go(func() {
			if err := work(f, d.Path); err != nil {
				t.Error(err)
			}
		})
	}
	<-g.arrived
	<-g.arrived
	g.noMore(t)
	close(g.open)
	wg.Wait()
	if g.started != disks || g.most != 2 {
		t.Errorf("%d %s ran, %d at once; want %d and 2", g.started, g.name, g.most, disks)
	}
}

func TestACheckThatWaitsForItsTurnEndsWithItsCall(t *testing.T) {
	unclean, growable := uncleanDisk(t), growableDisk(t)
	g := newGate("e2fsck")
	f := New(Options{Exec: g.exec()})
	g.fill(t, f)
	for d, do := range map[*looptest.Device]func(context.Context) error{
		unclean:  func(ctx context.Context) error { return f.Check(ctx, unclean.Path, typed(ext4)) },
		growable: func(ctx context.Context) error { return growOffline(ctx, f, growable.Path) },
	} {
		before := d.Hash(t)
		ctx, cancel := context.WithCancel(t.Context())
		waiting, joined := make(chan error, 1), make(chan error, 1)
		go func() { waiting <- do(ctx) }()
		go func() { joined <- do(soon(t)) }()
		g.noMore(t)
		cancel()
		if err := <-waiting; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled while waiting: %v", err)
		}
		g.noMore(t)
		if d.Hash(t) != before {
			t.Error("it was written to")
		}
		defer func() {
			if err := <-joined; err != nil {
				t.Errorf("one that wasn't cancelled: %v", err)
			}
		}()
	}
	close(g.open)
}

// TestADiskThatHangsWhileItIsReadKeepsNothing: no turn of mkfs, and no claim, with
// which it couldn't be unstaged. It is not written to when it comes back.
func TestADiskThatHangsWhileItIsReadKeepsNothing(t *testing.T) {
	f := New(Options{})
	f.formats = make(semaphore, 1)
	d := blankDisk(t)
	before := d.Hash(t)
	hung := filepath.Join(t.TempDir(), "hung") // a pipe: opened when somebody writes
	if err := unix.Mkfifo(hung, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := f.Format(ctx, Device{Path: d.Path, Beneath: &Beneath{Path: hung}}, Quick, typed(ext4), nil)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want the deadline", err)
	}
	if err := f.Format(soon(t), Device{Path: blankDisk(t).Path}, Quick, typed(ext4), nil); err != nil {
		t.Errorf("another disk: %v", err)
	}
	if held, err := blockdev.Claimed(d.Path); held || err != nil {
		t.Errorf("claimed: %t, %v", held, err)
	}
	back, err := os.OpenFile(hung, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Drain(soon(t)), back.Close()); err != nil {
		t.Error(err)
	}
	if d.Hash(t) != before {
		t.Error("it was written to")
	}
}

// TestWhatTakesNoE2fsckWaitsForNone: while a node repairs large volumes, others
// are made, staged and grown.
func TestWhatTakesNoE2fsckWaitsForNone(t *testing.T) {
	g := newGate("e2fsck")
	f := New(Options{Exec: g.exec()})
	g.fill(t, f)
	clean, unmounted := formattedDisk(t, f, ext4), formattedDisk(t, f, xfs)
	if err := f.Check(soon(t), clean.Path, typed(ext4)); err != nil {
		t.Errorf("a clean filesystem: %v", err)
	}
	if err := growOffline(soon(t), f, clean.Path); err != nil {
		t.Errorf("nothing to grow: %v", err)
	}
	unmounted.Grow(t, gib)
	if err := growOffline(soon(t), f, unmounted.Path); !errors.Is(err, ErrNeedsMount) {
		t.Errorf("an xfs that isn't mounted: %v", err)
	}
	d, target := mounted(t, f, btrfs)
	d.Grow(t, gib)
	if _, err := f.Grow(soon(t), d.Path, target); err != nil {
		t.Errorf("a mounted filesystem: %v", err)
	}
	close(g.open)
	if err := f.Drain(soon(t)); err != nil {
		t.Error(err)
	}
}

func TestATurnIsNotTakenByACallThatHasEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	free := make(semaphore, 1)
	for range 100 {
		if _, err := free.acquire(ctx); !errors.Is(err, errNotStarted) || !errors.Is(err, context.Canceled) {
			t.Fatalf("%v", err)
		}
	}
	release, err := free.acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release()
}

// TestAToolThatHangsLosesItsTurn, or a disk that has died would keep every other
// volume of the node waiting.
func TestAToolThatHangsLosesItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := make(semaphore, 1)
		hung, err := all.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		next, err := all.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != longestHold {
			t.Errorf("the next one began after %v", took)
		}
		hung() // it has ended after all, which must not end the turn of another
		brief, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := all.acquire(brief); !errors.Is(err, errNotStarted) {
			t.Errorf("two have the only turn: %v", err)
		}
		next()
		last, err := all.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		last()
	})
}
