package inside

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
)

// TestADiskIsFoundByItsSerial plugs a disk into every bus.
func TestADiskIsFoundByItsSerial(t *testing.T) {
	for _, bus := range []struct {
		bus  wire.Bus
		name string // of the node, as a pattern
		link string // what udev puts before the serial
	}{
		{wire.VirtioBlk, "vd?", "virtio-"},
		{wire.Bridged, "vd?", "virtio-"},
		{wire.VirtioSCSI, "sd?", "scsi-0QEMU_QEMU_HARDDISK_"},
		{wire.NVMe, "nvme?n1", "nvme-QEMU_NVMe_Ctrl_"},
	} {
		t.Run(string(bus.bus), func(t *testing.T) {
			id := uuid.NewString()
			plug(t, wire.Disk{Image: id, Bus: bus.bus, Serial: id, Size: 8 * mib})
			disk, err := (&blockdev.System{}).Wait(patient(t), id)
			must(t, err)
			t.Logf("%s is %s", id, disk.Path)
			if match, err := filepath.Match(bus.name, disk.Name); err != nil || !match {
				t.Errorf("found %s, want %s", disk.Name, bus.name)
			}
			if disk.Size != 8*mib {
				t.Errorf("it has %d bytes", disk.Size)
			}
			link := filepath.Join("/dev/disk/by-id", bus.link+id[:20])
			eventually(t, "udev's link "+link, func() bool {
				target, err := filepath.EvalSymlinks(link)
				return err == nil && target == disk.Path
			})
			if _, err := os.Stat(disk.Path); err != nil {
				t.Error(err)
			}
		})
	}
}
