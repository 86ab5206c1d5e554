package blockdev

import (
	"slices"
	"testing"
)

// TestAVolumeIsNeverTakenForAConfigDrive: the label is its owner's choice, the serial is not.
func TestAVolumeIsNeverTakenForAConfigDrive(t *testing.T) {
	const serial = "0b0b4d11-6e0e-4c5c-9"
	for _, tt := range []struct {
		name       string
		attributes map[string]string
		may        bool
	}{
		{"a CD-ROM", map[string]string{"device/type": "5\n", "device/wwid": "t10.ATA     QEMU DVD-ROM   QM00001"}, true},
		{"a CD-ROM whose name can't be read", map[string]string{"device/type": "5", "device/wwid/directory": ""}, true},
		{"a CD-ROM of any size", map[string]string{"device/type": "5\n", "size": "9000000"}, true},
		{"a small disk without serial", map[string]string{"device/vendor": "0x1af4"}, true},
		{"a small disk with an empty serial", map[string]string{"serial": "", "device/vendor": "0x1af4"}, true},
		{"a disk of 64 MiB, as Nova makes its vfat", map[string]string{"device/vendor": "VMware", "size": "131072"}, true},
		{"what the kernel has made", nil, false},
		{"a volume on virtio", map[string]string{"serial": serial, "device/vendor": "0x1af4"}, false},
		{"a volume on SCSI", map[string]string{"device/vpd_pg80": page(0x80, serial+"f4b-2d7bd8a7c001")}, false},
		{"a volume on NVMe", map[string]string{"device/serial": serial + "\n"}, false},
		{"a volume by its WWID", map[string]string{"device/wwid": "uuid.0b0b4d11-6e0e-4c5c-9f4b-2d7bd8a7c001"}, false},
		{"a CD-ROM with the serial of a volume", map[string]string{"device/type": "5\n", "device/vpd_pg80": page(0x80, serial+"f4b-2d7bd8a7c001")}, false},
		{"a volume of 10 GiB without serial, as on VMware", map[string]string{"device/vendor": "VMware", "size": "20971520"}, false},
		{"a volume of 1 GiB without serial, less a LUKS header", map[string]string{"device/vendor": "VMware", "device/type": "0", "size": "2064384"}, false},
		{"a disk of half a GiB", map[string]string{"device/vendor": "VMware", "size": "1048576"}, false},
		{"a disk whose size nothing tells", map[string]string{"device/vendor": "VMware", "size": ""}, false},
		{"a large disk with a small partition", map[string]string{"device/vendor": "VMware", "size": "20971520", "vdb1/partition": "1", "vdb1/size": "2048"}, false},
	} {
		tr := newTree(t)
		attributes := map[string]string{"size": "2048"}
		for name, value := range tt.attributes {
			attributes[name] = value
		}
		tr.disk("vdb", "252:16", attributes)
		got, err := tr.system().NoVolumes(t.Context())
		if err != nil || slices.Contains(got, tr.path("dev/vdb")) != tt.may {
			t.Errorf("%s: %q, %v; want it among them: %t", tt.name, got, err, tt.may)
		}
	}
}

func TestADiskThatDoesNotTellItsSerialMayBeAVolume(t *testing.T) {
	tr := newTree(t)
	tr.silent("vdb", "252:16", "11")
	tr.file("sys/block/vdb/size", "2048")
	tr.file("sys/block/vdb/device/vendor", "0x1af4")
	tr.disk("vdc", "252:32", map[string]string{"size": "2048", "device/vendor": "0x1af4"})
	if got, err := tr.system().NoVolumes(t.Context()); err != nil || !slices.Equal(got, []string{tr.path("dev/vdc")}) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAFloppyDriveIsNotAsked(t *testing.T) {
	tr := newTree(t)
	tr.disk("fd0", "2:0", map[string]string{"size": "8", "removable": "1", "device/modalias": "platform:floppy"})
	if got, err := tr.system().NoVolumes(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
}
