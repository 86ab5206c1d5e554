package controller_test

import (
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

// Names that Cinder strips would make two volumes of one name, or one of two.
func TestANameThatCinderWouldStoreOtherwiseIsRefused(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	source := w.create(request("source", 1)).GetVolumeId()
	for _, name := range []string{" data", "data ", "data\t", "\ndata", " ", "\u00a0data", "data\u2003", "\x1fdata", "data\u0085"} {
		_, err := w.CreateVolume(w.within(time.Minute), request(name, 1))
		wantCode(t, err, codes.InvalidArgument, "white space")
		_, err = w.CreateSnapshot(w.within(time.Minute), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: source})
		wantCode(t, err, codes.InvalidArgument, "white space")
	}
	if d := w.dump(); len(d.Volumes) != 1 || len(d.Snapshots) != 0 {
		t.Errorf("%d volumes and %d snapshots", len(d.Volumes), len(d.Snapshots))
	}
	for range 2 {
		w.create(request("two words", 1))
	}
	if n := len(w.volumesNamed("two words")); n != 1 {
		t.Errorf("%d volumes", n)
	}
}

func formatted(fsType string, params map[string]string) *csi.CreateVolumeRequest {
	req := request("pvc-1", 1)
	req.Parameters = params
	req.VolumeCapabilities = []*csi.VolumeCapability{{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fsType}},
		AccessMode: singleWriter.GetAccessMode(),
	}}
	return req
}

// A filesystem that no node could make is refused before there is a volume for it.
func TestAFilesystemThatCanNeverBeMadeIsRefused(t *testing.T) {
	options := func(text string) map[string]string { return map[string]string{"mkfsOptions": text} }
	for name, c := range map[string]struct {
		fsType string
		params map[string]string
		fine   bool
	}{
		"none":                               {"ext4", nil, true},
		"an option":                          {"ext4", options("-m 1"), true},
		"an option, joined":                  {"ext4", options("-m1"), true},
		"one of XFS for XFS":                 {"xfs", options("-d agcount=4"), true},
		"one of XFS where the node chooses":  {"", options("-d agcount=4"), true},
		"one of XFS for ext4":                {"ext4", options("-d agcount=4"), false},
		"one that nobody has":                {"", options("--no-such-option"), false},
		"a device":                           {"ext4", options("/dev/sda"), false},
		"a value that mkfs refuses":          {"ext4", options("-m 101"), false},
		"a filesystem that nobody has":       {"ntfs", nil, false},
		"blocks of no power of two":          {"ext4", map[string]string{"blockSize": "3000"}, false},
		"blocks for a filesystem that can't": {"btrfs", map[string]string{"blockSize": "4096"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, devcloud.Instant())
			_, err := w.CreateVolume(w.within(time.Minute), formatted(c.fsType, c.params))
			if !c.fine {
				wantCode(t, err, codes.InvalidArgument)
			} else if err != nil {
				t.Fatal(err)
			}
			if n := len(w.dump().Volumes); n != map[bool]int{true: 1}[c.fine] {
				t.Errorf("%d volumes", n)
			}
		})
	}
	t.Run("not for a copy, which has its filesystem", func(t *testing.T) {
		w := newWorld(t, devcloud.Instant())
		req := formatted("ext4", options("-d agcount=4"))
		req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
			Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: w.create(request("source", 1)).GetVolumeId()},
		}}
		w.create(req)
	})
	t.Run("not for a raw block volume", func(t *testing.T) {
		w := newWorld(t, devcloud.Instant())
		req := formatted("", options("-d agcount=four"))
		req.VolumeCapabilities = []*csi.VolumeCapability{blockCapability(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER)}
		w.create(req)
	})
}

// The mark by which a volume is known as never published is on those alone that have
// no content, and nobody can set it.
func TestTheMarkOfAVolumeThatWasNeverPublished(t *testing.T) {
	const mark = "cinder.csi.openstack.org/never-published"
	w := newWorld(t, devcloud.Fast())
	v := w.create(request("pvc-1", 1)).GetVolumeId()
	snapshot := w.snapshot("snap", v).GetSnapshotId()
	w.backup("back", v)
	backup := w.dump().Backups[0].ID
	for name, source := range map[string]*csi.VolumeContentSource{
		"clone":     {Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: v}}},
		"restored":  {Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: snapshot}}},
		"recovered": {Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: backup}}},
	} {
		req := request(name, 1)
		req.VolumeContentSource = source
		w.create(req)
		if _, marked := w.volumesNamed(name)[0].Metadata[mark]; marked {
			t.Errorf("a volume that is %s is marked", name)
		}
	}
	if w.volumesNamed("pvc-1")[0].Metadata[mark] != "true" {
		t.Error("an empty volume isn't marked")
	}
	for _, key := range []string{mark, "Cinder.CSI.OpenStack.org/never-published", mark + " ", " " + mark, "CSI.storage.k8s.io/pvc/name", "ReadOnly", "src_backup_id "} {
		req := classRequest("pvc-2", map[string]string{"appendVolumeMetadata": `{"` + key + `": "false"}`})
		_, err := w.CreateVolume(w.within(time.Minute), req)
		wantCode(t, err, codes.InvalidArgument, "own")
		wantCode(t, w.modify(v, "metadata/"+key, "false"), codes.InvalidArgument, "own")
	}
}
