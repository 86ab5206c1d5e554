package controller_test

import (
	"context"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

var actions = map[string]action{
	"CreateVolume": {
		write: "volume.create", reads: []string{"volume.list", "volume.get"},
		call: func(ctx context.Context, w *world, n string) error {
			_, err := w.CreateVolume(ctx, request(n, 1))
			return err
		},
		count: func(w *world, n string) int { return w.usable(n) },
	},
	"CreateVolume from a snapshot": {
		write: "volume.create", reads: []string{"volume.list", "volume.get"},
		prepare: func(w *world, n string) {
			w.snapshot("source of "+n, w.create(request("origin of "+n, 1)).GetVolumeId())
		},
		call: func(ctx context.Context, w *world, n string) error {
			req := request(n, 2)
			req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
				Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: w.snapshotID("source of " + n)},
			}}
			_, err := w.CreateVolume(ctx, req)
			return err
		},
		count: func(w *world, n string) int { return w.usable(n) },
	},
	"CreateVolume from a volume": {
		write: "volume.create", reads: []string{"volume.list", "volume.get"},
		prepare: func(w *world, n string) { w.create(request("origin of "+n, 1)) },
		call: func(ctx context.Context, w *world, n string) error {
			req := request(n, 1)
			req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
				Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: w.volumeID("origin of " + n)},
			}}
			_, err := w.CreateVolume(ctx, req)
			return err
		},
		count: func(w *world, n string) int { return w.usable(n) },
	},
	"DeleteVolume": {
		write: "volume.delete", reads: []string{"volume.list", "volume.get"}, bad: "error_deleting",
		prepare: func(w *world, n string) { w.create(request(n, 1)) },
		call: func(ctx context.Context, w *world, n string) error {
			_, err := w.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: w.volumeID(n)})
			return err
		},
		count: func(w *world, n string) int { return 1 - len(w.volumesNamed(n)) },
	},
	"ControllerPublishVolume": {
		write: "attachment.create", reads: []string{"volume.get", "volume.list", "attachment.list"},
		prepare: func(w *world, n string) { w.create(request(n, 1)) },
		call: func(ctx context.Context, w *world, n string) error {
			_, err := w.ControllerPublishVolume(ctx, publishRequest(w.volumeID(n), w.server("one")))
			return err
		},
		count: func(w *world, n string) int { return w.attachments(n) },
	},
	"ControllerUnpublishVolume": {
		write: "attachment.delete", reads: []string{"volume.get", "volume.list", "attachment.list"},
		prepare: func(w *world, n string) { w.publish(w.create(request(n, 1)).GetVolumeId(), "two") },
		call: func(ctx context.Context, w *world, n string) error {
			_, err := w.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: w.volumeID(n), NodeId: w.server("two")})
			return err
		},
		count: func(w *world, n string) int { return 1 - w.attachments(n) },
	},
	"ControllerUnpublishVolume from all nodes": {
		write: "attachment.delete", reads: []string{"volume.get", "volume.list", "attachment.list"},
		prepare: func(w *world, n string) { w.publish(w.create(request(n, 1)).GetVolumeId(), "two") },
		call: func(ctx context.Context, w *world, n string) error {
			_, err := w.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: w.volumeID(n)})
			return err
		},
		count: func(w *world, n string) int { return 1 - w.attachments(n) },
	},
	"ControllerExpandVolume": {
		write: "volume.extend", reads: []string{"volume.get", "volume.list"}, bad: "error_extending",
		prepare: func(w *world, n string) { w.create(request(n, 1)) },
		call: func(ctx context.Context, w *world, n string) error {
			_, err := w.ControllerExpandVolume(ctx, expandRequest(w.volumeID(n), 2))
			return err
		},
		count: func(w *world, n string) int { return int(w.volumesNamed(n)[0].Size) - 1 },
	},
	"ControllerExpandVolume of an attached volume": {
		write: "volume.extend", reads: []string{"volume.get", "volume.list"}, bad: "error_extending",
		prepare: func(w *world, n string) { w.publish(w.create(request(n, 1)).GetVolumeId(), "three") },
		call: func(ctx context.Context, w *world, n string) error {
			_, err := w.ControllerExpandVolume(ctx, expandRequest(w.volumeID(n), 2))
			return err
		},
		count: func(w *world, n string) int { return int(w.volumesNamed(n)[0].Size) - 1 },
	},
	"ControllerModifyVolume": {
		write: "volume.retype", reads: []string{"volume.get", "volume.list"}, bad: "error",
		prepare: func(w *world, n string) { w.create(request(n, 1)) },
		call: func(ctx context.Context, w *world, n string) error {
			_, err := w.ControllerModifyVolume(ctx, modifyRequest(w.volumeID(n), "type", "standard"))
			return err
		},
		count: func(w *world, n string) int { return w.typed(n, "standard") },
	},
	"ControllerModifyVolume of metadata": {
		write: "volume.metadata.update", reads: []string{"volume.get"},
		prepare: func(w *world, n string) { w.create(request(n, 1)) },
		call: func(ctx context.Context, w *world, n string) error {
			_, err := w.ControllerModifyVolume(ctx, modifyRequest(w.volumeID(n), "metadata/owner", "team a"))
			return err
		},
		count: func(w *world, n string) int {
			return map[string]int{"team a": 1}[w.volumesNamed(n)[0].Metadata["owner"]]
		},
	},
	"CreateSnapshot": {
		write: "snapshot.create", reads: []string{"snapshot.list", "snapshot.get"},
		prepare: func(w *world, n string) { w.create(request(n, 1)) },
		call: func(ctx context.Context, w *world, n string) error {
			_, err := w.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: n, SourceVolumeId: w.volumeID(n)})
			return err
		},
		count: func(w *world, n string) int { return w.copies(n) },
	},
	"CreateSnapshot as a backup": {
		write: "backup.create", reads: []string{"snapshot.list", "snapshot.get", "backup.list"}, bad: "error",
		prepare: func(w *world, n string) { w.create(request(n, 1)) },
		call: func(ctx context.Context, w *world, n string) error {
			req := &csi.CreateSnapshotRequest{Name: n, SourceVolumeId: w.volumeID(n), Parameters: map[string]string{"type": "backup"}}
			for {
				resp, err := w.CreateSnapshot(ctx, req)
				if err != nil || resp.GetSnapshot().GetReadyToUse() {
					return err
				}
				time.Sleep(20 * time.Millisecond)
			}
		},
		count: func(w *world, n string) int { return w.copies(n) },
	},
	"DeleteSnapshot": {
		write: "snapshot.delete", reads: []string{"snapshot.list", "snapshot.get"}, bad: "error_deleting",
		prepare: func(w *world, n string) { w.snapshot(n, w.create(request(n, 1)).GetVolumeId()) },
		call: func(ctx context.Context, w *world, n string) error {
			_, err := w.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: w.snapshotID(n)})
			return err
		},
		count: func(w *world, n string) int { return 1 - w.copies(n) },
	},
	"ListVolumes": {
		write: "volume.list", reads: []string{"volume.list"},
		prepare: func(w *world, n string) { w.create(request(n, 1)) },
		call: func(ctx context.Context, w *world, _ string) error {
			_, err := w.ListVolumes(ctx, &csi.ListVolumesRequest{})
			return err
		},
		count: func(*world, string) int { return 1 },
	},
	"ControllerGetVolume": {
		write: "volume.get", reads: []string{"volume.get"},
		prepare: func(w *world, n string) { w.create(request(n, 1)) },
		call: func(ctx context.Context, w *world, n string) error {
			_, err := w.ControllerGetVolume(ctx, &csi.ControllerGetVolumeRequest{VolumeId: w.volumeID(n)})
			return err
		},
		count: func(*world, string) int { return 1 },
	},
	"GetCapacity": {
		write: "quota.get", reads: []string{"quota.get", "zone.list", "type.list", "pool.list"},
		// What an earlier call has learnt is not to be at hand.
		prepare: func(w *world, _ string) { w.onlyCloud() },
		call: func(ctx context.Context, w *world, _ string) error {
			resp, err := w.GetCapacity(ctx, capacityOf("nova", "type", "standard"))
			// What the cloud doesn't tell sets no limit.
			if err == nil && resp.GetAvailableCapacity() < faultQuotaGiB*gib {
				return status.Errorf(codes.DataLoss, "%d bytes available", resp.GetAvailableCapacity())
			}
			return err
		},
		count: func(*world, string) int { return 1 },
	},
	"ValidateVolumeCapabilities": {
		write: "volume.get", reads: []string{"volume.get"},
		prepare: func(w *world, n string) { w.create(request(n, 1)) },
		call: func(ctx context.Context, w *world, n string) error {
			resp, err := w.ValidateVolumeCapabilities(ctx, &csi.ValidateVolumeCapabilitiesRequest{
				VolumeId: w.volumeID(n), VolumeCapabilities: []*csi.VolumeCapability{singleWriter},
			})
			if err == nil && resp.GetConfirmed() == nil {
				return status.Error(codes.DataLoss, resp.GetMessage())
			}
			return err
		},
		count: func(*world, string) int { return 1 },
	},
	"GetSnapshot": {
		write: "snapshot.get", reads: []string{"snapshot.get"},
		prepare: func(w *world, n string) { w.snapshot(n, w.create(request(n, 1)).GetVolumeId()) },
		call: func(ctx context.Context, w *world, n string) error {
			_, err := w.GetSnapshot(ctx, &csi.GetSnapshotRequest{SnapshotId: w.snapshotID(n)})
			return err
		},
		count: func(w *world, n string) int { return w.copies(n) },
	},
	"GetSnapshot of a backup": {
		write: "backup.get", reads: []string{"snapshot.get", "backup.get"},
		prepare: func(w *world, n string) { w.backup(n, w.create(request(n, 1)).GetVolumeId()) },
		call: func(ctx context.Context, w *world, n string) error {
			_, err := w.GetSnapshot(ctx, &csi.GetSnapshotRequest{SnapshotId: w.snapshotID(n)})
			return err
		},
		count: func(w *world, n string) int { return w.copies(n) },
	},
	"DeleteSnapshot of a backup": {
		write: "backup.delete", reads: []string{"snapshot.get", "backup.get"}, bad: "error_deleting",
		prepare: func(w *world, n string) { w.backup(n, w.create(request(n, 1)).GetVolumeId()) },
		call: func(ctx context.Context, w *world, n string) error {
			_, err := w.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: w.snapshotID(n)})
			return err
		},
		count: func(w *world, n string) int { return 1 - w.copies(n) },
	},
	"CreateVolume from a backup": {
		write: "volume.create", reads: []string{"volume.list", "volume.get", "snapshot.get", "backup.get"},
		prepare: func(w *world, n string) { w.backup("source of "+n, w.create(request("origin of "+n, 1)).GetVolumeId()) },
		call: func(ctx context.Context, w *world, n string) error {
			req := request(n, 1)
			req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
				Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: w.snapshotID("source of " + n)},
			}}
			_, err := w.CreateVolume(ctx, req)
			return err
		},
		count: func(w *world, n string) int { return w.usable(n) },
	},
	"ListSnapshots": {
		write: "snapshot.list", reads: []string{"snapshot.list", "backup.list"},
		call: func(ctx context.Context, w *world, _ string) error {
			_, err := w.ListSnapshots(ctx, &csi.ListSnapshotsRequest{})
			return err
		},
		count: func(*world, string) int { return 1 },
	},
}

