package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// device returns a sparse file in the place of a raw device.
func device(t *testing.T, sizeBytes int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "device")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(sizeBytes); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestContentIsFoundAgain(t *testing.T) {
	c := newContent("a", false, gib)
	dir := t.TempDir()
	if err := c.write(dir); err != nil {
		t.Fatal(err)
	}
	if err := c.verify(dir); err != nil {
		t.Error(err)
	}
}

func TestAChangedByteIsNoticed(t *testing.T) {
	c := newContent("a", true, gib)
	dev := device(t, gib)
	if err := c.write(dev); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var b [1]byte
	if _, err := f.ReadAt(b[:], gib/2); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], gib/2); err != nil {
		t.Fatal(err)
	}
	if err := c.verify(dev); err == nil || !strings.Contains(err.Error(), "not what was written") {
		t.Errorf("got %v", err)
	}
}

func TestTheContentOfAnotherVolumeIsNoticed(t *testing.T) {
	a, b := newContent("a", true, 64*mib), newContent("b", true, 64*mib)
	devA, devB := device(t, 64*mib), device(t, 64*mib)
	if err := a.write(devA); err != nil {
		t.Fatal(err)
	}
	if err := b.write(devB); err != nil {
		t.Fatal(err)
	}
	if a.verify(devB) == nil {
		t.Error("the content of b passes for that of a")
	}
}

func TestACutDeviceIsNoticed(t *testing.T) {
	c := newContent("a", true, 64*mib)
	dev := device(t, 64*mib)
	if err := c.write(dev); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(dev, 48*mib); err != nil {
		t.Fatal(err)
	}
	if err := c.verify(dev); err == nil || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("got %v", err)
	}
}

func TestNewSpaceOfADeviceIsWrittenTo(t *testing.T) {
	c := newContent("a", true, 64*mib)
	dev := device(t, 128*mib)
	if err := c.write(dev); err != nil {
		t.Fatal(err)
	}
	if err := c.extend(dev, 128*mib); err != nil {
		t.Fatal(err)
	}
	if err := c.verify(dev); err != nil {
		t.Error(err)
	}
	if err := os.Truncate(dev, 127*mib); err != nil {
		t.Fatal(err)
	}
	if c.verify(dev) == nil {
		t.Error("the new space is not looked at")
	}
}

func TestReadingGoesOnUntilItIsStopped(t *testing.T) {
	defer goleak.VerifyNone(t)
	c := newContent("a", true, 64*mib)
	dev := device(t, 64*mib)
	if err := c.write(dev); err != nil {
		t.Fatal(err)
	}
	r, err := c.keepReading(t.Context(), dev)
	if err != nil {
		t.Fatal(err)
	}
	if rounds, err := r.stop(); err != nil || rounds < 1 {
		t.Errorf("%d rounds, %v", rounds, err)
	}
}

func TestEnough(t *testing.T) {
	raw := &volume{size: gib, capability: capabilityFor(Block)}
	mounted := &volume{size: gib, capability: capabilityFor("xfs")}
	tests := []struct {
		name  string
		total int64
		v     *volume
		ok    bool
	}{
		{"a raw device of the volume's size", gib, raw, true},
		{"a raw device that is smaller", gib - 512, raw, false},
		{"a filesystem with its own overhead", gib - gib/20, mounted, true},
		{"a filesystem that has not grown", gib / 2, mounted, false},
		{"a filesystem larger than its volume", gib + 1, mounted, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := enough(tt.total, tt.v); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}
