package blockdev_test

import (
	"errors"
	"os"
	"os/exec"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
)

func TestADeviceIsClaimedAsLongAsSomethingHoldsItForItself(t *testing.T) {
	d := looptest.New(t, looptest.Options{Size: 1 << 20})
	want := func(when string, want bool) {
		t.Helper()
		if got, err := blockdev.Claimed(d.Path); got != want || err != nil {
			t.Errorf("%s: %t, %v; want %t", when, got, err, want)
		}
	}
	want("untouched", false)
	reader, err := os.Open(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	want("open", false)
	holder, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	want("claimed", true)
	if err := errors.Join(holder.Close(), reader.Close()); err != nil {
		t.Fatal(err)
	}
	want("given back", false)
	_, err = blockdev.ClaimDevice(d.Path + "-missing")
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := blockdev.Claimed(d.Path + "-missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// TestAClaimThatIsReleasedIsFreeAtOnce though this process starts programs all the time:
// a child has a copy of the claim until its program begins.
func TestAClaimThatIsReleasedIsFreeAtOnce(t *testing.T) {
	d := looptest.New(t, looptest.Options{Size: 1 << 20})
	program, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var starting sync.WaitGroup
	for range 4 {
		starting.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := exec.Command(program).Run(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 300 {
		c, err := blockdev.ClaimDevice(d.Path)
		if err != nil {
			t.Errorf("claim %d: %v", i, err)
			break
		}
		if _, err := blockdev.ClaimDevice(d.Path); !errors.Is(err, blockdev.ErrClaimed) {
			t.Errorf("claimed twice: %v", err)
		}
		if err := c.Release(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	starting.Wait()
}
