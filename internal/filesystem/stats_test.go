package filesystem

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lookup returns the mount at target.
func lookup(t *testing.T, f *FS, target string) MountPoint {
	t.Helper()
	m, there, err := f.Lookup(target)
	if err != nil || !there {
		t.Fatalf("%s: mounted %t, %v", target, there, err)
	}
	return m
}

func TestStatsCountBytesAndInodes(t *testing.T) {
	f := New(Options{})
	for _, fsType := range kinds() {
		_, target := mounted(t, f, fsType)
		withFile(t, target)
		unix.Sync()
		m := lookup(t, f, target)
		s, err := f.Stats(soon(t), m)
		if err != nil {
			t.Fatal(err)
		}
		if s.TotalBytes < 300*mib || s.TotalBytes > 512*mib || s.UsedBytes < 5*mib ||
			s.AvailableBytes+s.UsedBytes > s.TotalBytes || s.TotalInodes != s.UsedInodes+s.FreeInodes ||
			(s.TotalInodes == 0) != (fsType == btrfs) {
			t.Errorf("%s: %+v", fsType, s)
		}
		bound := mountDir(t)
		if err := f.Bind(soon(t), target, bound, true, nil); err != nil {
			t.Fatal(err)
		}
		if same, err := f.Stats(soon(t), lookup(t, f, bound)); err != nil || same != s {
			t.Errorf("%s, bound: %+v, %v; want %+v", fsType, same, err, s)
		}
		if err := f.Unmount(soon(t), target); err != nil {
			t.Fatal(err)
		}
		if s, err := f.Stats(soon(t), m); !errors.Is(err, ErrNotMounted) {
			t.Errorf("%s, of a mount that has gone: %+v, %v", fsType, s, err)
		}
	}
	missing := MountPoint{Target: "/does/not/exist", Root: "/"}
	if _, err := f.Stats(soon(t), missing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// impatient returns an FS whose Stats wait for 10 ms.
func impatient() *FS {
	f := New(Options{})
	f.statsTimeout = 10 * time.Millisecond
	return f
}

// hang has every statfs of a disk wait until the test ends, or let is called, and
// counts them.
func hang(t *testing.T, f *FS, number uint64) (asked *atomic.Int32, let func()) {
	t.Helper()
	asked = new(atomic.Int32)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	ask := f.ask
	f.ask = func(m MountPoint) (Stats, error) {
		if m.Number == number {
			asked.Add(1)
			<-ctx.Done()
		}
		return ask(m)
	}
	return asked, cancel
}

// wantAsked fails the test unless there were so many statfs, each of which may
// take a moment to begin.
func wantAsked(t *testing.T, asked *atomic.Int32, want int32) {
	t.Helper()
	for ctx := soon(t); asked.Load() < want && ctx.Err() == nil; {
		time.Sleep(time.Millisecond)
	}
	if n := asked.Load(); n != want {
		t.Errorf("asked %d times, want %d", n, want)
	}
}

func TestStatsOfAFilesystemThatHangsEndWithTheCall(t *testing.T) {
	f := New(Options{})
	asked, _ := hang(t, f, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 3 {
		time.AfterFunc(10*time.Millisecond, cancel)
		_, err := f.Stats(ctx, MountPoint{Target: "/hung", Number: 1})
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "/hung") {
			t.Errorf("%v", err)
		}
	}
	wantAsked(t, asked, 1)
}

func TestStatsOfAFilesystemThatHangsEndBeforeTheCall(t *testing.T) {
	if New(Options{}).statsTimeout != 10*time.Second {
		t.Error("it should be less than the minute after which the kubelet asks again")
	}
	f := impatient()
	hang(t, f, 1)
	ctx := soon(t)
	_, err := f.Stats(ctx, MountPoint{Target: "/hung", Number: 1})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "/hung") || ctx.Err() != nil {
		t.Errorf("%v; the call's own: %v", err, ctx.Err())
	}
}

func TestAFilesystemThatHangsIsAskedAtOneOfItsMounts(t *testing.T) {
	f := impatient()
	asked, _ := hang(t, f, 1)
	for range 3 {
		for _, target := range []string{"/staging", "/pod", "/other-pod"} {
			_, err := f.Stats(t.Context(), MountPoint{Target: target, Number: 1, Root: "/"})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", target, err)
			}
		}
	}
	wantAsked(t, asked, 1)
	// Others aren't kept from answering.
	_, target := mounted(t, f, ext4)
	f.statsTimeout = time.Minute
	if _, err := f.Stats(t.Context(), lookup(t, f, target)); err != nil {
		t.Error(err)
	}
}

// TestAMountThatGoesAwayAnswersForNoOther: what is asked there gets the numbers
// of the node's own disk, or none.
func TestAMountThatGoesAwayAnswersForNoOther(t *testing.T) {
	f := New(Options{})
	_, target := mounted(t, f, ext4)
	bound := mountDir(t)
	if err := f.Bind(soon(t), target, bound, false, nil); err != nil {
		t.Fatal(err)
	}
	stays, goes := lookup(t, f, target), lookup(t, f, bound)
	want, err := f.Stats(soon(t), stays)
	if err != nil {
		t.Fatal(err)
	}
	asked, let := hang(t, f, goes.Number)
	first := make(chan error, 1)
	go func() {
		_, err := f.Stats(soon(t), goes)
		first <- err
	}()
	wantAsked(t, asked, 1)
	if err := f.Unmount(soon(t), bound); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, let)
	if got, err := f.Stats(soon(t), stays); err != nil || got != want {
		t.Errorf("the mount that stays: %+v, %v; want %+v", got, err, want)
	}
	if err := <-first; !errors.Is(err, ErrNotMounted) {
		t.Errorf("the mount that went: %v", err)
	}
	wantAsked(t, asked, 2)
}

func TestAPartOfAFilesystemHasNumbersOfItsOwn(t *testing.T) {
	f := impatient()
	asked, _ := hang(t, f, 1)
	for _, root := range []string{"/", "/with-a-quota"} {
		if _, err := f.Stats(t.Context(), MountPoint{Target: "/pod", Number: 1, Root: root}); err == nil {
			t.Error("it doesn't hang")
		}
	}
	wantAsked(t, asked, 2)
}
