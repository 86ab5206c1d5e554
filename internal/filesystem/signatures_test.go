package filesystem

import (
	"errors"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
)

// TestEverySignatureThatLibblkidKnowsIsSeen writes magic bytes to where libblkid
// looks for them, on a device that is blank otherwise. Whether the tools then
// find all that they ask for besides doesn't matter: it isn't blank.
func TestEverySignatureThatLibblkidKnowsIsSeen(t *testing.T) {
	const size = 2*gib + 512*7
	f := New(Options{})
	d := looptest.New(t, looptest.Options{Size: size})
	for _, s := range []struct {
		name   string
		offset int64
		magic  string
	}{
		{"dos partition table", 510, "\x55\xaa"},
		{"gpt header", 512, "EFI PART"},
		{"gpt backup", size - 512, "EFI PART"},
		{"bsd label", 512, "\x57\x45\x56\x82"},
		{"bsd label far", 8192, "\x57\x45\x56\x82"},
		{"unixware label", 29 << 9, "\x0d\x60\xe5\xca"},
		{"ultrix label", 16384 - 72, "\x57\x29\x03\x00"},
		{"mac partition map", 512, "PM"},
		{"LVM2", 512 + 24, "LVM2 001"},
		{"LVM2 in the fourth sector", 3*512 + 24, "LVM2 001"},
		{"LUKS", 0, "LUKS\xba\xbe"},
		{"LUKS2 second header", 4 << 20, "SKUL\xba\xbe"},
		{"BitLocker", 3, "-FVE-FS-"},
		{"md 1.0", (size&^4095 - 8192) &^ 4095, "\xfc\x4e\x2b\xa9"},
		{"md 1.1", 0, "\xfc\x4e\x2b\xa9"},
		{"md 1.2", 4096, "\xfc\x4e\x2b\xa9"},
		{"md 0.90", size&^65535 - 65536, "\xfc\x4e\x2b\xa9"},
		{"ddf", size - 512, "\x11\xde\x11\xde"},
		{"ddf of adaptec", size - 257*512, "\xde\x11\xde\x11"},
		{"isw", size - 1024, "Intel Raid ISM Cfg Sig. "},
		{"lsi", size - 512, "$XIDE$"},
		{"nvidia", size - 1024, "NVIDIA"},
		{"via", size - 512, "\x55\xaa"},
		{"silicon", size - 512 + 0x60, "\x00\x00\x00\x2f"},
		{"promise", size - 63*512, "Promise Technology, Inc."},
		{"promise, outermost", size - 3087*512, "Promise Technology, Inc."},
		{"highpoint", 9 * 512, "\xf0\x16\x7a\x5a"},
		{"highpoint 45x", size - 11*512, "\xf0\x16\x7a\x5a"},
		{"adaptec", size - 512, "DPTM"},
		{"jmicron", size - 512, "JM"},
		{"drbd", size - 4096 + 60, "\x83\x74\x02\x6b"},
		{"bcache", 4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca"},
		{"zfs label", 128 << 10, "\x0c\xb1\xba\x00"},
		{"zfs label at the tail", size&^(256<<10-1) - 256<<10 + 128<<10, "\x0c\xb1\xba\x00"},
		{"vmfs volume", 1 << 20, "\x0d\xd0\x01\xc0"},
		{"vmfs", 2 << 20, "\x5e\xf1\xab\x2f"},
		{"swap on 64 KiB pages", 64<<10 - 10, "SWAPSPACE2"},
		{"ext", 1024 + 0x38, "\x53\xef"},
		{"xfs", 0, "XFSB"},
		{"btrfs", 64<<10 + 0x40, "_BHRfS_M"},
		{"f2fs", 1024, "\x10\x20\xf5\xf2"},
		{"nilfs2", 1024 + 6, "\x34\x34"},
		{"nilfs2 backup", size&^4095 - 4096 + 6, "\x34\x34"},
		{"reiserfs", 64<<10 + 0x34, "ReIsErFs"},
		{"gfs2", 64 << 10, "\x01\x16\x19\x70"},
		{"ocfs2", 2 << 12, "OCFSV2"},
		{"jfs", 32 << 10, "JFS1"},
		{"ufs", 256<<10 + 0x55c, "\x19\x54\x01\x19"},
		{"iso9660", 32<<10 + 1, "CD001"},
		{"udf", 32<<10 + 2048 + 1, "NSR03"},
		{"bcachefs", 4096 + 24, "\xc6\x85\x73\xf6\x66\xce\x90\xa9"},
		{"exfat", 3, "EXFAT   "},
		{"ntfs", 3, "NTFS    "},
		{"vfat", 0x52, "FAT32   "},
		{"apfs", 32, "NXSB"},
		{"squashfs", 0, "hsqs"},
		{"erofs", 1024, "\xe2\xe1\xf5\xe0"},
		{"stratis", 512 + 4, "!Stra0tis\x86\xff\x02^\x41rh"},
		{"vdo", 0, "dmvdo001"},
	} {
		d.Write(t, []byte(s.magic), s.offset)
		if c, err := f.Probe(soon(t), Device{Path: d.Path}); err != nil || c.Kind == Blank {
			t.Errorf("%s at byte %d: %+v, %v", s.name, s.offset, c, err)
		}
		if err := f.Format(soon(t), Device{Path: d.Path}, Quick, typed(ext4), nil); !errors.Is(err, ErrNotBlank) {
			t.Errorf("%s: formatted: %v", s.name, err)
		}
		d.Write(t, make([]byte, len(s.magic)), s.offset)
	}
	if c, err := f.Probe(soon(t), Device{Path: d.Path}); err != nil || c.Kind != Blank {
		t.Errorf("zeroed again: %+v, %v", c, err)
	}
}
