package tests

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/backups"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/snapshots"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDropIn is what clusters bring along that were made with the Cinder driver
// of cloud-provider-openstack: its objects are served unchanged, and what
// started it starts this driver.
func TestDropIn(t *testing.T) {
	sideBySide(t, []story{
		{"a volume of the reference driver is served, grown and deleted", servesReferenceVolume},
		{"a snapshot of the reference driver is restored and deleted", servesReferenceSnapshot},
		{"a backup of the reference driver is restored and deleted", servesReferenceBackup},
		{"every node is known by the id of its server and the zone that it is in", nodesAreKnown},
		{"the arguments of the reference driver's manifests start the images", startsWithReferenceArguments},
		{"a node plugin that is told of a cloud.conf that is missing names it", namesMissingConfig},
	})
}

// The marks that the reference driver leaves in the cloud.
const (
	referenceDescription = "Created by OpenStack Cinder CSI driver"
	clusterKey           = "cinder.csi.openstack.org/cluster"
	resizeRequiredKey    = "cinder.csi.openstack.org/resizeRequired"
	affinityKey          = "cinder.csi.openstack.org/affinity"
	identityKey          = "storage.kubernetes.io/csiProvisionerIdentity"
)

// referenceVolume is a PersistentVolume as the reference driver and its sidecars
// wrote it for a volume that was restored from a snapshot near another one.
func (s *scenario) referenceVolume(name, id, zone string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Annotations: map[string]string{
				provisionedBy: driverName,
				"volume.kubernetes.io/provisioner-deletion-secret-name":      "",
				"volume.kubernetes.io/provisioner-deletion-secret-namespace": "",
			},
			Finalizers: []string{
				"external-provisioner.volume.kubernetes.io/finalizer", "kubernetes.io/pv-protection",
				"external-attacher/cinder-csi-openstack-org",
			},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: driverName, VolumeHandle: id, FSType: "xfs",
				VolumeAttributes: map[string]string{
					identityKey: "1700000000000-8081-cinder.csi.openstack.org", resizeRequiredKey: "true", affinityKey: uuid.NewString(),
				},
			}},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			NodeAffinity:                  affinityTo(zoneKey, zone),
		},
	}
}

// servesReferenceVolume: such a volume is used where its zone is, grown while it
// is written, moved, and deleted with its claim, finalizers and all.
func servesReferenceVolume(s *scenario) {
	here, there, err := s.twins()
	s.must(err, "choosing nodes")
	zone := s.zoneOf(here)
	name := "pvc-" + uuid.NewString()
	id := s.volumeBefore(volumes.CreateOpts{
		Name: name, Size: 1, AvailabilityZone: zone, Description: referenceDescription,
		Metadata: map[string]string{clusterKey: "kubernetes", claimNameKey: "data", claimNamespaceKey: s.namespace, "csi.storage.k8s.io/pv/name": name},
	})
	s.volumeFor("data", s.class(xfs), s.referenceVolume(name, id, zone))

	w := s.writer("writer", withClaim("data"), onNode(here))
	blob := s.fill(w.pod, dataDir+"/blob", 16)
	s.isAttachedTo(id, here)
	s.editClaim("data", "1Gi", "2Gi")
	s.roomAtLeast(w.pod, 2*gib)
	s.capacity("data", "2Gi")
	w.neverStopped()
	s.deletePod(w.pod)
	s.same(s.running("next", withClaim("data"), onNode(there)), dataDir+"/blob", 16, blob)
	s.isAttachedTo(id, there)
	s.deletePod("next")
	s.deleteClaim("data")
	untilGone[corev1.PersistentVolume](s, s.kube.CoreV1().PersistentVolumes(), name)
	s.volumeLeaves(id)
}

// filled makes a claim with something on its volume that no pod uses, and
// returns the cloud's id of the volume and the checksum of the thing.
func (s *scenario) filled() (id, blob string) {
	s.Helper()
	claim := s.claim("original", ext4)
	blob = s.fill(s.running("original", withClaim(claim)), dataDir+"/blob", 16)
	s.deletePod("original")
	id = s.cloudVolume(claim).ID
	s.isAttachedTo(id)
	return id, blob
}

// servesReferenceSnapshot: the handle is the id of Cinder's snapshot.
func servesReferenceSnapshot(s *scenario) {
	id, blob := s.filled()
	client, err := s.cinder(s.Context())
	s.must(err, "connecting to Cinder")
	snap, err := snapshots.Create(s.Context(), client, snapshots.CreateOpts{
		VolumeID: id, Name: "snapshot-" + uuid.NewString(), Description: referenceDescription, Metadata: map[string]string{clusterKey: "kubernetes"},
	}).Extract()
	s.must(err, "making a snapshot of volume %s", id)
	s.afterwards("removing snapshot "+snap.ID, func(ctx context.Context) error {
		return unlessGone(snapshots.Delete(ctx, client, snap.ID).ExtractErr())
	})
	s.eventually("snapshot "+snap.ID+" to be available", func(ctx context.Context) error {
		now, err := snapshots.Get(ctx, client, snap.ID).Extract()
		if err == nil && now.Status != "available" {
			err = fmt.Errorf("it is %s", now.Status)
		}
		return err
	})
	s.restores(snap.ID, id, blob)
	s.eventually("snapshot "+snap.ID+" to leave the cloud", func(ctx context.Context) error {
		return leftCinder(snapshots.Get(ctx, client, snap.ID).Err)
	})
}

