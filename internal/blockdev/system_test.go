package blockdev

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func TestADiskIsFoundByEveryNameItMayHave(t *testing.T) {
	wwn, err := hex.DecodeString(undashed(volumeA))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name       string
		disk       string
		attributes map[string]string
	}{
		{"virtio with the first 20 characters", "vdb", map[string]string{"serial": volumeA[:20]}},
		{"virtio with a newline", "vdb", map[string]string{"serial": volumeA[:20] + "\n"}},
		{"virtio with the whole id", "vdb", map[string]string{"serial": volumeA}},
		{"upper case", "vdb", map[string]string{"serial": strings.ToUpper(volumeA)}},
		{"more than 26 disks", "vdaab", map[string]string{"serial": volumeA[:20]}},
		{"SCSI with the whole id as unit serial", "sdb", map[string]string{"device/vpd_pg80": page(0x80, volumeA)}},
		{"SCSI with 20 characters as unit serial", "sdb", map[string]string{"device/vpd_pg80": page(0x80, volumeA[:20]+"  ")}},
		{"SCSI with a vendor specific designator", "sdb", map[string]string{"device/vpd_pg83": page(0x83, part(2, 0, volumeA[:20]))}},
		{"SCSI with a T10 designator", "sdb", map[string]string{"device/vpd_pg83": page(0x83, part(2, 1, "QEMU    HARDDISK   "+volumeA))}},
		{"SCSI with the id as NAA, after another", "sdb", map[string]string{"device/vpd_pg83": page(0x83, part(1, 3, "12345678")+part(1, 3, string(wwn)))}},
		{"SCSI with the id as name string", "sdb", map[string]string{"device/vpd_pg83": page(0x83, part(3, 8, "naa."+undashed(volumeA)))}},
		{"SCSI with the id as UUID", "sdb", map[string]string{"device/vpd_pg83": page(0x83, part(1, 10, "\x10\x00"+string(wwn)))}},
		{"SCSI with the id in wwid", "sdb", map[string]string{"device/wwid": "naa." + undashed(volumeA) + "\n"}},
		{"SCSI with a T10 name in wwid", "sdb", map[string]string{"device/wwid": "t10.QEMU    HARDDISK   " + volumeA + "\x00\n"}},
		{"NVMe with the first 20 characters", "nvme0n1", map[string]string{"device/serial": volumeA[:20] + "\n"}},
		{"NVMe with the id as UUID", "nvme0n1", map[string]string{"uuid": volumeA, "wwid": "uuid." + volumeA}},
		{"NVMe with the id as NGUID", "nvme0n1", map[string]string{"nguid": volumeA, "wwid": "eui." + undashed(volumeA)}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tr := newTree(t)
			tr.disk("vdc", "252:32", map[string]string{"serial": volumeC[:20]})
			tr.disk(test.disk, "252:16", test.attributes)
			d, err := tr.system().Find(t.Context(), volumeA)
			if err != nil {
				t.Fatal(err)
			}
			if d.VolumeID != volumeA || d.Path != tr.path("dev/"+test.disk) || d.Name != test.disk || d.Number != 252<<8|16 || d.Size != gib {
				t.Errorf("%+v", d)
			}
			if err := d.Verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestADiskOfAnotherVolumeIsNotFound(t *testing.T) {
	tests := map[string]map[string]string{
		"no serial":                           nil,
		"another serial":                      {"serial": volumeC[:20]},
		"19 characters":                       {"serial": volumeA[:19]},
		"21 characters":                       {"serial": volumeA[:21]},
		"an empty serial":                     {"serial": "\n"},
		"the id within a longer serial":       {"serial": "x" + volumeA},
		"a whole id with the same beginning":  {"serial": volumeB},
		"the beginning beside another's id":   {"device/vpd_pg83": page(0x83, part(2, 0, volumeA[:20])), "device/vpd_pg80": page(0x80, volumeB)},
		"the id as the name of a target port": {"device/vpd_pg83": page(0x83, part(2, 0x10, volumeA))},
		"a page of another kind":              {"device/vpd_pg80": page(0x83, volumeA)},
		"a page cut short":                    {"device/vpd_pg83": page(0x83, part(2, 0, volumeA))[:20]},
		"an empty page":                       {"device/vpd_pg83": "", "device/vpd_pg80": "\x00\x80"},
		"a hidden path of a multipath disk":   {"serial": volumeA, "hidden": "1"},
	}
	for name, attributes := range tests {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t)
			tr.disk("vdb", "252:16", attributes)
			if d, err := tr.system().Find(t.Context(), volumeA); !errors.Is(err, ErrNotFound) {
				t.Errorf("%+v, %v", d, err)
			}
		})
	}
}

