package filesystem

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
)

func TestABlankDeviceIsBlank(t *testing.T) {
	for _, size := range []int64{512, 4 << 10, mib, mib + 512, 3 * mib, 512 * mib, 64 * gib} {
		d := looptest.New(t, looptest.Options{Size: size})
		content, err := New(Options{}).Probe(soon(t), Device{Path: d.Path})
		if err != nil || content.Kind != Blank {
			t.Errorf("a device of %d bytes: %+v, %v", size, content, err)
		}
	}
}

// refused checks that a device isn't formatted and that its content stays.
func refused(t *testing.T, f *FS, d *looptest.Device, wanted error) {
	t.Helper()
	before := d.Hash(t)
	for _, fsType := range kinds() {
		if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(fsType), nil); !errors.Is(err, wanted) {
			t.Errorf("Format as %s: %v, want %v", fsType, err, wanted)
		}
	}
	if after := d.Hash(t); after != before {
		t.Error("the content has changed")
	}
}

func TestAFormattedDeviceIsRecognisedAndKept(t *testing.T) {
	f := New(Options{})
	for _, fsType := range append(kinds(), ext2) {
		t.Run(fsType, func(t *testing.T) {
			d := formattedDisk(t, f, fsType)
			content, err := f.Probe(soon(t), Device{Path: d.Path})
			if err != nil || content.Kind != Filesystem || content.Type != fsType {
				t.Errorf("Probe: %+v, %v", content, err)
			}
			refused(t, f, d, ErrNotBlank)
		})
	}
}

// mbr is a sector with a partition table of one Linux partition.
func mbr() []byte {
	sector := make([]byte, 512)
	entry := sector[446:]
	entry[4] = 0x83
	binary.LittleEndian.PutUint32(entry[8:], 2048)
	binary.LittleEndian.PutUint32(entry[12:], 100_000)
	sector[510], sector[511] = 0x55, 0xAA
	return sector
}

// luks1 is the header of a LUKS1 device, as far as it is looked at.
func luks1() []byte {
	header := make([]byte, 592)
	copy(header, "LUKS\xba\xbe\x00\x01aes")
	copy(header[40:], "xts-plain64")
	copy(header[72:], "sha256")
	copy(header[168:], "bd855769-da48-49a7-b8cf-60df1ac7384d")
	return header
}

func TestAnythingElseIsForeignAndKept(t *testing.T) {
	f := New(Options{})
	const size = 512 * mib
	tests := []struct {
		name   string
		data   []byte
		offset int64
		detail string
	}{
		{"a partition table", mbr(), 0, "a partition table (dos)"},
		{"a LUKS header", luks1(), 0, "crypto_LUKS"},
		{"swap", []byte("SWAPSPACE2"), 4086, "at byte"},
		{"one byte in the first sector", []byte{1}, 0, "data without a known signature at byte 0"},
		{"one byte at the end of the first MiB", []byte{1}, mib - 1, "byte 1048575"},
		{"one byte at the beginning of the last MiB", []byte{1}, size - mib, "at byte 535822336"},
		{"the last byte", []byte{1}, size - 1, "byte 536870911"},
		{"data in the middle of the device", []byte("database"), 256 * mib, "byte 268435456"},
		{"a second LUKS2 header", []byte("SKUL\xba\xbe"), 4 * mib, "crypto_LUKS"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := looptest.New(t, looptest.Options{Size: size})
			d.Write(t, test.data, test.offset)
			content, err := f.Probe(soon(t), Device{Path: d.Path})
			if err != nil || content.Kind != Foreign || !strings.Contains(content.Detail, test.detail) {
				t.Errorf("Probe: %+v, %v; want foreign, %s", content, err, test.detail)
			}
			refused(t, f, d, ErrNotBlank)
		})
	}
}

