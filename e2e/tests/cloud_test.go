package tests

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

// By these keys of their metadata the cloud's volumes and snapshots are known
// for what they were made for.
const (
	claimNamespaceKey    = "csi.storage.k8s.io/pvc/namespace"
	claimNameKey         = "csi.storage.k8s.io/pvc/name"
	snapshotNamespaceKey = "csi.storage.k8s.io/volumesnapshot/namespace"
)

// cloudVolumes returns the volumes that the cloud has for claims of the namespace.
func (s *scenario) cloudVolumes(ctx context.Context) ([]admin.Volume, error) {
	all, err := s.cloud.Volumes(ctx)
	return slices.DeleteFunc(all, func(v admin.Volume) bool { return v.Metadata[claimNamespaceKey] != s.namespace }), err
}

// cloudVolume returns the cloud's volume for a claim; there must be exactly one.
func (s *scenario) cloudVolume(claim string) admin.Volume {
	s.Helper()
	all, err := s.cloudVolumes(s.Context())
	s.must(err, "asking the cloud for its volumes")
	all = slices.DeleteFunc(all, func(v admin.Volume) bool { return v.Metadata[claimNameKey] != claim })
	if len(all) != 1 {
		s.Fatalf("the cloud has %d volumes for claim %s, want one: %+v", len(all), claim, all)
	}
	return all[0]
}

// nothingInTheCloud holds the cloud to knowing nothing of the namespace, nor of
// its volumes: no volume, snapshot, backup or attachment, no file.
func (s *scenario) nothingInTheCloud(ctx context.Context, volumes []corev1.PersistentVolume) error {
	var handles []string
	for _, pv := range volumes {
		handles = append(handles, handleOf(pv))
	}
	// All deletions were answered for when their objects went. What is allowed
	// for is a creation that nobody waits for any more.
	ctx, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	return repeat(ctx, func(ctx context.Context) error {
		dump, err := s.cloud.Dump(ctx)
		if err != nil {
			return err
		}
		return leftIn(dump, s.namespace, handles)
	})
}

// leftIn tells what a cloud has left of a namespace and of some volumes.
func leftIn(dump admin.Dump, namespace string, handles []string) error {
	var left []error
	say := func(format string, args ...any) { left = append(left, fmt.Errorf(format, args...)) }
	known := func(id string) bool { return id != "" && slices.Contains(handles, id) }
	for _, v := range dump.Volumes {
		if v.Metadata[claimNamespaceKey] == namespace || known(v.ID) {
			say("the cloud still has volume %s of claim %s, status %s, attachments %v", v.ID, v.Metadata[claimNameKey], v.Status, v.Attachments)
		}
	}
	for _, snap := range dump.Snapshots {
		if snap.Metadata[snapshotNamespaceKey] == namespace || known(snap.VolumeID) {
			say("the cloud still has snapshot %s of volume %s, status %s", snap.ID, snap.VolumeID, snap.Status)
		}
	}
	for _, b := range dump.Backups {
		if b.Metadata[snapshotNamespaceKey] == namespace || known(b.VolumeID) {
			say("the cloud still has backup %s of volume %s, status %s", b.ID, b.VolumeID, b.Status)
		}
	}
	for _, server := range dump.Servers {
		for _, d := range server.Disks {
			if known(d.VolumeID) {
				say("server %s still has volume %s as %s", server.Name, d.VolumeID, d.Device)
			}
		}
	}
	for _, file := range dump.Files {
		if slices.ContainsFunc(handles, func(id string) bool { return id != "" && strings.Contains(file, id) }) {
			say("the backend still has %s", file)
		}
	}
	return errors.Join(left...)
}
