package tests

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

const gib = 1 << 30

// claimOption changes what a claim asks for: 1 GiB, ReadWriteOnce, with a
// filesystem.
type claimOption func(*corev1.PersistentVolumeClaimSpec)

func ofSize(size string) claimOption {
	return func(spec *corev1.PersistentVolumeClaimSpec) {
		spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
	}
}

func withAccess(modes ...corev1.PersistentVolumeAccessMode) claimOption {
	return func(spec *corev1.PersistentVolumeClaimSpec) { spec.AccessModes = modes }
}

func asBlock(spec *corev1.PersistentVolumeClaimSpec) {
	mode := corev1.PersistentVolumeBlock
	spec.VolumeMode = &mode
}

// from has the volume begin as a copy of a VolumeSnapshot or another claim.
func from(kind, name string) claimOption {
	return func(spec *corev1.PersistentVolumeClaimSpec) {
		spec.DataSource = &corev1.TypedLocalObjectReference{Kind: kind, Name: name}
		if kind == "VolumeSnapshot" {
			group := "snapshot.storage.k8s.io"
			spec.DataSource.APIGroup = &group
		}
	}
}

func (s *scenario) claims() corev1client.PersistentVolumeClaimInterface {
	return s.kube.CoreV1().PersistentVolumeClaims(s.namespace)
}

// claimSpec returns the specification of a claim for a class of this run.
func (e *environment) claimSpec(class string, options ...claimOption) corev1.PersistentVolumeClaimSpec {
	name := e.class(class)
	spec := corev1.PersistentVolumeClaimSpec{StorageClassName: &name}
	withAccess(corev1.ReadWriteOnce)(&spec)
	ofSize("1Gi")(&spec)
	for _, option := range options {
		option(&spec)
	}
	return spec
}

// claim makes a claim and returns its name.
func (s *scenario) claim(name, class string, options ...claimOption) string {
	s.Helper()
	_, err := s.claims().Create(s.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: s.claimSpec(class, options...),
	}, metav1.CreateOptions{})
	s.must(err, "making claim %s", name)
	return name
}

// bound waits until a claim has a volume and returns that.
func (s *scenario) bound(name string) *corev1.PersistentVolume {
	s.Helper()
	claim := until(s, s.claims(), name, "to be bound", func(c *corev1.PersistentVolumeClaim) error {
		if c.Status.Phase != corev1.ClaimBound {
			return fmt.Errorf("it is %s", c.Status.Phase)
		}
		return nil
	})
	pv, err := s.kube.CoreV1().PersistentVolumes().Get(s.Context(), claim.Spec.VolumeName, metav1.GetOptions{})
	s.must(err, "reading the volume of claim %s", name)
	return pv
}

// capacity waits until Kubernetes says that a claim has got its size.
func (s *scenario) capacity(name, size string) {
	s.Helper()
	want := resource.MustParse(size)
	until(s, s.claims(), name, "to have "+size, func(c *corev1.PersistentVolumeClaim) error {
		if got := c.Status.Capacity[corev1.ResourceStorage]; got.Cmp(want) != 0 {
			return fmt.Errorf("it has %s, asked for is %s, conditions %q, resize status %v", got.String(),
				c.Spec.Resources.Requests.Storage(), conditions(c), c.Status.AllocatedResourceStatuses)
		}
		return nil
	})
}

// conditions tells what Kubernetes says about a claim.
func conditions(c *corev1.PersistentVolumeClaim) string {
	var all []string
	for _, condition := range c.Status.Conditions {
		all = append(all, fmt.Sprintf("%s=%s: %s", condition.Type, condition.Status, condition.Message))
	}
	return strings.Join(all, "; ")
}

// deleteClaim deletes a claim without waiting.
func (s *scenario) deleteClaim(name string) {
	s.Helper()
	s.must(s.claims().Delete(s.Context(), name, metav1.DeleteOptions{}), "deleting claim %s", name)
}