// missingID is the id of what no longer exists.
const missingID = "00000000-0000-4000-8000-000000000000"

func named(name *string, want string) bool { return name != nil && *name == want }

func (w *world) volumesNamed(name string) []admin.Volume {
	w.Helper()
	var found []admin.Volume
	for _, v := range w.dump().Volumes {
		if named(v.Name, name) {
			found = append(found, v)
		}
	}
	return found
}

func (w *world) volumeID(name string) string {
	for _, v := range w.volumesNamed(name) {
		return v.ID
	}
	return missingID
}

// usable returns how many volumes of that name exist, provided that all can be
// used.
func (w *world) usable(name string) int {
	found := w.volumesNamed(name)
	for _, v := range found {
		if v.Status != "available" {
			w.Fatalf("volume %s has status %s", name, v.Status)
		}
	}
	return len(found)
}

// attachments returns how many servers have the volume, provided that Nova and
// Cinder agree. A moment for it is granted: a call that names no server cannot
// ask Nova about a server that Cinder has forgotten already.
func (w *world) attachments(name string) int {
	w.Helper()
	deadline := time.Now().Add(2 * time.Second)
	for {
		cinder, nova := w.lists(name)
		if cinder == nova {
			return nova
		}
		if time.Now().After(deadline) {
			w.Fatalf("Cinder has %d attachments, Nova %d", cinder, nova)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// lists returns how many attachments Cinder and Nova list.
func (w *world) lists(name string) (cinder, nova int) {
	d := w.dump()
	for _, v := range d.Volumes {
		if !named(v.Name, name) {
			continue
		}
		cinder = len(v.Attached())
		for _, s := range d.Servers {
			for _, disk := range s.Disks {
				if disk.VolumeID == v.ID {
					nova++
				}
			}
		}
	}
	return cinder, nova
}

// snapshotID returns the id of a snapshot or backup of that name.
func (w *world) snapshotID(name string) string {
	d := w.dump()
	for _, s := range d.Snapshots {
		if named(s.Name, name) {
			return s.ID
		}
	}
	for _, b := range d.Backups {
		if named(b.Name, name) {
			return b.ID
		}
	}
	return missingID
}

// backup makes a backup of a volume and waits until it is ready.
func (w *world) backup(name, volumeID string) {
	w.Helper()
	w.untilReady(&csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volumeID, Parameters: map[string]string{"type": "backup"}})
}

// untilReady repeats a request until what it asks for is ready.
func (w *world) untilReady(req *csi.CreateSnapshotRequest) {
	w.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		resp, err := w.CreateSnapshot(w.within(time.Minute), req)
		switch {
		case err != nil:
			w.Fatal(err)
		case resp.GetSnapshot().GetReadyToUse():
			return
		case time.Now().After(deadline):
			w.Fatalf("%s does not become ready", req.GetName())
		}
	}
}

// copies returns how many snapshots and backups of that name exist.
func (w *world) copies(name string) int {
	d, n := w.dump(), 0
	for _, s := range d.Snapshots {
		if named(s.Name, name) {
			n++
		}
	}
	for _, b := range d.Backups {
		if named(b.Name, name) {
			n++
		}
	}
	return n
}
