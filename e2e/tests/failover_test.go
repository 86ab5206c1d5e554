package tests

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

// provisionerLease is the lease by which the replicas agree on who makes volumes.
const provisionerLease = "cinder-csi-openstack-org"

// leaseNames are all leases of the replicas, one of each side container.
func leaseNames() []string {
	return []string{
		provisionerLease, "external-attacher-leader-" + provisionerLease, "external-resizer-" + provisionerLease,
		"external-snapshotter-leader-" + provisionerLease,
	}
}

// handsOver: a leader that is told to end, as when its node is drained, gives its leases
// up, so that another takes them before they expire, and works.
func handsOver(s *scenario) {
	leases := s.kube.CoordinationV1().Leases(driverNamespace)
	held := map[string]*coordinationv1.Lease{}
	var pod string
	for _, name := range leaseNames() {
		held[name] = until(s, leases, name, "to be held by a pod that runs", func(l *coordinationv1.Lease) error {
			if l.Spec.HolderIdentity == nil || l.Spec.RenewTime == nil || l.Spec.LeaseDurationSeconds == nil {
				return errors.New("nobody holds it")
			}
			leader, err := s.podOf(s.Context(), *l.Spec.HolderIdentity)
			if pod == "" {
				pod = leader
			}
			return err
		})
	}
	begun := time.Now()
	s.must(s.kube.CoreV1().Pods(driverNamespace).Delete(s.Context(), pod, metav1.DeleteOptions{}), "ending %s", pod)
	for _, name := range leaseNames() {
		before := held[name]
		if !strings.HasPrefix(*before.Spec.HolderIdentity, pod) {
			continue // another replica's
		}
		now := until(s, leases, name, "to be held by another pod than "+pod, func(l *coordinationv1.Lease) error {
			if l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity == "" || strings.HasPrefix(*l.Spec.HolderIdentity, pod) {
				return fmt.Errorf("it is held by %v", l.Spec.HolderIdentity)
			}
			return nil
		})
		s.Logf("%s: another leads %v after the leader was told to end", name, now.Spec.AcquireTime.Sub(begun).Round(10*time.Millisecond))
		expiry := before.Spec.RenewTime.Add(time.Duration(*before.Spec.LeaseDurationSeconds) * time.Second)
		if !now.Spec.AcquireTime.Time.Before(expiry) {
			s.Errorf("%s was taken at %v, and not given up: it had expired at %v", name, now.Spec.AcquireTime, expiry)
		}
	}
	s.claim("data", immediate)
	s.bound("data")
}

// losesNone: the leader dies while twenty volumes are being made: some are done,
// some are accepted by the cloud and not done, some are not accepted yet.
// Another takes over; each claim gets one volume and the cloud has no other.
func losesNone(s *scenario) {
	const done, accepted, refused = 5, 10, 5
	const claims = done + accepted + refused
	leases := s.kube.CoordinationV1().Leases(driverNamespace)
	var leader, pod string
	// A leader that has gone holds the lease until another takes it.
	until(s, leases, provisionerLease, "to be held by a pod that runs", func(l *coordinationv1.Lease) (err error) {
		if l.Spec.HolderIdentity == nil {
			return errors.New("nobody holds it")
		}
		leader = *l.Spec.HolderIdentity
		pod, err = s.podOf(s.Context(), leader)
		return err
	})

	s.afterwards("letting the cloud work", s.cloud.ClearFaults)
	s.must(s.cloud.SetFaults(s.Context(),
		admin.Fault{ID: "hang", Operation: "volume.create", Skip: done, Times: accepted, Stuck: true},
		// It is not shown the requests that the first has hit.
		admin.Fault{ID: "refuse", Operation: "volume.create", Skip: done, Before: http.StatusServiceUnavailable},
	), "making trouble in the cloud")
	for i := range claims {
		s.claim(fmt.Sprintf("data-%02d", i), immediate)
	}
	s.eventually("all volumes to be asked for", func(ctx context.Context) error { return s.halfMade(ctx, done, accepted) })
	now := int64(0)
	s.must(s.kube.CoreV1().Pods(driverNamespace).Delete(s.Context(), pod, metav1.DeleteOptions{GracePeriodSeconds: &now}), "killing %s", leader)
	until(s, leases, provisionerLease, "to have another holder than "+leader, func(l *coordinationv1.Lease) error {
		if l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity == "" || *l.Spec.HolderIdentity == leader {
			return fmt.Errorf("it is held by %v", l.Spec.HolderIdentity)
		}
		return nil
	})
	s.must(s.cloud.ClearFaults(s.Context()), "ending the trouble")

	volumeOf := map[string]string{}
	for i := range claims {
		name := fmt.Sprintf("data-%02d", i)
		handle := handleOf(*s.bound(name))
		if other, taken := volumeOf[handle]; taken {
			s.Errorf("claims %s and %s both have volume %s", other, name, handle)
		}
		volumeOf[handle] = name
	}
	all, err := s.cloudVolumes(s.Context())
	s.must(err, "asking the cloud for its volumes")
	for _, v := range all {
		if claim, ok := volumeOf[v.ID]; !ok || claim != v.Metadata[claimNameKey] {
			s.Errorf("volume %s was made for claim %s and is used by %q", v.ID, v.Metadata[claimNameKey], claim)
		}
	}
	if len(all) != claims {
		s.Errorf("the cloud has %d volumes for %d claims", len(all), claims)
	}
}

// halfMade tells what is missing until so many volumes are made, so many hang,
// and others were refused.
func (s *scenario) halfMade(ctx context.Context, done, hanging int) error {
	all, err := s.cloudVolumes(ctx)
	if err != nil {
		return err
	}
	faults, err := s.cloud.Faults(ctx)
	if err != nil {
		return err
	}
	count := map[string]int{}
	for _, v := range all {
		count[v.Status]++
	}
	refusals := 0
	for _, f := range faults {
		if f.ID == "refuse" {
			refusals = f.Hits
		}
	}
	if count["available"] != done || count["creating"] != hanging || refusals == 0 {
		return fmt.Errorf("the cloud has volumes %v, and has refused %d", count, refusals)
	}
	return nil
}

// podOf returns the controller pod that holds a lease under some identity.
func (s *scenario) podOf(ctx context.Context, identity string) (string, error) {
	pods, err := s.kube.CoreV1().Pods(driverNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, p := range pods.Items {
		if strings.HasPrefix(p.Name, controllerName+"-") && strings.HasPrefix(identity, p.Name) && p.DeletionTimestamp == nil {
			return p.Name, nil
		}
	}
	return "", fmt.Errorf("no pod of %s leads as %q", controllerName, identity)
}
