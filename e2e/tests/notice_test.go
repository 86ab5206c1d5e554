package tests

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

// isNoticed: a cloud that fails is told of in an event of the controller's pod, once, and
// so is its end.
func isNoticed(s *scenario) {
	s.afterwards("having no events", func(ctx context.Context) error { return s.install(ctx) })
	s.must(s.install(s.Context(), "--set", "events.enabled=true"), "having events")
	s.afterwards("letting the cloud work", s.cloud.ClearFaults)
	s.must(s.cloud.SetFaults(s.Context(), admin.Fault{ID: "down", Before: http.StatusServiceUnavailable}), "taking the cloud down")
	s.claim("data", immediate)
	s.eventually("an event that the cloud is down", func(ctx context.Context) error { return s.noticed(ctx, "CloudUnavailable") })
	s.must(s.cloud.ClearFaults(s.Context()), "letting the cloud work")
	s.bound("data")
	s.eventually("an event that the cloud works", func(ctx context.Context) error { return s.noticed(ctx, "CloudAvailable") })
	out, err := s.kubectl(s.Context(), nil, "get", "events", "--namespace", driverNamespace, "--sort-by=.lastTimestamp",
		"--field-selector=involvedObject.kind=Pod", "--output=custom-columns=TYPE:.type,REASON:.reason,COUNT:.count,OBJECT:.involvedObject.name,MESSAGE:.message")
	s.must(err, "kubectl get events")
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "REASON") || strings.Contains(line, "Cloud") {
			s.Logf("%s", strings.TrimRight(line, "\n"))
		}
	}
}

// noticed wants one event for each controller that has something to tell.
func (s *scenario) noticed(ctx context.Context, reason string) error {
	list, err := s.kube.CoreV1().Events(driverNamespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=" + reason})
	if err != nil {
		return err
	}
	of := map[string]int{}
	for _, e := range list.Items {
		if e.LastTimestamp.Before(&metav1.Time{Time: s.began}) {
			continue // of an earlier run in this cluster
		}
		pod, err := s.kube.CoreV1().Pods(driverNamespace).Get(ctx, e.InvolvedObject.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if pod.UID != e.InvolvedObject.UID || !strings.HasPrefix(pod.Name, controllerName+"-") {
			return fmt.Errorf("the event is about %+v", e.InvolvedObject)
		}
		if of[pod.Name]++; of[pod.Name] > 1 {
			return fmt.Errorf("there are %d events %s of %s", of[pod.Name], reason, pod.Name)
		}
	}
	if len(of) == 0 {
		return fmt.Errorf("there is no event %s", reason)
	}
	return nil
}
