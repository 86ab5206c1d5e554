package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// isUninstalled: a pod doesn't notice that the driver is uninstalled; installed
// again, the driver takes care of the pod's volume as before.
func isUninstalled(s *scenario) {
	claim := s.claim("data", xfs)
	w := s.writer("writer", withClaim(claim))
	s.uninstall()
	w.neverStopped()
	s.must(s.install(s.Context()), "installing the driver again")
	s.editClaim(claim, "1Gi", "2Gi")
	s.roomAtLeast(w.pod, 2*gib)
	s.capacity(claim, "2Gi")
	w.neverStopped()
}

// leavesNothing: whoever deletes volumes, their copies and snapshots, waits until
// the volumes are gone and uninstalls the driver at once, has nothing left in the
// cluster that waits for it: no finalizer, no attachment, no CSI driver.
func leavesNothing(s *scenario) {
	s.comeAndGo()
	s.uninstall()
	// What others still do, as the garbage collector, they do without the driver.
	ctx, cancel := context.WithTimeout(s.Context(), settling)
	defer cancel()
	if err := repeat(ctx, s.nothingWaits); err != nil {
		s.Error(err)
	}
	s.must(s.install(s.Context()), "installing the driver again")
	s.fill(s.running("later", withClaim(s.claim("later", ext4))), dataDir+"/blob", 4)
}

// comeAndGo has the driver and its side containers put all their marks on
// objects: it attaches a volume, takes a snapshot, restores and clones. All of it
// is deleted at the same time, and it returns when the volumes are gone.
func (s *scenario) comeAndGo() {
	s.Helper()
	claim := s.claim("data", immediate)
	s.fill(s.running("pod", withClaim(claim)), dataDir+"/blob", 4)
	snapshot := s.snapshot("snapshot", claim)
	for _, copied := range []string{
		s.claim("restored", immediate, from("VolumeSnapshot", snapshot)), s.claim("clone", immediate, from("PersistentVolumeClaim", claim)),
	} {
		s.bound(copied)
	}
	volumes, err := s.persistentVolumes(s.Context())
	s.must(err, "listing the volumes")
	_, err = s.kubectl(s.Context(), nil, "delete", "--namespace", s.namespace, "--all", "--wait=false", "pods,volumesnapshots,persistentvolumeclaims")
	s.must(err, "deleting everything")
	for _, pv := range volumes {
		untilGone[corev1.PersistentVolume](s, s.kube.CoreV1().PersistentVolumes(), pv.Name)
	}
	s.Logf("%d volumes have come and gone", len(volumes))
}

// uninstall removes the release and waits until every node has forgotten the
// driver. It is installed again afterwards.
func (s *scenario) uninstall() {
	s.Helper()
	s.afterwards("installing the driver again", func(ctx context.Context) error { return s.install(ctx) })
	began := time.Now()
	s.must(s.cluster.Uninstall(s.Context()), "uninstalling the driver")
	for _, node := range s.cluster.Nodes {
		until(s, s.kube.StorageV1().CSINodes(), node.Name, "to forget the driver", func(n *storagev1.CSINode) error {
			for _, d := range n.Spec.Drivers {
				if d.Name == driverName {
					return fmt.Errorf("it is there as %s", d.NodeID)
				}
			}
			return nil
		})
	}
	// Kubernetes takes the controller's pods away after their Deployment.
	s.eventually("the driver's pods to be deleted", func(context.Context) error {
		if pods := s.driverPods(); len(pods) > 0 {
			return fmt.Errorf("pods %v are left", pods)
		}
		return nil
	})
	s.Logf("uninstalled in %v", time.Since(began).Round(time.Second))
}

// nothingWaits holds the cluster to having no object that needs the driver to go
// away, and nothing at all of the namespace.
func (s *scenario) nothingWaits(ctx context.Context) error {
	out, err := s.kubectl(ctx, nil, "get", "--all-namespaces", "--output=json",
		"pv,pvc,volumeattachments,csidrivers,csistoragecapacities,volumesnapshots,volumesnapshotcontents")
	if err != nil {
		return err
	}
	var list struct {
		Items []struct {
			Kind     string
			Metadata metav1.ObjectMeta
			Spec     struct{ Attacher, Driver string }
		}
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return err
	}
	var left []error
	for _, item := range list.Items {
		of := item.Metadata
		if item.Spec.Attacher == driverName || item.Spec.Driver == driverName || of.Name == driverName ||
			of.Namespace == s.namespace || strings.HasPrefix(of.Name, "csisc-") || slices.ContainsFunc(of.Finalizers, isOurs) {
			left = append(left, fmt.Errorf("%s %s/%s is left, finalizers %v", item.Kind, of.Namespace, of.Name, of.Finalizers))
		}
	}
	return errors.Join(left...)
}

// isOurs tells the finalizers that only the driver's side containers remove. The
// provisioner's are of two kinds: of a PersistentVolume, and of what is copied.
func isOurs(finalizer string) bool {
	return strings.Contains(finalizer, "cinder-csi") || strings.HasPrefix(finalizer, "external-") ||
		strings.HasPrefix(finalizer, "provisioner.storage.kubernetes.io/")
}
