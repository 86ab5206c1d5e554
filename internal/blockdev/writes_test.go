package blockdev

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWhatTheKernelCountedSinceItsStartSaysNothingOfBefore: a volume that was written to,
// on a server that was booted again, has a disk without writes.
func TestWhatTheKernelCountedSinceItsStartSaysNothingOfBefore(t *testing.T) {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		t.Fatal(err)
	}
	booted := time.Now().Add(-time.Duration(up.Nano()))
	tr := newTree(t)
	tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20], "stat": "31 0 2040 12 0 0 0 0 0 8 12\n"})
	found, err := tr.system().Find(t.Context(), volumeA)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []Disk{found, {Name: "loop0"}} {
		for since, want := range map[time.Time]bool{
			{}: false, booted.Add(-time.Minute): false, booted.Add(time.Minute): true, time.Now(): true,
		} {
			if got, err := d.UntouchedSince(since); got != want || err != nil {
				t.Errorf("%s since %s: %t, %v; want %t", d.Name, since, got, err, want)
			}
		}
	}
}

func TestADiskThatWasWrittenToIsNotUntouched(t *testing.T) {
	for _, tt := range []struct {
		name, stat string
		want       bool
		fails      bool
	}{
		{"only read", "  31 0 2040 12 0 0 0 0 0 8 12 0 0 0 0 0 0", true, false},
		{"only flushed", "31 0 2040 12 0 0 0 0 0 8 12 0 0 0 0 5 1", true, false},
		{"written to", "31 0 2040 12 1 0 8 0 0 8 12 0 0 0 0 0 0", false, false},
		{"discarded", "31 0 2040 12 0 0 0 0 0 8 12 1 0 8 0 0 0", false, false},
		{"written to, by an old kernel", "31 0 2040 12 10 0 80 0 0 8 12", false, false},
		{"only read, by an old kernel", "31 0 2040 12 0 0 0 0 0 8 12", true, false},
		{"nothing that can be understood", "31 0", false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTree(t)
			tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20], "stat": tt.stat + "\n"})
			d, err := tr.system().Find(t.Context(), volumeA)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := d.UntouchedSince(time.Now()); got != tt.want || (err != nil) != tt.fails {
				t.Errorf("%t, %v; want %t", got, err, tt.want)
			}
		})
	}
	tr := newTree(t)
	tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
	d, err := tr.system().Find(t.Context(), volumeA)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.UntouchedSince(time.Now()); got || err == nil {
		t.Errorf("of which nothing is counted: %t, %v", got, err)
	}
}