func TestADiskThatIsNotReadyIsNotFound(t *testing.T) {
	tests := map[string]func(*tree){
		"the node is missing":     func(tr *tree) { tr.remove("dev/vdb") },
		"the capacity is 0":       func(tr *tree) { tr.file("sys/block/vdb/size", "0\n") },
		"the capacity is missing": func(tr *tree) { tr.remove("sys/block/vdb/size") },
		"the number is missing":   func(tr *tree) { tr.remove("sys/block/vdb/dev") },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t)
			tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
			spoil(tr)
			if d, err := tr.system().Find(t.Context(), volumeA); !errors.Is(err, ErrNotFound) {
				t.Errorf("%+v, %v", d, err)
			}
		})
	}
}

func TestADiskThatMustNotBeTouchedIsRefusedWithTheReason(t *testing.T) {
	const root = "22 1 252:1 / / rw - ext4 /dev/vda1 rw"
	tests := []struct {
		name   string
		spoil  func(*tree)
		reason string
	}{
		{"two disks with the serial", func(tr *tree) {
			tr.disk("sdq", "65:0", map[string]string{"device/vpd_pg80": page(0x80, volumeA)})
		}, "sdq, vdb"},
		{"a node of another device", func(tr *tree) { tr.node("vdb", "252:48") }, "252:48"},
		{"a node that is a file", func(tr *tree) {
			tr.remove("dev/vdb")
			tr.file("dev/vdb", "")
		}, "not a block device"},
		{"the root filesystem on the disk itself", func(tr *tree) {
			tr.mounts("22 1 252:16 / / rw - ext4 /dev/vdb rw")
		}, "mounted at /"},
		{"the node's disk seen from a container", func(tr *tree) {
			tr.mounts("22 1 0:50 / / rw - overlay none rw", "30 22 252:16 /x/hosts /etc/hosts rw - ext4 /dev/vdb rw")
		}, "mounted at /etc/hosts"},
		{"the root filesystem on a partition", func(tr *tree) {
			tr.file("sys/block/vdb/vdb1/partition", "1")
			tr.file("sys/block/vdb/vdb1/dev", "252:17")
			tr.mounts("22 1 252:17 / / rw - ext4 /dev/vdb1 rw")
		}, "partition vdb1: mounted at /"},
		{"a btrfs root on a partition", func(tr *tree) {
			tr.file("sys/block/vdb/vdb1/partition", "1")
			tr.file("sys/block/vdb/vdb1/dev", "252:17")
			tr.mounts("22 1 0:30 /@ / rw - btrfs /dev/vdb1 rw")
		}, "partition vdb1: mounted at /"},
		{"a mounted partition", func(tr *tree) {
			tr.file("sys/block/vdb/vdb2/partition", "2")
			tr.file("sys/block/vdb/vdb2/dev", "252:18")
			tr.mounts(root, "30 22 252:18 / /mnt/with\\040blank rw - xfs /dev/vdb2 rw")
		}, "partition vdb2: mounted at /mnt/with blank"},
		{"a partition mounted in another namespace", func(tr *tree) {
			tr.file("sys/block/vdb/vdb2/partition", "2")
			tr.file("sys/block/vdb/vdb2/dev", "252:18")
			tr.dir("sys/fs/xfs/vdb2")
		}, "partition vdb2: mounted xfs"},
		{"a device-mapper device upon it", func(tr *tree) {
			tr.dir("sys/block/vdb/holders/dm-3")
			tr.file("sys/block/dm-3/dm/name", "secrets\n")
		}, "dm-3 (secrets)"},
		{"an md device upon a partition", func(tr *tree) {
			tr.file("sys/block/vdb/vdb1/partition", "1")
			tr.file("sys/block/vdb/vdb1/dev", "252:17")
			tr.dir("sys/block/vdb/vdb1/holders/md0")
		}, "partition vdb1: md0"},
		{"swap on the disk", func(tr *tree) {
			tr.file("proc/swaps", "Filename Type Size Used Priority\n/dev/vdb partition 8 0 -2\n")
		}, "swap"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tr := newTree(t)
			tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
			test.spoil(tr)
			d, err := tr.system().Find(t.Context(), volumeA)
			if !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), test.reason) || !strings.Contains(err.Error(), volumeA) {
				t.Errorf("%+v, %v; want %s", d, err, test.reason)
			}
		})
	}
}