// servesReferenceBackup: the handle is the id of Cinder's backup, which nothing
// tells from that of a snapshot.
func servesReferenceBackup(s *scenario) {
	id, blob := s.filled()
	client, err := s.cinder(s.Context())
	s.must(err, "connecting to Cinder")
	backup, err := backups.Create(s.Context(), client, backups.CreateOpts{
		VolumeID: id, Name: "snapshot-" + uuid.NewString(), Description: referenceDescription,
		Metadata: map[string]string{clusterKey: "kubernetes", "type": "backup"},
	}).Extract()
	s.must(err, "making a backup of volume %s", id)
	s.afterwards("removing backup "+backup.ID, func(ctx context.Context) error {
		return unlessGone(backups.Delete(ctx, client, backup.ID).ExtractErr())
	})
	s.eventually("backup "+backup.ID+" to be available", func(ctx context.Context) error {
		now, err := backups.Get(ctx, client, backup.ID).Extract()
		if err == nil && now.Status != "available" {
			err = fmt.Errorf("it is %s", now.Status)
		}
		return err
	})
	s.restores(backup.ID, id, blob)
	s.eventually("backup "+backup.ID+" to leave the cloud", func(ctx context.Context) error {
		return leftCinder(backups.Get(ctx, client, backup.ID).Err)
	})
}

// restores makes the Kubernetes objects for a handle as they are in a cluster of
// the reference driver, restores a volume from it, and deletes them.
func (s *scenario) restores(handle, source, blob string) {
	s.Helper()
	driverClass, mode := s.class("snapshots"), corev1.PersistentVolumeFilesystem
	content := s.class("content-" + handle[:8])
	contents := s.snapshots.SnapshotV1().VolumeSnapshotContents()
	_, err := contents.Create(s.Context(), &snapshotv1.VolumeSnapshotContent{
		ObjectMeta: metav1.ObjectMeta{Name: content},
		Spec: snapshotv1.VolumeSnapshotContentSpec{
			Driver: driverName, DeletionPolicy: snapshotv1.VolumeSnapshotContentDelete, VolumeSnapshotClassName: &driverClass, SourceVolumeMode: &mode,
			VolumeSnapshotRef: corev1.ObjectReference{Namespace: s.namespace, Name: "before"},
			Source:            snapshotv1.VolumeSnapshotContentSource{SnapshotHandle: &handle},
		},
	}, metav1.CreateOptions{})
	s.must(err, "making snapshot content %s", content)
	client := s.snapshots.SnapshotV1().VolumeSnapshots(s.namespace)
	_, err = client.Create(s.Context(), &snapshotv1.VolumeSnapshot{
		ObjectMeta: metav1.ObjectMeta{Name: "before"},
		Spec: snapshotv1.VolumeSnapshotSpec{
			VolumeSnapshotClassName: &driverClass, Source: snapshotv1.VolumeSnapshotSource{VolumeSnapshotContentName: &content},
		},
	}, metav1.CreateOptions{})
	s.must(err, "making snapshot before")
	until(s, client, "before", "to be usable", func(snap *snapshotv1.VolumeSnapshot) error {
		switch {
		case snap.Status == nil || snap.Status.ReadyToUse == nil:
			return errors.New("it has no status")
		case snap.Status.Error != nil && snap.Status.Error.Message != nil:
			return errors.New(*snap.Status.Error.Message)
		case !*snap.Status.ReadyToUse || snap.Status.RestoreSize == nil || snap.Status.RestoreSize.Value() != gib:
			return fmt.Errorf("ready %t, restore size %v", *snap.Status.ReadyToUse, snap.Status.RestoreSize)
		}
		return nil
	})
	restored := s.running("restored", withClaim(s.claim("restored", ext4, from("VolumeSnapshot", "before"))))
	s.same(restored, dataDir+"/blob", 16, blob)
	if v := s.cloudVolume("restored"); v.ID == source {
		s.Errorf("the restored volume is the original, %s", source)
	}
	s.deletePod(restored)
	s.deleteClaim("restored")
	s.deleteSnapshot("before")
}

// unlessGone passes errors on, but for those that say that there is nothing.
func unlessGone(err error) error {
	if gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// leftCinder wants an answer that says that there is nothing.
func leftCinder(err error) error {
	switch {
	case gophercloud.ResponseCodeIs(err, http.StatusNotFound):
		return nil
	case err != nil:
		return err
	}
	return errors.New("it is still there")
}

// nodesAreKnown: VolumeAttachments, PersistentVolumes and the attacher's records
// of before are about these ids and zones.
func nodesAreKnown(s *scenario) {
	for _, n := range s.cluster.Nodes {
		s.registeredOn(n.Name)
		csiNode, err := s.kube.StorageV1().CSINodes().Get(s.Context(), n.Name, metav1.GetOptions{})
		s.must(err, "reading CSINode %s", n.Name)
		for _, d := range csiNode.Spec.Drivers {
			if d.Name != driverName {
				continue
			}
			if d.NodeID != n.ServerID || len(d.TopologyKeys) != 1 || d.TopologyKeys[0] != zoneKey {
				s.Errorf("node %s has id %s and topology keys %v; its server is %s, the key is %s", n.Name, d.NodeID, d.TopologyKeys, n.ServerID, zoneKey)
			}
		}
		node, err := s.kube.CoreV1().Nodes().Get(s.Context(), n.Name, metav1.GetOptions{})
		s.must(err, "reading node %s", n.Name)
		if zone := node.Labels[zoneKey]; zone != n.Zone {
			s.Errorf("node %s has %s=%s, its server is in %s", n.Name, zoneKey, zone, n.Zone)
		}
	}
}
