package tests

import (
	"context"
	"maps"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// isUpgraded: "helm upgrade" replaces every pod of the driver while a pod
// writes, which doesn't notice; and its volume is then the new pods' to grow.
func isUpgraded(s *scenario) {
	claim := s.claim("data", xfs)
	w := s.writer("writer", withClaim(claim))
	before, driver := w.advances(), s.driverPods()
	s.afterwards("going back to the first release", func(ctx context.Context) error { return s.install(ctx) })

	began := time.Now()
	s.must(s.install(s.Context(), "--set", "logging.verbosity=3"), "upgrading the driver")
	took := time.Since(began).Round(time.Second)
	w.neverStopped()
	after := s.driverPods()
	for uid, name := range after {
		if _, same := driver[uid]; same {
			s.Errorf("pod %s was not replaced", name)
		}
	}
	s.Logf("%d pods took the place of %d in %v; %d records were written meanwhile, none failed", len(after), len(driver), took, w.advances()-before)

	s.editClaim(claim, "1Gi", "2Gi")
	s.roomAtLeast(w.pod, 2*gib)
	w.neverStopped()
}

// driverPods returns the names of the driver's pods that aren't about to go, by
// their ids.
func (s *scenario) driverPods() map[string]string {
	s.Helper()
	list, err := s.kube.CoreV1().Pods(driverNamespace).List(s.Context(), metav1.ListOptions{})
	s.must(err, "listing the driver's pods")
	names := map[string]string{}
	for _, p := range list.Items {
		names[string(p.UID)] = p.Name
	}
	maps.DeleteFunc(names, func(_, name string) bool {
		return !strings.HasPrefix(name, controllerName+"-") && !strings.HasPrefix(name, nodeName+"-")
	})
	for _, p := range list.Items {
		if p.DeletionTimestamp != nil {
			delete(names, string(p.UID))
		}
	}
	return names
}
