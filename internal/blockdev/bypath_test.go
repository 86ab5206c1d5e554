package blockdev

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// bare makes a disk on a bus that has no serial.
func (tr *tree) bare(name, number, address string, attributes map[string]string) {
	tr.t.Helper()
	tr.disk(name, number, attributes)
	tr.file("sys/block/"+name+"/device/model", "Virtual Disk\n")
	if address != "" {
		tr.link("../../"+name, "dev/disk/by-path/acpi-VMBUS:00-"+address)
	}
}

// on returns a Locate that tells addresses, and counts the questions.
func on(asked *int, live bool, addresses ...string) func(context.Context, string) (Location, error) {
	return func(context.Context, string) (Location, error) {
		*asked++
		return Location{Addresses: addresses, Live: live}, nil
	}
}

// TestADiskWithoutSerialIsFoundByItsAddress under all the conditions that there are.
func TestADiskWithoutSerialIsFoundByItsAddress(t *testing.T) {
	const here = "scsi-0:0:0:2"
	tests := []struct {
		name  string
		make  func(*tree)
		live  bool
		at    []string
		want  error // nil for sdb
		asked bool
		says  string
	}{
		{"as the service says", func(*tree) {}, true, []string{here}, nil, true, ""},
		{"with a name of the bus's own", func(tr *tree) { tr.file("sys/block/sdb/device/wwid", "naa.6002248047b1b1b1") }, true, []string{here}, nil, true, ""},
		{"as the config drive says, alone", func(*tree) {}, false, []string{here}, nil, true, ""},
		{"as the config drive says, beside another", func(tr *tree) { tr.bare("sdc", "8:32", "", nil) }, false, []string{here}, ErrUnsafe, true, "out of date"},
		{"as the service says, beside another", func(tr *tree) { tr.bare("sdc", "8:32", "", nil) }, true, []string{here}, nil, true, ""},
		{"not named", func(*tree) {}, true, nil, ErrNotFound, true, "have no address of it"},
		{"named twice", func(*tree) {}, true, []string{here, "scsi-0:0:0:3"}, ErrUnsafe, true, "several addresses"},
		{"nothing there", func(*tree) {}, true, []string{"scsi-0:0:0:3"}, ErrNotFound, true, "nothing is at"},
		{"two there", func(tr *tree) {
			tr.bare("sdc", "8:32", "", nil)
			tr.link("../../sdc", "dev/disk/by-path/pci-0000:00:05.0-"+here)
		}, true, []string{here}, ErrUnsafe, true, "more than one disk is at"},
		{"two links to it", func(tr *tree) { tr.link("../../sdb", "dev/disk/by-path/pci-0000:00:05.0-"+here) }, true, []string{here}, nil, true, ""},
		{"another volume's serial", func(tr *tree) { tr.file("sys/block/sdb/serial", volumeC[:20]) }, true, []string{here}, ErrNotFound, false, ""},
		{"another volume's id as wwid", func(tr *tree) {
			tr.file("sys/block/sdb/device/wwid", "uuid."+volumeC)
			tr.bare("sdc", "8:32", "", nil)
		}, true, []string{here}, ErrUnsafe, true, "another disk"},
		{"a size that no volume has", func(tr *tree) {
			tr.file("sys/block/sdb/size", "2097153")
			tr.bare("sdc", "8:32", "", nil)
		}, true, []string{here}, ErrUnsafe, true, "does not have the size of a volume"},
		{"a medium", func(tr *tree) { tr.file("sys/block/sdb/removable", "1") }, true, []string{here}, ErrNotFound, false, ""},
		{"the system's", func(tr *tree) {
			tr.mounts("22 1 8:16 / / rw,relatime - ext4 /dev/sdb rw")
		}, true, []string{here}, ErrNotFound, false, ""},
		{"held", func(tr *tree) { tr.dir("sys/block/sdb/holders/dm-0") }, true, []string{here}, ErrUnsafe, true, "dm-0"},
		{"a pattern", func(*tree) {}, true, []string{"scsi-0:*"}, ErrUnsafe, true, "not an address"},
		{"a path", func(*tree) {}, true, []string{"../../vda"}, ErrUnsafe, true, "not an address"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tr := newTree(t)
			tr.bare("sdb", "8:16", here, nil)
			test.make(tr)
			asked := 0
			s := tr.system()
			s.Locate = on(&asked, test.live, test.at...)
			d, err := s.Find(t.Context(), volumeA)
			if !errors.Is(err, test.want) || test.want == nil && (err != nil || d.Name != "sdb") {
				t.Errorf("found %+v, %v, want %v", d, err, test.want)
			}
			if err != nil && (!strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), volumeA)) {
				t.Errorf("%q doesn't say %q", err, test.says)
			}
			if (asked > 0) != test.asked {
				t.Errorf("the cloud was asked %d times", asked)
			}
		})
	}
}

func TestTheCloudIsNotAskedForADiskWithASerial(t *testing.T) {
	tr := newTree(t)
	tr.bare("sdb", "8:16", "scsi-0:0:0:2", nil)
	tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
	asked := 0
	s := tr.system()
	s.Locate = on(&asked, true, "scsi-0:0:0:2")
	if d, err := s.Find(t.Context(), volumeA); err != nil || d.Name != "vdb" || asked != 0 {
		t.Errorf("found %+v, %v; asked %d times", d, err, asked)
	}
	s.Locate = func(context.Context, string) (Location, error) { return Location{}, errors.New("no route") }
	if _, err := s.Find(t.Context(), volumeC); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "no route") {
		t.Errorf("got %v, want it not to be found yet, and why", err)
	}
	if disks, err := s.Candidates(t.Context(), volumeC); !errors.Is(err, ErrNotFound) || disks != nil {
		t.Errorf("candidates %+v, %v", disks, err)
	}
}

// TestOnlyHostsThatAnnounceNothingAreScanned has one of each.
func TestOnlyHostsThatAnnounceNothingAreScanned(t *testing.T) {
	tr := newTree(t)
	host := func(n, driver, features string) {
		device := "devices/pci0000:00/virtio" + n
		tr.file("sys/"+device+"/host"+n+"/scsi_host/host"+n+"/proc_name", driver+"\n")
		tr.file("sys/"+device+"/host"+n+"/scsi_host/host"+n+"/scan", "")
		if features != "" {
			tr.file("sys/"+device+"/features", features+"\n")
		}
		tr.link("../../"+device+"/host"+n+"/scsi_host/host"+n, "sys/class/scsi_host/host"+n)
	}
	host("0", "ata_piix", "")
	host("1", "virtio_scsi", "0110000000")
	host("2", "virtio_scsi", "0010000000")
	host("3", "vmw_pvscsi", "")
	host("4", "storvsc_host_t", "")
	host("5", "mptspi", "")
	host("6", "iscsi_tcp", "")
	host("7", "usb-storage", "")
	host("8", "virtio_scsi", "") // nothing is known of it
	want := []string{tr.path("sys/class/scsi_host/host2"), tr.path("sys/class/scsi_host/host5")}
	if got := tr.system().sysfs().silentHosts(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := tr.system().Wait(ctx, volumeA); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	for n, scanned := range map[string]bool{"0": false, "1": false, "2": true, "3": false, "5": true} {
		data, err := os.ReadFile(tr.path("sys/class/scsi_host/host" + n + "/scan"))
		if err != nil || (string(data) == "- - -") != scanned {
			t.Errorf("host%s: %q, %v, want it scanned: %t", n, data, err, scanned)
		}
	}
}
