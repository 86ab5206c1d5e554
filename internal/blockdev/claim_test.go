package blockdev_test

import (
	"errors"
	"os"
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
	if _, err := blockdev.Claimed(d.Path + "-missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}
