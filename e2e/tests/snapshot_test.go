package tests

import (
	"context"
	"errors"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// copies: a snapshot of a volume in use is restored, also to a larger volume,
// and the restored volume is cloned; all hold what was written before.
func copies(s *scenario, fs string) {
	claim := s.claim("original", fs)
	original := s.running("original", withClaim(claim))
	blob := s.fill(original, dataDir+"/blob", 16)
	snapshot := s.snapshot("snapshot", claim)
	later := s.fill(original, dataDir+"/blob", 16)

	restored := s.running("restored", withClaim(s.claim("restored", fs, from("VolumeSnapshot", snapshot))))
	s.same(restored, dataDir+"/blob", 16, blob)
	larger := s.running("larger", withClaim(s.claim("larger", fs, from("VolumeSnapshot", snapshot), ofSize("2Gi"))))
	s.same(larger, dataDir+"/blob", 16, blob)
	s.roomAtLeast(larger, 2*gib)
	s.capacity("larger", "2Gi")
	clone := s.running("clone", withClaim(s.claim("clone", fs, from("PersistentVolumeClaim", "restored"))))
	s.same(clone, dataDir+"/blob", 16, blob)

	// Each goes its own way.
	s.fill(clone, dataDir+"/blob", 8)
	s.same(restored, dataDir+"/blob", 16, blob)
	s.same(original, dataDir+"/blob", 16, later)
	s.deleteSnapshot(snapshot)
}

// snapshot makes a VolumeSnapshot of a claim and waits until it can be used.
func (s *scenario) snapshot(name, claim string) string {
	s.Helper()
	class := s.class("snapshots")
	client := s.snapshots.SnapshotV1().VolumeSnapshots(s.namespace)
	_, err := client.Create(s.Context(), &snapshotv1.VolumeSnapshot{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: snapshotv1.VolumeSnapshotSpec{
			VolumeSnapshotClassName: &class, Source: snapshotv1.VolumeSnapshotSource{PersistentVolumeClaimName: &claim},
		},
	}, metav1.CreateOptions{})
	s.must(err, "making snapshot %s", name)
	until(s, client, name, "to be usable", func(snap *snapshotv1.VolumeSnapshot) error {
		switch {
		case snap.Status == nil:
			return errors.New("it has no status")
		case snap.Status.Error != nil && snap.Status.Error.Message != nil:
			return errors.New(*snap.Status.Error.Message)
		case snap.Status.ReadyToUse == nil || !*snap.Status.ReadyToUse:
			return errors.New("it is not ready")
		}
		return nil
	})
	return name
}

// deleteSnapshot deletes a VolumeSnapshot and waits until it and the cloud's
// snapshot are gone.
func (s *scenario) deleteSnapshot(name string) {
	s.Helper()
	client := s.snapshots.SnapshotV1().VolumeSnapshots(s.namespace)
	snap, err := client.Get(s.Context(), name, metav1.GetOptions{})
	s.must(err, "reading snapshot %s", name)
	s.must(client.Delete(s.Context(), name, metav1.DeleteOptions{}), "deleting snapshot %s", name)
	if snap.Status != nil && snap.Status.BoundVolumeSnapshotContentName != nil {
		untilGone[snapshotv1.VolumeSnapshotContent](s, s.snapshots.SnapshotV1().VolumeSnapshotContents(), *snap.Status.BoundVolumeSnapshotContentName)
	}
	untilGone[snapshotv1.VolumeSnapshot](s, client, name)
}

// outlives: a volume whose claim is deleted stays for as long as it has a
// snapshot, the driver says that this is the reason, and then it goes.
func outlives(s *scenario) {
	claim := s.claim("data", immediate)
	pv := s.bound(claim)
	snapshot := s.snapshot("snapshot", claim)
	s.deleteClaim(claim)
	s.eventually("the driver to say that it has snapshots", func(ctx context.Context) error {
		return s.told(ctx, metav1.NamespaceDefault, pv.Name, "VolumeFailedDelete", "has snapshots: 1")
	})
	s.deleteSnapshot(snapshot)
	untilGone[corev1.PersistentVolume](s, s.kube.CoreV1().PersistentVolumes(), pv.Name)
}
