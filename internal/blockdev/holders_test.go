package blockdev

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// upon makes a device that is built upon disks or partitions.
func (tr *tree) upon(name, number string, attributes map[string]string, below ...string) {
	tr.t.Helper()
	tr.disk(name, number, attributes)
	for _, disk := range below {
		tr.dir("sys/block/" + disk + "/holders/" + name)
	}
}

// partition makes the first partition of vdb.
func (tr *tree) partition() {
	tr.file("sys/block/vdb/vdb1/partition", "1")
	tr.file("sys/block/vdb/vdb1/dev", "252:17")
}

// TestHoldersInUseAreToldFromThoseThatUdevPutThere over all that a node builds by
// itself, how it is used, and where it is built.
func TestHoldersInUseAreToldFromThoseThatUdevPutThere(t *testing.T) {
	lvm := func(name string) map[string]string { return map[string]string{"dm/name": name, "dm/uuid": "LVM-0a0b"} }
	for _, tt := range []struct {
		name  string
		make  func(*tree)
		opens map[string]int // of devices, -1 where nothing tells
		want  string         // what is in use; idle holders in brackets
	}{
		{"nothing", func(*tree) {}, nil, ""},
		{"LVM that nobody has open", func(tr *tree) { tr.upon("dm-0", "253:0", lvm("vg-root"), "vdb") }, map[string]int{"dm-0": 0}, "[dm-0 (vg-root)]"},
		{"LVM that somebody has open", func(tr *tree) { tr.upon("dm-0", "253:0", lvm("vg-root"), "vdb") }, map[string]int{"dm-0": 1}, "dm-0 (vg-root)"},
		{"LVM of which nothing tells", func(tr *tree) { tr.upon("dm-0", "253:0", lvm("vg-root"), "vdb") }, nil, "dm-0 (vg-root)"},
		{"LVM on a partition", func(tr *tree) {
			tr.partition()
			tr.upon("dm-0", "253:0", lvm("vg-root"), "vdb/vdb1")
		}, map[string]int{"dm-0": 0}, "[partition vdb1: dm-0 (vg-root)]"},
		{"two of LVM, one of them open", func(tr *tree) {
			tr.upon("dm-0", "253:0", lvm("vg-root"), "vdb")
			tr.upon("dm-1", "253:1", lvm("vg-swap"), "vdb")
		}, map[string]int{"dm-0": 0, "dm-1": 2}, "[dm-0 (vg-root)] dm-1 (vg-swap)"},
		{"multipath with LVM on it, idle", func(tr *tree) {
			tr.upon("dm-0", "253:0", map[string]string{"dm/name": "mpatha", "dm/uuid": "mpath-x"}, "vdb")
			tr.upon("dm-1", "253:1", lvm("vg-root"), "dm-0")
		}, map[string]int{"dm-0": 1, "dm-1": 0}, "[dm-0 (mpatha): dm-1 (vg-root)] [dm-0 (mpatha)]"},
		{"multipath with LVM on it, and open besides", func(tr *tree) {
			tr.upon("dm-0", "253:0", map[string]string{"dm/name": "mpatha", "dm/uuid": "mpath-x"}, "vdb")
			tr.upon("dm-1", "253:1", lvm("vg-root"), "dm-0")
		}, map[string]int{"dm-0": 2, "dm-1": 0}, "[dm-0 (mpatha): dm-1 (vg-root)] dm-0 (mpatha)"},
		{"multipath with LVM on it that is open", func(tr *tree) {
			tr.upon("dm-0", "253:0", map[string]string{"dm/name": "mpatha", "dm/uuid": "mpath-x"}, "vdb")
			tr.upon("dm-1", "253:1", lvm("vg-root"), "dm-0")
		}, map[string]int{"dm-0": 1, "dm-1": 1}, "dm-0 (mpatha): dm-1 (vg-root) [dm-0 (mpatha)]"},
		{"an idle mapping that is mounted where the count was read before", func(tr *tree) {
			tr.upon("dm-0", "253:0", lvm("vg-root"), "vdb")
			tr.mounts("30 22 253:0 / /mnt rw - ext4 /dev/mapper/vg-root rw")
		}, map[string]int{"dm-0": 0}, "[dm-0 (vg-root)] dm-0 (vg-root): mounted at /mnt"},
		{"a mapping mounted in another namespace", func(tr *tree) {
			tr.upon("dm-0", "253:0", lvm("vg-root"), "vdb")
			tr.dir("sys/fs/xfs/dm-0")
		}, map[string]int{"dm-0": 0}, "[dm-0 (vg-root)] dm-0 (vg-root): mounted xfs"},
		{"an array that nobody has", func(tr *tree) {
			tr.upon("md127", "9:127", map[string]string{"md/array_state": "clean\n"}, "vdb")
		}, map[string]int{"md127": 0}, "[md127]"},
		{"an array whose partition is mounted", func(tr *tree) {
			tr.partition()
			tr.upon("md127", "9:127", map[string]string{"md/array_state": "clean\n", "md127p1/partition": "1", "md127p1/dev": "259:0"}, "vdb/vdb1")
			tr.mounts("30 22 259:0 / /mnt rw - ext4 /dev/md127p1 rw")
		}, map[string]int{"md127": 1}, "partition vdb1: md127: partition md127p1: mounted at /mnt partition vdb1: md127"},
		{"a device of another kind", func(tr *tree) { tr.upon("bcache0", "251:0", nil, "vdb") }, nil, "bcache0"},
		{"a device that sysfs has lost", func(tr *tree) { tr.dir("sys/block/vdb/holders/dm-7") }, nil, "dm-7"},
		{"its own mapping, with a filesystem that is mounted", func(tr *tree) {
			title := MappingTitle(volumeA)
			tr.upon("dm-0", "253:0", map[string]string{"dm/name": title, "dm/uuid": luksKind(title)}, "vdb")
			tr.mounts("30 22 253:0 / /mnt rw - ext4 /dev/dm-0 rw")
		}, map[string]int{"dm-0": 1}, "own dm-0 (" + MappingTitle(volumeA) + ")"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTree(t)
			tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
			d, err := tr.system().Find(t.Context(), volumeA)
			if err != nil {
				t.Fatal(err)
			}
			tt.make(tr)
			opened := func(_ sysfs, name string) opening {
				times, known := tt.opens[name]
				return opening{known: known, times: times, words: "told"}
			}
			holders, err := holdersOf(d, opened)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, h := range holders {
				words := strings.TrimSuffix(h.String(), ", told")
				switch {
				case h.Own:
					words = "own " + words
				case !h.InUse:
					words = "[" + words + "]"
				}
				got = append(got, words)
			}
			if got := strings.Join(got, " "); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestWhatTellsOfAnMDArray: the kernel counts no opens of it.
func TestWhatTellsOfAnMDArray(t *testing.T) {
	failure := errors.New("no such device")
	for _, tt := range []struct {
		state   string
		claimed bool
		err     error
		idle    bool
	}{
		{"inactive", false, failure, true}, // it isn't looked at: it takes no I/O
		{"clear", false, failure, true},
		{"clean", false, nil, true},
		{"read-auto", false, nil, true},
		{"readonly", false, nil, true},
		{"active-idle", false, nil, true},
		{"clean", true, nil, false},
		{"read-auto", true, nil, false},
		{"clean", false, failure, false},
		{"active", false, nil, false},
		{"write-pending", false, nil, false},
		{"suspended", false, nil, false},
		{"broken", false, nil, false},
		{"a state of tomorrow", false, nil, false},
	} {
		tr := newTree(t)
		tr.upon("md0", "9:0", map[string]string{"md/array_state": tt.state + "\n"})
		open := openedMD(tr.system().sysfs(), "md0", func(path string) (bool, error) {
			if path != "/dev/md0" {
				t.Errorf("%s was looked at", path)
			}
			return tt.claimed, tt.err
		})
		if idle := open.known && open.times == 0; idle != tt.idle {
			t.Errorf("%s, claimed %t, %v: %+v", tt.state, tt.claimed, tt.err, open)
		}
	}
}

// TestDeviceNumbersOfDeviceMapper are those of the kernel's huge_encode_dev.
func TestDeviceNumbersOfDeviceMapper(t *testing.T) {
	for number, want := range map[string]uint64{"253:0": 0xfd00, "253:255": 0xfdff, "253:256": 0x10fd00, "253:1048575": 0xfff0fdff} {
		n, err := parseNumber(number)
		if err != nil || newEncoded(n) != want {
			t.Errorf("%s: %#x, %v, want %#x", number, newEncoded(n), err, want)
		}
	}
}

func TestADiskOfThisMachineHasHolders(t *testing.T) {
	names, err := sysfs("/sys").disks()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		number, err := sysfs("/sys").number(name)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Holders(Disk{VolumeID: volumeA, Name: name, Number: number}); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
