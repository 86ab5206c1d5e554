package tests

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

// cinder returns a client of the cloud's Cinder, for things that were there
// before the driver.
func (e *environment) cinder(ctx context.Context) (*gophercloud.ServiceClient, error) {
	accounts, err := e.cloud.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	if len(accounts) == 0 {
		return nil, errors.New("the cloud lets nobody in")
	}
	who := accounts[0]
	provider, err := openstack.AuthenticatedClient(ctx, gophercloud.AuthOptions{
		IdentityEndpoint: e.cluster.CloudURL + "/identity/v3", UserID: who.UserID, Password: who.Password, TenantID: who.ProjectID,
	})
	if err != nil {
		return nil, fmt.Errorf("logging in to the cloud: %w", err)
	}
	client, err := openstack.NewBlockStorageV3(provider, gophercloud.EndpointOpts{})
	if err != nil {
		return nil, fmt.Errorf("looking for Cinder: %w", err)
	}
	client.Microversion = "3.60"
	return client, nil
}

// volumeBefore makes a volume in the cloud without the driver and returns its id.
// At the end it is gone, and so are the PersistentVolumes for it.
func (s *scenario) volumeBefore(opts volumes.CreateOpts) string {
	s.Helper()
	client, err := s.cinder(s.Context())
	s.must(err, "connecting to Cinder")
	volume, err := volumes.Create(s.Context(), client, opts, nil).Extract()
	s.must(err, "making volume %s", opts.Name)
	s.afterwards("removing volume "+volume.ID, func(ctx context.Context) error { return s.removeBefore(ctx, volume.ID) })
	s.eventually("volume "+volume.ID+" to be available", func(ctx context.Context) error {
		v, err := s.volumeByID(ctx, volume.ID)
		if err == nil && v.Status != "available" {
			err = fmt.Errorf("it is %s", v.Status)
		}
		return err
	})
	return volume.ID
}

// removeBefore removes what is left of a volume that was there before: pods may
// use it, and PersistentVolumes that keep it are for it.
func (s *scenario) removeBefore(ctx context.Context, id string) error {
	if err := s.removeNamespace(ctx); err != nil {
		return err
	}
	if err := s.removePersistentVolumesOf(ctx, id); err != nil {
		return err
	}
	client, err := s.cinder(ctx)
	if err != nil {
		return err
	}
	return repeat(ctx, func(ctx context.Context) error {
		err := volumes.Delete(ctx, client, id, nil).ExtractErr()
		if gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			return nil
		}
		return errors.Join(err, fmt.Errorf("volume %s is still there", id))
	})
}

func (s *scenario) removePersistentVolumesOf(ctx context.Context, id string) error {
	client := s.kube.CoreV1().PersistentVolumes()
	list, err := client.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, pv := range list.Items {
		if volumeIDOf(pv) != id {
			continue
		}
		if err := client.Delete(ctx, pv.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		if err := s.volumeGone(ctx, pv.Name); err != nil {
			return err
		}
	}
	return nil
}

// volumeIDOf returns the cloud's id of a volume, whichever way it is written.
func volumeIDOf(pv corev1.PersistentVolume) string {
	if pv.Spec.Cinder != nil {
		return pv.Spec.Cinder.VolumeID
	}
	return handleOf(pv)
}

// volumeByID returns a volume as the cloud keeps it.
func (s *scenario) volumeByID(ctx context.Context, id string) (admin.Volume, error) {
	all, err := s.cloud.Volumes(ctx)
	if err != nil {
		return admin.Volume{}, err
	}
	i := slices.IndexFunc(all, func(v admin.Volume) bool { return v.ID == id })
	if i < 0 {
		return admin.Volume{}, fmt.Errorf("the cloud has no volume %s", id)
	}
	return all[i], nil
}

// volumeLeaves waits until the cloud has a volume no more.
func (s *scenario) volumeLeaves(id string) {
	s.Helper()
	s.eventually("volume "+id+" to leave the cloud", func(ctx context.Context) error {
		all, err := s.cloud.Volumes(ctx)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(all, func(v admin.Volume) bool { return v.ID == id }); i >= 0 {
			return fmt.Errorf("it is %s, attachments %v", all[i].Status, all[i].Attachments)
		}
		return nil
	})
}

// isAttachedTo waits until the cloud says that a volume is attached to these
// nodes and to no others.
func (s *scenario) isAttachedTo(id string, nodes ...string) {
	s.Helper()
	var want []string
	for _, n := range s.cluster.Nodes {
		if slices.Contains(nodes, n.Name) {
			want = append(want, n.ServerID)
		}
	}
	slices.Sort(want)
	s.eventually(fmt.Sprintf("volume %s to be attached to %v", id, nodes), func(ctx context.Context) error {
		v, err := s.volumeByID(ctx, id)
		if err != nil {
			return err
		}
		var have []string
		for _, a := range v.Attachments {
			have = append(have, a.ServerID)
		}
		slices.Sort(have)
		if !slices.Equal(have, want) {
			return fmt.Errorf("it is %s, attached to servers %v, want %v", v.Status, have, want)
		}
		return nil
	})
}

// volumeFor makes a PersistentVolume that is for one claim, and that claim.
func (s *scenario) volumeFor(claim string, class string, pv *corev1.PersistentVolume) {
	s.Helper()
	pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: s.namespace, Name: claim}
	pv.Spec.StorageClassName = class
	if pv.Spec.AccessModes == nil {
		pv.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	}
	_, err := s.kube.CoreV1().PersistentVolumes().Create(s.Context(), pv, metav1.CreateOptions{})
	s.must(err, "making volume %s", pv.Name)
	_, err = s.claims().Create(s.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: claim},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, VolumeName: pv.Name, AccessModes: pv.Spec.AccessModes,
			Resources: corev1.VolumeResourceRequirements{Requests: pv.Spec.Capacity},
		},
	}, metav1.CreateOptions{})
	s.must(err, "making claim %s", claim)
	if got := s.bound(claim); got.Name != pv.Name {
		s.Fatalf("claim %s got volume %s, not %s", claim, got.Name, pv.Name)
	}
}

// affinityTo is the affinity of a volume for the nodes of a zone, by some label.
func affinityTo(key, zone string) *corev1.VolumeNodeAffinity {
	return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{zone}}},
	}}}}
}
