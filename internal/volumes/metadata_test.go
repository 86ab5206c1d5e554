package volumes_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

func TestMetadataOfTheDriverAndTheRequestIsRecordedWithAllThatIsMade(t *testing.T) {
	r := overHTTP(t, volumes.Options{Metadata: map[string]string{"owner": "ops", "cost center": "7", "type": "gold", "csi.storage.k8s.io/pvc/name": "no"}})
	own := map[string]string{"owner": "team-a", "csi.storage.k8s.io/pvc/name": "data"}
	want := map[string]string{"owner": "team-a", "cost center": "7", "type": "gold", "csi.storage.k8s.io/pvc/name": "data", volumes.ClusterKey: cluster}
	v := r.create(volumes.CreateRequest{Name: "pvc-1", Metadata: own})
	if _, err := r.CreateSnapshot(r.within(time.Minute), volumes.SnapshotRequest{Name: "snap-1", VolumeID: v.ID, Metadata: own}); err != nil {
		t.Fatal(err)
	}
	r.backup(volumes.SnapshotRequest{Name: "backup-1", VolumeID: v.ID, Metadata: own})
	d := r.dump()
	for kind, have := range map[string]map[string]string{
		"volume": d.Volumes[0].Metadata, "snapshot": d.Snapshots[0].Metadata, "backup": d.Backups[0].Metadata,
	} {
		for key, value := range want {
			if have[key] != value {
				t.Errorf("%s has %v, want %s=%s", kind, have, key, value)
			}
		}
	}
	if len(own) != 2 {
		t.Errorf("the caller's map has become %v", own)
	}
}

func TestMetadataThatCannotBeRecordedIsRefusedBeforeAnythingIsMade(t *testing.T) {
	long := strings.Repeat("ü", 256)
	for name, test := range map[string]struct {
		key, value, says string
	}{
		"an empty key":                 {"", "x", "1 to 255"},
		"a key that is too long":       {strings.Repeat("k", 256), "x", "1 to 255"},
		"a key with other letters":     {"besitzer-ä", "x", "1 to 255"},
		"a key with an equals sign":    {"a=b", "x", "1 to 255"},
		"a value that is too long":     {"k", long, "256 characters"},
		"the driver's own key":         {volumes.ClusterKey, "other", "the driver's own"},
		"its own in capitals":          {"Cinder.CSI.openstack.org/never-published", "true", "the driver's own"},
		"its own with blanks about it": {" cinder.csi.openstack.org/cluster ", "other", "the driver's own"},
		"what Cinder writes":           {"src_backup_id", "x", "Cinder's own"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := map[string]string{test.key: test.value}
			check := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, cloud.ErrInvalid) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("%s: got %v, want the words %q", what, err, test.says)
				}
			}
			in(t, func(w *world) {
				v := w.create(volumes.CreateRequest{Name: "pvc-0"})
				w.cloud.Requests()
				_, err := w.service.Create(w.Context(), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1, Metadata: bad})
				check("volume", err)
				check("change", w.service.Modify(w.Context(), v.ID, volumes.ModifyRequest{Metadata: bad}))
				for _, backup := range []bool{false, true} {
					_, err = w.service.CreateSnapshot(w.Context(), volumes.SnapshotRequest{Name: "s", VolumeID: v.ID, Backup: backup, Metadata: bad})
					check("snapshot", err)
				}
				tagging := volumes.New(w.cloud, volumes.Options{Cluster: cluster, Metadata: bad})
				_, err = tagging.Create(w.Context(), volumes.CreateRequest{Name: "pvc-1", SizeGiB: 1})
				check("driver", err)
				if got := w.cloud.Requests(); len(got) != 0 {
					t.Errorf("requests: %v", got)
				}
			})
		})
	}
	if err := volumes.CheckMetadata(map[string]string{"a b:c.d/e_f-9": long[:255*2], "csi.storage.k8s.io/pv/name": ""}); err != nil {
		t.Error(err)
	}
}
