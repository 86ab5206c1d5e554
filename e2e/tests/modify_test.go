package tests

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// changes: the VolumeAttributesClass of a claim is changed while its pod
// writes: the volume gets another type and other metadata. A class that can't
// be had changes nothing, says why, and can be taken back.
func changes(s *scenario) {
	gold := s.attributesClass("gold", map[string]string{"type": "standard", "metadata/tier": "gold"})
	never := s.attributesClass("never", map[string]string{"type": "no-such-type"})
	example := s.claim("standard", standard)
	s.running("standard", withClaim(example))
	claim := s.claim("data", xfs)
	w := s.writer("writer", withClaim(claim))
	want := s.cloudVolume(example).TypeID
	if got := s.cloudVolume(claim).TypeID; got == want {
		s.Fatalf("the volume has the other type already: %s", got)
	}

	s.setAttributes(claim, never)
	until(s, s.claims(), claim, "to say that its class can't be had", func(c *corev1.PersistentVolumeClaim) error {
		if m := c.Status.ModifyVolumeStatus; m == nil || m.Status != corev1.PersistentVolumeClaimModifyVolumeInfeasible {
			return fmt.Errorf("its modification is %+v, conditions %q", m, conditions(c))
		}
		return nil
	})
	s.setAttributes(claim, gold)
	until(s, s.claims(), claim, "to have its class", func(c *corev1.PersistentVolumeClaim) error {
		if got := c.Status.CurrentVolumeAttributesClassName; got == nil || *got != gold {
			return fmt.Errorf("its modification is %+v, conditions %q", c.Status.ModifyVolumeStatus, conditions(c))
		}
		return nil
	})
	v := s.cloudVolume(claim)
	if v.TypeID != want || v.Metadata["tier"] != "gold" {
		s.Errorf("volume %s has type %s and tier %q, want %s and gold", v.ID, v.TypeID, v.Metadata["tier"], want)
	}
	w.neverStopped()
}

// attributesClass makes a VolumeAttributesClass and returns its full name.
func (s *scenario) attributesClass(short string, parameters map[string]string) string {
	s.Helper()
	class := &storagev1.VolumeAttributesClass{ObjectMeta: s.marked(short), DriverName: driverName, Parameters: parameters}
	_, err := s.kube.StorageV1().VolumeAttributesClasses().Create(s.Context(), class, metav1.CreateOptions{})
	s.must(err, "making VolumeAttributesClass %s", class.Name)
	return class.Name
}

// setAttributes asks for a claim to have a VolumeAttributesClass.
func (s *scenario) setAttributes(claim, class string) {
	s.Helper()
	patch := fmt.Sprintf(`{"spec": {"volumeAttributesClassName": %q}}`, class)
	_, err := s.claims().Patch(s.Context(), claim, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	s.must(err, "changing claim %s to class %s", claim, class)
}
