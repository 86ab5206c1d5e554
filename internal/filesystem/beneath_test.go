package filesystem

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
)

// TestWhatIsBeneathAMappingIsReadPastTheCache has two devices on one file, of
// which one begins further on: like a mapping, it writes to the other one without
// telling. What was read there before must not hide what has been written.
func TestWhatIsBeneathAMappingIsReadPastTheCache(t *testing.T) {
	const offset, size = 16 << 20, 64 << 20
	below := looptest.New(t, looptest.Options{Size: size})
	below.Write(t, []byte("LUKS, more or less"), 0)
	mapping := strings.TrimSpace(output(t, "losetup", "--find", "--show", "--direct-io=off", "--offset", strconv.Itoa(offset), below.Backing))
	t.Cleanup(func() { output(t, "losetup", "--detach", mapping) })
	beneath := Beneath{Path: below.Path, Offset: offset}
	fs := New(Options{})
	probe := func() Content {
		t.Helper()
		content, err := fs.Probe(t.Context(), Device{Path: mapping, Beneath: &beneath})
		if err != nil {
			t.Fatal(err)
		}
		return content
	}

	if _, err := fs.Probe(t.Context(), Device{Path: below.Path}); err != nil { // fills the cache with zeros
		t.Fatal(err)
	}
	if got := probe(); got.Kind != Blank {
		t.Fatalf("a mapping of which nothing was written is %+v", got)
	}
	if err := fs.Format(t.Context(), Device{Path: mapping, Beneath: &beneath}, Quick, typed(ext4), nil); err != nil {
		t.Fatal(err)
	}
	if got := probe(); got.Kind != Filesystem || got.Type != ext4 {
		t.Fatalf("it is %+v after it was formatted", got)
	}
	data, err := beneath.firstData(t.Context(), size-offset)
	if err != nil || data == "" {
		t.Errorf("beneath a filesystem is %q, %v", data, err)
	}

	// The primary superblock is lost; the rest is still there.
	output(t, "dd", "if=/dev/zero", "of="+mapping, "bs=1M", "count=1", "conv=fsync", "status=none")
	before := below.Hash(t)
	if got := probe(); got.Kind != Foreign {
		t.Errorf("what is left of a filesystem is %+v", got)
	}
	if err := fs.Format(t.Context(), Device{Path: mapping, Beneath: &beneath}, Quick, typed(ext4), nil); err == nil {
		t.Error("it was formatted")
	}
	if below.Hash(t) != before {
		t.Error("it was written to")
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

// TestTellingPartsCanBeReadPastTheCache: that takes whole sectors.
func TestTellingPartsCanBeReadPastTheCache(t *testing.T) {
	for _, sector := range []int64{512, 4096} {
		for _, size := range []int64{2 << 20, 48 << 20, 300<<20 + sector, 1<<30 - 16<<20, 10<<40 - 3*sector} {
			for _, e := range sampledExtents(size, false) {
				if e.offset%sector != 0 || e.length%sector != 0 {
					t.Errorf("size %d: %+v is not made of sectors of %d", size, e, sector)
				}
			}
		}
	}
}
