package inside

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
	"github.com/cinder-csi/cinder-csi/internal/instance"
	"github.com/cinder-csi/cinder-csi/internal/node"
	"github.com/cinder-csi/cinder-csi/internal/zone"
)

// driveLink is where udev shows a config drive.
const driveLink = "/dev/disk/by-label/config-2"

// awaitDrive waits until udev shows a config drive.
func awaitDrive(t testing.TB) {
	t.Helper()
	eventually(t, "udev shows the config drive", func() bool {
		target, err := filepath.EvalSymlinks(driveLink)
		if err == nil {
			t.Logf("%s is %s", driveLink, target)
		}
		return err == nil
	})
}

// awaitNoDrive waits until udev has seen it go.
func awaitNoDrive(t testing.TB) {
	t.Helper()
	eventually(t, "udev has forgotten the config drive", func() bool {
		_, err := os.Lstat(driveLink)
		return errors.Is(err, os.ErrNotExist)
	})
}

// change tells udev to look at the CD-ROM again. It polls drives itself, but
// only every two seconds.
func change(t testing.TB) {
	t.Helper()
	must(t, os.WriteFile("/sys/block/sr0/uevent", []byte("change"), 0o200))
}

// TestTheConfigDriveTellsWhichServerThisIs has it as a CD-ROM and as a disk,
// both of which Nova can be told to make.
func TestTheConfigDriveTellsWhichServerThisIs(t *testing.T) {
	for _, bus := range []wire.Bus{wire.CDROM, wire.VirtioBlk, wire.VirtioSCSI} {
		t.Run(string(bus), func(t *testing.T) {
			plug(t, wire.Disk{Image: "config drive", Bus: bus, Content: wire.ConfigDrive, ReadOnly: true})
			if bus == wire.CDROM {
				change(t)
			}
			awaitDrive(t)
			id, err := instance.New(instance.Options{Disks: new(blockdev.System).NoVolumes, Order: []instance.Source{instance.ConfigDrive}}).Identify(patient(t))
			must(t, err)
			wantThisServer(t, id)

			pull(t, "config drive")
			if bus == wire.CDROM {
				change(t)
			}
			awaitNoDrive(t)
		})
	}
}

func wantThisServer(t testing.TB, id instance.Identity) {
	t.Helper()
	if _, err := uuid.Parse(id.ServerID); err != nil || id.Zone != "nova" {
		t.Errorf("found %+v", id)
	}
}

// TestAVolumeThatPosesAsTheConfigDriveIsNotBelieved has a volume into which
// somebody has written another server's config drive.
func TestAVolumeThatPosesAsTheConfigDriveIsNotBelieved(t *testing.T) {
	for _, bus := range []wire.Bus{wire.VirtioBlk, wire.VirtioSCSI} {
		t.Run(string(bus), func(t *testing.T) {
			plug(t, wire.Disk{Image: "impostor", Bus: bus, Serial: uuid.NewString(), Content: wire.Impostor})
			awaitDrive(t)
			id, err := instance.New(instance.Options{Disks: new(blockdev.System).NoVolumes, Order: []instance.Source{instance.ConfigDrive}}).Identify(patient(t))
			if err == nil || !strings.Contains(err.Error(), "no config drive") {
				t.Errorf("found %+v, %v", id, err)
			}
			// The metadata service tells the truth.
			id, err = instance.New(instance.Options{Disks: new(blockdev.System).NoVolumes}).Identify(patient(t))
			must(t, err)
			wantThisServer(t, id)
			pull(t, "impostor")
			awaitNoDrive(t)
		})
	}
}

// TestAnImpostorBesideTheConfigDrive neither is believed nor hides the config
// drive, to whichever of the two udev's one link leads.
func TestAnImpostorBesideTheConfigDrive(t *testing.T) {
	for _, bus := range []wire.Bus{wire.CDROM, wire.VirtioBlk} {
		t.Run(string(bus), func(t *testing.T) {
			plug(t, wire.Disk{Image: "config drive", Bus: bus, Content: wire.ConfigDrive, ReadOnly: true})
			if bus == wire.CDROM {
				change(t)
			}
			awaitDrive(t)
			genuine, err := filepath.EvalSymlinks(driveLink)
			must(t, err)
			serial := uuid.NewString()
			plug(t, wire.Disk{Image: "impostor", Bus: wire.VirtioBlk, Serial: serial, Content: wire.Impostor})
			fake := "/dev/disk/by-id/virtio-" + serial[:20]
			eventually(t, "udev has seen the impostor", func() bool {
				_, err := os.Lstat(fake)
				return err == nil
			})
			fake, err = filepath.EvalSymlinks(fake)
			must(t, err)
			for _, to := range []string{genuine, fake, ""} {
				link(t, to)
				id, err := instance.New(instance.Options{Disks: new(blockdev.System).NoVolumes, Order: []instance.Source{instance.ConfigDrive}}).Identify(patient(t))
				must(t, err)
				wantThisServer(t, id)
			}
			pull(t, "impostor")
			pull(t, "config drive")
			if bus == wire.CDROM {
				change(t)
			}
			awaitNoDrive(t)
		})
	}
}

// link makes udev's link by label lead to a device, or takes it away.
func link(t testing.TB, device string) {
	t.Helper()
	if err := os.Remove(driveLink); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if device != "" {
		must(t, os.Symlink(device, driveLink))
	}
}

// TestTheMetadataServiceTellsWhichServerThisIs asks it at the address that it
// has in every OpenStack cloud, by way of a real network card.
func TestTheMetadataServiceTellsWhichServerThisIs(t *testing.T) {
	id, err := instance.New(instance.Options{Order: []instance.Source{instance.MetadataService}}).Identify(patient(t))
	must(t, err)
	wantThisServer(t, id)
}

// TestNodeGetInfoTellsWhatTheServerKnowsOfItself has no config drive and no
// settings at all.
func TestNodeGetInfoTellsWhatTheServerKnowsOfItself(t *testing.T) {
	s := node.New(node.Config{WithTopology: true, Identity: func(ctx context.Context) (instance.Identity, error) {
		return instance.New(instance.Options{Disks: new(blockdev.System).NoVolumes}).Identify(ctx)
	}})
	info, err := s.NodeGetInfo(patient(t), &csi.NodeGetInfoRequest{})
	must(t, err)
	if _, err := uuid.Parse(info.GetNodeId()); err != nil {
		t.Errorf("the node's id is %q", info.GetNodeId())
	}
	if name := info.GetAccessibleTopology().GetSegments()[zone.Key]; name != "nova" {
		t.Errorf("the zone is %q", name)
	}
	if info.GetMaxVolumesPerNode() < 1 {
		t.Errorf("the limit is %d", info.GetMaxVolumesPerNode())
	}
}
