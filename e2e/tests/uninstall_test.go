package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

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
	s.must(s.cluster.Install(s.Context()), "installing the driver again")
	s.must(s.driverReady(s.Context()), "waiting for the driver")
	s.editClaim(claim, "1Gi", "2Gi")
	s.roomAtLeast(w.pod, 2*gib)
	s.capacity(claim, "2Gi")
	w.neverStopped()
}

// leavesNothing: when the volumes are gone and the driver is, nothing in the
// cluster waits for it any more: no finalizer, no attachment, no CSI driver.
func leavesNothing(s *scenario) {
	s.uninstall()
	left, err := s.waitingForTheDriver(s.Context())
	s.must(err, "reading the cluster")
	for _, what := range left {
		s.Error(what)
	}
	s.must(s.cluster.Install(s.Context()), "installing the driver again")
	s.must(s.driverReady(s.Context()), "waiting for the driver")
	s.fill(s.running("pod", withClaim(s.claim("data", ext4))), dataDir+"/blob", 4)
}

// uninstall removes the release and waits until every node has forgotten the
// driver. It is installed again afterwards.
func (s *scenario) uninstall() {
	s.Helper()
	s.afterwards("installing the driver again", func(ctx context.Context) error {
		return errors.Join(s.cluster.Install(ctx), s.driverReady(ctx))
	})
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
	if pods := s.driverPods(); len(pods) > 0 {
		s.Errorf("pods %v are left", pods)
	}
	s.Logf("uninstalled in %v", time.Since(began).Round(time.Second))
}

// waitingForTheDriver returns the objects that need the driver to go away.
func (s *scenario) waitingForTheDriver(ctx context.Context) ([]string, error) {
	out, err := s.kubectl(ctx, nil, "get", "--all-namespaces", "--output=json",
		"pv,pvc,volumeattachments,csidrivers,csistoragecapacities,volumesnapshots,volumesnapshotcontents")
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct {
			Kind     string
			Metadata metav1.ObjectMeta
			Spec     struct{ Attacher, Driver string }
		}
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, err
	}
	var left []string
	for _, item := range list.Items {
		ours := item.Spec.Attacher == driverName || item.Spec.Driver == driverName || item.Metadata.Name == driverName ||
			strings.HasPrefix(item.Metadata.Name, "csisc-")
		for _, f := range item.Metadata.Finalizers {
			ours = ours || strings.Contains(f, "cinder-csi") || strings.HasPrefix(f, "external-")
		}
		if ours {
			left = append(left, fmt.Sprintf("%s %s/%s is left, finalizers %v", item.Kind, item.Metadata.Namespace, item.Metadata.Name, item.Metadata.Finalizers))
		}
	}
	return left, nil
}
