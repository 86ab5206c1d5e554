package blockdev

import (
	"fmt"
	"testing"
)

// pci makes a PCI device of a machine, with its class.
func (tr *tree) pci(address, vendor, device, class string) {
	dir := "sys/bus/pci/devices/" + address + "/"
	tr.file(dir+"vendor", vendor+"\n")
	tr.file(dir+"device", device+"\n")
	tr.file(dir+"class", class+"\n")
}

// port makes a PCI Express port; with a device in it when it is taken.
func (tr *tree) port(address string, taken bool) {
	tr.pci(address, "0x1b36", "0x000c", "0x060400")
	tr.file("sys/bus/pci/devices/"+address+"/subordinate_bus_number", "1\n")
	if taken {
		tr.dir("sys/bus/pci/devices/" + address + "/0000:01:00.0")
	}
}

// onVirtio gives a disk its virtio device.
func (tr *tree) onVirtio(name string, slot int) {
	device := fmt.Sprintf("devices/pci0000:00/0000:00:%02x.0/virtio%d", slot, slot)
	tr.dir("sys/" + device)
	tr.link("../../"+device, "sys/block/"+name+"/device")
}

func TestTheAttachLimit(t *testing.T) {
	pc := func(tr *tree, slots int) {
		tr.pci("0000:00:00.0", "0x8086", "0x1237", "0x060000")
		for slot := 1; slot < slots; slot++ {
			tr.pci(fmt.Sprintf("0000:00:%02x.0", slot), "0x1af4", "0x1000", "0x020000")
		}
		tr.pci("0000:00:01.1", "0x8086", "0x7010", "0x010180") // a second function takes no slot
	}
	volume := map[string]string{"serial": volumeA[:20]}
	for _, tt := range []struct {
		name string
		make func(*tree)
		want int64
	}{
		{"nothing but a system disk and a CD-ROM", func(tr *tree) {
			tr.onVirtio("vda", 4)
			tr.dir("sys/block/sr0/device")
		}, 254},
		{"a machine without PCI", func(tr *tree) { tr.dir("sys/block/vda/device") }, 255},
		{"disks that its kernel has made", func(tr *tree) {
			tr.dir("sys/block/vda/device")
			for i, name := range []string{"loop0", "dm-0", "zram0", "md0"} {
				tr.disk(name, fmt.Sprintf("7:%d", i), nil)
			}
		}, 255},
		{"a pc with six slots taken", func(tr *tree) { pc(tr, 6); tr.onVirtio("vda", 4) }, 26},
		{"a pc with a volume", func(tr *tree) {
			pc(tr, 7)
			tr.onVirtio("vda", 4)
			tr.disk("vdb", "252:16", volume)
			tr.onVirtio("vdb", 6)
		}, 26},
		{"a pc with a disk that is no volume", func(tr *tree) {
			pc(tr, 7)
			tr.onVirtio("vda", 4)
			tr.disk("vdb", "252:16", map[string]string{"serial": "local-scratch"})
			tr.onVirtio("vdb", 6)
		}, 25},
		{"a pc that was booted from a volume", func(tr *tree) {
			pc(tr, 6)
			tr.onVirtio("vda", 4)
			tr.file("sys/block/vda/serial", volumeC[:20])
		}, 26},
		{"a pc without a free slot", func(tr *tree) { pc(tr, 32); tr.onVirtio("vda", 4) }, 1},
		{"a pc with its disks on SCSI", func(tr *tree) {
			pc(tr, 6)
			tr.dir("sys/devices/pci0000:00/0000:00:05.0/virtio2/host2/target2:0:0/2:0:0:0")
			tr.link("../../devices/pci0000:00/0000:00:05.0/virtio2/host2/target2:0:0/2:0:0:0", "sys/block/vda/device")
			tr.disk("sdb", "8:16", nil)
			tr.file("sys/block/sdb/device/vpd_pg80", page(0x80, volumeA))
		}, 255},
		{"a q35 with ports", func(tr *tree) {
			tr.pci("0000:00:00.0", "0x8086", "0x29c0", "0x060000")
			tr.onVirtio("vda", 4)
			tr.disk("vdb", "252:16", volume)
			tr.onVirtio("vdb", 5)
			for i := range 10 {
				tr.port(fmt.Sprintf("0000:00:02.%d", i), i < 4)
			}
		}, 7},
		{"a q35 without a port", func(tr *tree) {
			tr.pci("0000:00:00.0", "0x8086", "0x29c0", "0x060000")
			tr.onVirtio("vda", 4)
		}, 1},
		{"a virt of arm64 with ports", func(tr *tree) {
			tr.pci("0000:00:00.0", "0x1b36", "0x0008", "0x060000")
			tr.onVirtio("vda", 4)
			for i := range 8 {
				tr.port(fmt.Sprintf("0000:00:01.%d", i), i < 2)
			}
		}, 6},
		{"a virt of arm64 whose ports are all taken, one by a volume", func(tr *tree) {
			tr.pci("0000:00:00.0", "0x1b36", "0x0008", "0x060000")
			tr.onVirtio("vda", 4)
			tr.disk("vdb", "252:16", volume)
			tr.onVirtio("vdb", 5)
			for i := range 3 {
				tr.port(fmt.Sprintf("0000:00:01.%d", i), true)
			}
		}, 1},
		{"a host bridge that nobody knows, with ports", func(tr *tree) {
			tr.pci("0000:00:00.0", "0xabcd", "0x0001", "0x060000")
			tr.onVirtio("vda", 4)
			for i := range 4 {
				tr.port(fmt.Sprintf("0000:00:01.%d", i), i < 1)
			}
		}, 3},
		{"a PCI bus without ports", func(tr *tree) {
			tr.pci("0000:00:00.0", "0x1b36", "0x0008", "0x060000")
			tr.onVirtio("vda", 4)
		}, 255},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTree(t)
			tt.make(tr)
			if got, err := tr.system().AttachLimit(t.Context()); got != tt.want || err != nil {
				t.Errorf("%d, %v; want %d", got, err, tt.want)
			}
		})
	}
}

func TestTheAttachLimitOfThisMachine(t *testing.T) {
	room, err := (&System{}).AttachLimit(t.Context())
	if err != nil || room < 1 || room > 256 {
		t.Errorf("%d, %v", room, err)
	}
	if _, err := (&System{SysDir: t.TempDir()}).AttachLimit(t.Context()); err == nil {
		t.Error("a machine without sysfs has room")
	}
}