func TestADeviceMadeByAnotherToolIsForeignAndKept(t *testing.T) {
	f := New(Options{})
	d := blankDisk(t)
	run(t, "mkswap", d.Path)
	content, err := f.Probe(soon(t), Device{Path: d.Path})
	if err != nil || content.Kind != Foreign || content.Type != "swap" || !strings.Contains(content.Detail, "swap") {
		t.Errorf("Probe: %+v, %v", content, err)
	}
	refused(t, f, d, ErrNotBlank)
}

func TestAFilesystemWithoutItsPrimarySuperblockIsKept(t *testing.T) {
	f := New(Options{})
	torn := []struct {
		name           string
		offset, length int64
	}{
		{"superblock zeroed", 0, 68 << 10},
		{"first MiB zeroed", 0, mib},
		{"first 8 MiB zeroed", 0, 8 * mib},
	}
	for _, fsType := range append(kinds(), ext2) {
		for _, test := range torn {
			t.Run(fsType+" "+test.name, func(t *testing.T) {
				d := formattedDisk(t, f, fsType)
				d.Write(t, make([]byte, test.length), test.offset)
				content, err := f.Probe(soon(t), Device{Path: d.Path})
				if err != nil || content.Kind != Foreign || !strings.Contains(content.Detail, lostPrimary) {
					t.Errorf("Probe: %+v, %v", content, err)
				}
				refused(t, f, d, ErrNotBlank)
			})
		}
	}
}

func TestOnlyTheExtSuperblockZeroedLeavesItsBackupsToTell(t *testing.T) {
	f := New(Options{})
	for _, block := range []string{"1024", "2048", "4096"} {
		t.Run(block, func(t *testing.T) {
			d := blankDisk(t)
			if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(ext4), parsed(ext4, []string{"-b", block})); err != nil {
				t.Fatal(err)
			}
			// All but the backups: head and whatever else precedes the first of them.
			d.Write(t, make([]byte, 8*mib), 0)
			content, err := f.Probe(soon(t), Device{Path: d.Path})
			if err != nil || content.Kind != Foreign || !strings.Contains(content.Detail, lostPrimary+": ext") {
				t.Errorf("Probe: %+v, %v", content, err)
			}
		})
	}
}

func TestAnXFSThatHasBeenGrownIsFoundByItsOtherGroups(t *testing.T) {
	f := New(Options{})
	d := looptest.New(t, looptest.Options{Size: gib})
	if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(xfs), nil); err != nil {
		t.Fatal(err)
	}
	d.Grow(t, 37*gib)
	d.Write(t, make([]byte, 200*mib), 0)
	content, err := f.Probe(soon(t), Device{Path: d.Path})
	if err != nil || content.Kind != Foreign || !strings.Contains(content.Detail, lostPrimary+": xfs") {
		t.Errorf("Probe: %+v, %v", content, err)
	}
}

func TestADeviceThatCannotBeReadIsAnErrorNotBlank(t *testing.T) {
	f := New(Options{})
	for _, left := range []int64{0, 100 * mib, 511 * mib} {
		d := blankDisk(t)
		d.GrowFile(t, left) // what lies beyond can't be read any more
		before := d.Hash(t)
		content, err := f.Probe(soon(t), Device{Path: d.Path})
		if err == nil {
			t.Errorf("Probe with %d bytes readable: %+v", left, content)
		}
		for _, fsType := range kinds() {
			if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(fsType), nil); err == nil || errors.Is(err, ErrNotBlank) {
				t.Errorf("Format: %v", err)
			}
		}
		if d.Hash(t) != before {
			t.Errorf("with %d bytes readable: the content has changed", left)
		}
	}
}

func TestWhatIsNoBlockDeviceIsAnError(t *testing.T) {
	f := New(Options{})
	if _, err := f.Probe(soon(t), Device{Path: "/dev/does-not-exist"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	for _, path := range []string{t.TempDir(), "/dev/null", "/proc/self/status"} {
		if content, err := f.Probe(soon(t), Device{Path: path}); err == nil {
			t.Errorf("%s: %+v", path, content)
		}
		if err := f.Format(soon(t), Device{Path: path}, Quick, typed(ext4), nil); err == nil {
			t.Errorf("%s was formatted", path)
		}
	}
}