func TestTwoVolumesWithOneBeginningAreBothRefusedWhenOnlyThatIsKnown(t *testing.T) {
	tr := newTree(t)
	tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
	tr.disk("vdc", "252:32", map[string]string{"serial": volumeB[:20]})
	for _, id := range []string{volumeA, volumeB} {
		if _, err := tr.system().Find(t.Context(), id); !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), "vdb, vdc") {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestADiskInHarmlessUseIsFound(t *testing.T) {
	tr := newTree(t)
	tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20], "vdb1/partition": "1", "vdb1/dev": "252:17"})
	tr.mounts("22 1 252:1 / / rw - ext4 /dev/vda1 rw", "30 22 252:16 / /var/lib/kubelet/plugins/x/globalmount rw - ext4 /dev/vdb rw")
	if _, err := tr.system().Find(t.Context(), volumeA); err != nil {
		t.Errorf("staged, with a partition that nothing uses: %v", err)
	}
}

func TestOddVolumeIDsAreErrors(t *testing.T) {
	tr := newTree(t)
	ids := []string{
		"", "a", volumeA[:20], volumeA[:35], volumeA + "0", undashed(volumeA), "../../../../etc/passwd",
		strings.Repeat("-", 36), strings.Replace(volumeA, "6", "g", 1), strings.Repeat("é", 18), "\x00",
	}
	for _, id := range ids {
		for _, finder := range []Finder{tr.system(), &Loop{DevDir: tr.path("dev"), SysDir: tr.path("sys")}} {
			if _, err := finder.Find(t.Context(), id); !errors.Is(err, ErrVolumeID) {
				t.Errorf("%T of %q: %v", finder, id, err)
			}
		}
	}
}

func TestFindObeysItsContextAndSaysWhenSysfsIsMissing(t *testing.T) {
	tr := newTree(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tr.system().Find(ctx, volumeA); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := (&System{SysDir: tr.path("nowhere")}).Find(t.Context(), volumeA); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestTheDisksOfThisMachineCanBeLookedAt(t *testing.T) {
	if _, err := (&System{}).Find(t.Context(), volumeA); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestADiskThatWasReplacedIsNoticed(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*tree)
		want  error
	}{
		{"gone", func(tr *tree) { tr.remove("sys/block/vdb") }, ErrNotFound},
		{"its node gone", func(tr *tree) { tr.remove("dev/vdb") }, ErrNotFound},
		{"its node for another device", func(tr *tree) { tr.node("vdb", "252:32") }, ErrUnsafe},
		{"another disk with its name", func(tr *tree) { tr.file("sys/block/vdb/dev", "252:32\n") }, ErrUnsafe},
		{"another disk with its name and number", func(tr *tree) { tr.file("sys/block/vdb/diskseq", "8\n") }, ErrUnsafe},
	}
	for _, test := range tests {
		tr := newTree(t)
		tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
		d, err := tr.system().Find(t.Context(), volumeA)
		if err != nil {
			t.Fatal(err)
		}
		test.spoil(tr)
		if err := d.Verify(); !errors.Is(err, test.want) {
			t.Errorf("Verify, %s: %v", test.name, err)
		}
		if _, err := tr.system().Refresh(t.Context(), d); !errors.Is(err, test.want) {
			t.Errorf("Refresh, %s: %v", test.name, err)
		}
	}
}
