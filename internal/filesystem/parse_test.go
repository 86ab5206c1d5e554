package filesystem

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/quick"

	"github.com/moby/sys/mountinfo"
)

func TestTellingPartsCoverTheDevicesEdgesAndStayWithinIt(t *testing.T) {
	check := func(n uint64) bool {
		size := int64(n%(1<<53)) + 1
		extents := sampledExtents(size, false)
		end := int64(0)
		for _, e := range extents {
			if e.offset < end || e.length <= 0 || e.length > edge {
				t.Errorf("size %d: %+v overlaps or is odd", size, e)
				return false
			}
			end = e.offset + e.length
		}
		return extents[0].offset == 0 && end == size && extents[0].length == min(edge, size)
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 200}); err != nil {
		t.Error(err)
	}
	for _, n := range []uint64{0, 511, edge - 1, edge, edge + 511, 2*edge - 1, 2 * edge, 1<<53 - 1, 10<<30 - 1} {
		if !check(n) {
			t.Errorf("size %d", n+1)
		}
	}
}

func TestBlkidOutputIsUnderstood(t *testing.T) {
	tests := []struct {
		out  string
		want signature
	}{
		{"", signature{}},
		{"DEVNAME=/dev/vdb\nUUID=a-b\nTYPE=ext4\nUSAGE=filesystem\n", signature{fsType: ext4, usage: "filesystem"}},
		{"PTTYPE=gpt\nPTUUID=x\n", signature{table: "gpt"}},
		{"LABEL=a\\ TYPE\\=b\nTYPE=crypto_LUKS\nUSAGE=crypto\n", signature{fsType: "crypto_LUKS", usage: "crypto"}},
	}
	for _, test := range tests {
		if got := parseBlkid(test.out); got != test.want {
			t.Errorf("%q: %+v", test.out, got)
		}
	}
}

func TestVersionsAreRead(t *testing.T) {
	tests := []struct {
		text string
		want version
		ok   bool
	}{
		{"6.18.44-fc-v657", version{6, 18}, true},
		{"5.15-rc1", version{5, 15}, true},
		{"mkfs.xfs version 6.1.0", version{6, 1}, true},
		{" 1.47.0 (5-Feb-2023)\n\tUsing EXT2FS Library version 1.47.0", version{1, 47}, true},
		{"btrfs-progs v6.2", version{6, 2}, true},
		{"6", version{}, false},
		{"none", version{}, false},
		{"", version{}, false},
		{"6.x", version{}, false},
	}
	for _, test := range tests {
		if got, ok := parseVersion(test.text); got != test.want || ok != test.ok {
			t.Errorf("%q: %v, %t", test.text, got, ok)
		}
	}
}

func FuzzSuperblock(f *testing.F) {
	ext := make([]byte, superLength)
	ext[0x38], ext[0x39], ext[0x04], ext[0x18] = 0x53, 0xEF, 200, 2
	xfsBlock := append([]byte("XFSB\x00\x00\x10\x00\x00\x00\x00\x00\x00\x02\x00\x00"), make([]byte, superLength)...)
	btrfsBlock := make([]byte, superLength)
	copy(btrfsBlock[0x40:], "_BHRfS_M")
	btrfsBlock[0x91], btrfsBlock[0xC9+9] = 0x10, 0x10
	for _, seed := range [][]byte{nil, ext, xfsBlock[:superLength], btrfsBlock, bytes.Repeat([]byte{0xFF}, superLength)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, parse := range []func([]byte) (superblock, bool){parseExt, parseXFS, parseBtrfs} {
			s, ok := parse(data)
			if ok && (s.size <= 0 || s.block < 512 || s.block > 64<<10 || s.slack < 0) {
				t.Errorf("%+v", s)
			}
		}
		_, _ = readSuperblock(bytes.NewReader(data)) // must not panic
		if at := firstNonZero(data); at >= 0 {
			if data[at] == 0 || bytes.Trim(data[:at], "\x00") != nil {
				t.Errorf("byte %d isn't the first that isn't zero", at)
			}
			if describe(data, 0, at) == "" {
				t.Error("nothing to say")
			}
		} else if len(bytes.Trim(data, "\x00")) > 0 {
			t.Error("data was missed")
		}
	})
}

func FuzzSignatures(f *testing.F) {
	f.Add("DEVNAME=/dev/vdb\nTYPE=ext4\nUSAGE=filesystem\n")
	f.Add(`{"signatures": [{"device": "loop0", "offset": "0x438", "type": "ext4", "uuid": null, "label": null}]}`)
	f.Add(`{"signatures": []}`)
	f.Add("")
	f.Fuzz(func(t *testing.T, out string) {
		is := parseBlkid(out)
		traces, err := parseWipefs(out)
		if err != nil && len(traces) > 0 {
			t.Error("traces beside an error")
		}
		if (is.found() || len(traces) > 0) && foreign(is, traces).Kind != Foreign {
			t.Error("something found that isn't foreign")
		}
		_, _ = parseVersion(out)
	})
}

func FuzzMounts(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n", "/mnt2")
	f.Add("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:1 / / ro - xfs /dev/sdb ro\n", "/")
	f.Add("36 35 0:7 / /a\\040b rw - tmpfs none rw\n", "/a b")
	f.Add("36 35 4294967295:4294967295 / /x rw - x - -\n", "/x")
	f.Fuzz(func(t *testing.T, table, mountpoint string) {
		infos, err := mountinfo.GetMountsFromReader(strings.NewReader(table), nil)
		if err != nil {
			return
		}
		info := topmost(infos, mountpoint)
		if info == nil {
			return
		}
		if info.Mountpoint != mountpoint {
			t.Errorf("%q is mounted at %q", mountpoint, info.Mountpoint)
		}
		if info.FSType == btrfs {
			return // asked itself where its disk is
		}
		if m := mountPoint(info); m.Target != mountpoint || m.ReadOnly != slices.Contains(m.Options, "ro") || m.FilesystemReadOnly != slices.Contains(m.SuperOptions, "ro") {
			t.Errorf("%+v", m)
		}
	})
}
