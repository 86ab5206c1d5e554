package tests

import (
	"context"
	"errors"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The classes of this run, by what makes them different. Unless told otherwise
// they wait for a consumer, grow, and delete.
const (
	ext4        = "ext4"
	xfs         = "xfs"
	btrfs       = "btrfs"
	immediate   = "immediate" // doesn't wait for a consumer
	retain      = "retain"    // keeps the volume when the claim goes
	standard    = "standard"  // of the cloud's volume type "standard"
	multiattach = "multiattach"
)

// runLabel marks what belongs to a run.
const runLabel = "cinder-csi-e2e"

// class returns the full name of a class of this run.
func (e *environment) class(short string) string { return "e2e-" + e.id + "-" + short }

// marked returns the metadata of a cluster-wide object of this run.
func (e *environment) marked(short string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: e.class(short), Labels: map[string]string{runLabel: e.id}}
}

func (e *environment) storageClasses() []*storagev1.StorageClass {
	var all []*storagev1.StorageClass
	add := func(short string, parameters map[string]string) *storagev1.StorageClass {
		wait, yes, remove := storagev1.VolumeBindingWaitForFirstConsumer, true, corev1.PersistentVolumeReclaimDelete
		c := &storagev1.StorageClass{
			ObjectMeta: e.marked(short), Provisioner: driverName, Parameters: parameters,
			VolumeBindingMode: &wait, AllowVolumeExpansion: &yes, ReclaimPolicy: &remove,
		}
		all = append(all, c)
		return c
	}
	filesystem := func(name string) map[string]string { return map[string]string{"csi.storage.k8s.io/fstype": name} }
	add(ext4, filesystem("ext4"))
	add(xfs, filesystem("xfs"))
	add(btrfs, filesystem("btrfs"))
	add(standard, map[string]string{"type": "standard"})
	add(multiattach, map[string]string{"type": "multiattach"})
	now := storagev1.VolumeBindingImmediate
	add(immediate, nil).VolumeBindingMode = &now
	keep := corev1.PersistentVolumeReclaimRetain
	add(retain, nil).ReclaimPolicy = &keep
	return all
}

func (e *environment) makeClasses(ctx context.Context) error {
	for _, c := range e.storageClasses() {
		if _, err := e.kube.StorageV1().StorageClasses().Create(ctx, c, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	_, err := e.snapshots.SnapshotV1().VolumeSnapshotClasses().Create(ctx, &snapshotv1.VolumeSnapshotClass{
		ObjectMeta: e.marked("snapshots"), Driver: driverName, DeletionPolicy: snapshotv1.VolumeSnapshotContentDelete,
	}, metav1.CreateOptions{})
	return err
}

func (e *environment) removeClasses(ctx context.Context) error {
	ours := metav1.ListOptions{LabelSelector: runLabel + "=" + e.id}
	return errors.Join(
		e.kube.StorageV1().StorageClasses().DeleteCollection(ctx, metav1.DeleteOptions{}, ours),
		e.kube.StorageV1().VolumeAttributesClasses().DeleteCollection(ctx, metav1.DeleteOptions{}, ours),
		e.snapshots.SnapshotV1().VolumeSnapshotClasses().DeleteCollection(ctx, metav1.DeleteOptions{}, ours),
	)
}

// storageClass makes one more class; it goes with the run.
func (s *scenario) storageClass(short string, change func(*storagev1.StorageClass)) string {
	s.Helper()
	wait, yes := storagev1.VolumeBindingWaitForFirstConsumer, true
	c := &storagev1.StorageClass{ObjectMeta: s.marked(short), Provisioner: driverName, VolumeBindingMode: &wait, AllowVolumeExpansion: &yes}
	change(c)
	_, err := s.kube.StorageV1().StorageClasses().Create(s.Context(), c, metav1.CreateOptions{})
	s.must(err, "making StorageClass %s", c.Name)
	return short
}
