package tests

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What was there before CSI: the plugin for Cinder that was part of Kubernetes.
// Kubernetes translates its objects to those of this driver, to which there is
// no difference but that volumes have no attributes.
const (
	inTreePlugin = "kubernetes.io/cinder"
	// migratedKey is where a CSINode says which of these plugins it leaves to CSI.
	migratedKey   = "storage.alpha.kubernetes.io/migrated-plugins"
	migratedToKey = "pv.kubernetes.io/migrated-to"
	provisionedBy = "pv.kubernetes.io/provisioned-by"
	// The labels by which the in-tree plugin told zones apart, the old one and
	// the older one.
	oldZoneKey   = "topology.kubernetes.io/zone"
	olderZoneKey = "failure-domain.beta.kubernetes.io/zone"
)

// TestMigration is what clusters bring along that were made with the in-tree
// plugin for Cinder.
func TestMigration(t *testing.T) {
	sideBySide(t, []story{
		{"a claim of an in-tree class is served like any other", servesInTreeClass},
		{"a volume that the in-tree plugin made is served, grown and deleted", servesInTreeVolume},
		{"a volume that somebody wrote down for the in-tree plugin is used and kept", servesHandMadeInTreeVolume},
		{"a volume that a pod names itself follows the pod", servesInlineVolume},
		{"every node leaves the in-tree plugin to the driver", everyNodeHasMigrated},
	})
}

// TestMigrationOnFullNode changes how many volumes all nodes take: it has to be
// alone.
func TestMigrationOnFullNode(t *testing.T) {
	oneByOne(t, []story{{"volumes of the in-tree plugin fill a node like any other", fillsNode}})
}

// inTreeClass makes a StorageClass as it was written for the in-tree plugin,
// which took its parameters in any letter case.
func (s *scenario) inTreeClass(short string, change ...func(*storagev1.StorageClass)) string {
	s.Helper()
	return s.storageClass(short, func(c *storagev1.StorageClass) {
		c.Provisioner = inTreePlugin
		c.Parameters = map[string]string{"Type": "standard", "fsType": "xfs"}
		for _, f := range change {
			f(c)
		}
	})
}

// onlyZone lets a class make volumes in one zone, by a label.
func onlyZone(key, zone string) func(*storagev1.StorageClass) {
	return func(c *storagev1.StorageClass) {
		c.AllowedTopologies = []corev1.TopologySelectorTerm{{
			MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: key, Values: []string{zone}}},
		}}
	}
}

// servesInTreeClass: a claim of a class for the in-tree plugin gets a volume of
// the wanted kind in the allowed zone, which is mounted, grown while it is
// written, moved, and deleted. The PersistentVolume is one of the old kind.
func servesInTreeClass(s *scenario) {
	here, there, err := s.twins()
	s.must(err, "choosing nodes")
	zone := s.zoneOf(here)
	class := s.inTreeClass("in-tree", onlyZone(oldZoneKey, zone))
	claim := s.claim("data", class)
	w := s.writer("writer", withClaim(claim), onNode(here))
	blob := s.fill(w.pod, dataDir+"/blob", 16)

	pv, volume := s.bound(claim), s.cloudVolume(claim)
	switch {
	case pv.Spec.Cinder == nil || pv.Spec.CSI != nil:
		s.Errorf("volume %s is not of the in-tree kind: %+v", pv.Name, pv.Spec.PersistentVolumeSource)
	case pv.Spec.Cinder.VolumeID != volume.ID || pv.Spec.Cinder.FSType != "xfs":
		s.Errorf("volume %s is %+v, the cloud's has id %s", pv.Name, pv.Spec.Cinder, volume.ID)
	}
	if pv.Annotations[provisionedBy] != inTreePlugin || pv.Annotations[migratedToKey] != driverName {
		s.Errorf("volume %s has annotations %v", pv.Name, pv.Annotations)
	}
	if volume.Zone != zone {
		s.Errorf("the cloud's volume is in zone %s, allowed is %s", volume.Zone, zone)
	}
	if fs := s.run(w.pod, "awk '$2 == \""+dataDir+"\" {print $3}' /proc/mounts"); fs != "xfs" {
		s.Errorf("the pod has %s, the class asks for xfs", fs)
	}

	s.editClaim(claim, "1Gi", "2Gi")
	s.roomAtLeast(w.pod, 2*gib)
	s.capacity(claim, "2Gi")
	w.neverStopped()
	s.cloudSize(claim, 2)
	s.deletePod(w.pod)
	s.same(s.running("next", withClaim(claim), onNode(there)), dataDir+"/blob", 16, blob)
	s.isAttachedTo(volume.ID, there)
	s.deletePod("next")
	s.deleteClaim(claim)
	s.volumeLeaves(volume.ID)
}

// inTreeVolume is a PersistentVolume as the in-tree plugin made it.
func (s *scenario) inTreeVolume(id, fs, zone string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: "pvc-" + uuid.NewString(), Labels: map[string]string{olderZoneKey: zone},
			Annotations: map[string]string{provisionedBy: inTreePlugin},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Cinder: &corev1.CinderPersistentVolumeSource{VolumeID: id, FSType: fs}},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			NodeAffinity:                  affinityTo(olderZoneKey, zone),
		},
	}
}

// inTreeVolumeBefore makes a volume in the cloud as the in-tree plugin did: its
// name and metadata have nothing that this driver would write.
func (s *scenario) inTreeVolumeBefore(zone string) string {
	s.Helper()
	name := "kubernetes-dynamic-pvc-" + uuid.NewString()
	return s.volumeBefore(volumes.CreateOpts{
		Name: name, Size: 1, AvailabilityZone: zone,
		Metadata: map[string]string{"kubernetes.io/created-for/pv/name": name, "kubernetes.io/created-for/pvc/namespace": s.namespace},
	})
}

// servesInTreeVolume: a volume of a cluster that is older than the driver goes
// where its zone is, is grown, and is deleted with its claim.
func servesInTreeVolume(s *scenario) {
	node, err := s.abroad()
	s.must(err, "choosing a node")
	zone := s.zoneOf(node)
	id := s.inTreeVolumeBefore(zone)
	class := s.inTreeClass("in-tree-before")
	s.volumeFor("data", s.class(class), s.inTreeVolume(id, "xfs", zone))

	w := s.writer("writer", withClaim("data"))
	if on := s.ready(w.pod).Spec.NodeName; s.zoneOf(on) != zone {
		s.Errorf("the pod is on %s in zone %s, its volume in %s", on, s.zoneOf(on), zone)
	}
	blob := s.fill(w.pod, dataDir+"/blob", 16)
	s.editClaim("data", "1Gi", "2Gi")
	s.roomAtLeast(w.pod, 2*gib)
	s.capacity("data", "2Gi")
	w.neverStopped()
	s.deletePod(w.pod)
	s.same(s.running("next", withClaim("data")), dataDir+"/blob", 16, blob)
	s.isAttachedTo(id, node)
	s.deletePod("next")
	s.deleteClaim("data")
	s.volumeLeaves(id)
}

// servesHandMadeInTreeVolume: without the mark of the in-tree plugin's provisioner
// and with the policy Retain, as people write volumes down, it is used and kept.
func servesHandMadeInTreeVolume(s *scenario) {
	here, there, err := s.twins()
	s.must(err, "choosing nodes")
	id := s.inTreeVolumeBefore(s.zoneOf(here))
	pv := s.inTreeVolume(id, "ext4", s.zoneOf(here))
	pv.Name, pv.Annotations = s.class("hand-made"), nil
	pv.Labels, pv.Spec.NodeAffinity = nil, nil
	pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	s.volumeFor("data", "", pv)

	blob := s.fill(s.running("here", withClaim("data"), onNode(here)), dataDir+"/blob", 16)
	s.isAttachedTo(id, here)
	s.deletePod("here")
	s.same(s.running("there", withClaim("data"), onNode(there)), dataDir+"/blob", 16, blob)
	s.isAttachedTo(id, there)
	s.deletePod("there")
	s.deleteClaim("data")
	until(s, s.kube.CoreV1().PersistentVolumes(), pv.Name, "to be released", phase(corev1.VolumeReleased))
	s.isAttachedTo(id)
	if v, err := s.volumeByID(s.Context(), id); err != nil || v.Status != "available" {
		s.Errorf("the cloud's volume should be kept: %s, %v", v.Status, err)
	}
}

// withInTreeVolume mounts a volume that the pod names itself.
func withInTreeVolume(id, fs string) podOption {
	return func(spec *corev1.PodSpec) {
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{
			Cinder: &corev1.CinderVolumeSource{VolumeID: id, FSType: fs},
		}})
		mountData(spec)
	}
}

// servesInlineVolume: a volume that is named in a pod, without a claim, is
// attached and mounted where the pod is, and detached when the pod is gone.
func servesInlineVolume(s *scenario) {
	here, there, err := s.twins()
	s.must(err, "choosing nodes")
	id := s.inTreeVolumeBefore(s.zoneOf(here))
	blob := s.fill(s.running("here", withInTreeVolume(id, "ext4"), onNode(here)), dataDir+"/blob", 16)
	s.isAttachedTo(id, here)
	s.deletePod("here")
	s.isAttachedTo(id)
	s.same(s.running("there", withInTreeVolume(id, "ext4"), onNode(there)), dataDir+"/blob", 16, blob)
	s.isAttachedTo(id, there)
	s.deletePod("there")
	s.isAttachedTo(id)
}

// everyNodeHasMigrated: the kubelets say that they leave the plugin to CSI; the
// scheduler and the attach controller go by that.
func everyNodeHasMigrated(s *scenario) {
	for _, n := range s.cluster.Nodes {
		node, err := s.kube.StorageV1().CSINodes().Get(s.Context(), n.Name, metav1.GetOptions{})
		s.must(err, "reading CSINode %s", n.Name)
		if plugins := strings.Split(node.Annotations[migratedKey], ","); !slices.Contains(plugins, inTreePlugin) {
			s.Errorf("node %s has migrated %v, not %s", n.Name, plugins, inTreePlugin)
		}
	}
}

// fillsNode: a node is full with one volume of each old kind, and gets no volume
// of the driver's own; nor, when one of those has made it full, another old one.
func fillsNode(s *scenario) {
	const limit = 2
	node, err := s.abroad()
	s.must(err, "choosing a node")
	s.limitNodes(node, limit)
	zone := s.zoneOf(node)
	id := s.inTreeVolumeBefore(zone)
	s.volumeFor("before", "", s.inTreeVolume(id, "ext4", zone))
	class := s.inTreeClass("in-tree-full", onlyZone(oldZoneKey, zone))

	s.running("before", withClaim("before"), onNode(node))
	s.running("made", withClaim(s.claim("made", class)), onNode(node))
	s.pod("own", idle, withClaim(s.claim("own", ext4)), onNode(node))
	s.unschedulable("own", "exceed max volume count")
	s.deletePod("made")
	s.ready("own")
	s.pod("again", idle, withClaim("made"), onNode(node))
	s.unschedulable("again", "exceed max volume count")
	s.deletePod("own")
	s.ready("again")
}

// limitNodes lets all nodes take so many volumes, until the end, and waits until
// one of them says so.
func (s *scenario) limitNodes(node string, limit int32) {
	s.Helper()
	s.afterwards("taking back the limit", func(ctx context.Context) error { return s.install(ctx) })
	s.must(s.install(s.Context(), "--set", fmt.Sprintf("node.config.BlockStorage.node-volume-attach-limit=%d", limit)), "limiting the nodes to %d volumes", limit)
	until(s, s.kube.StorageV1().CSINodes(), node, fmt.Sprintf("to announce room for %d volumes", limit), func(n *storagev1.CSINode) error {
		if count := announced(n); count != limit {
			return fmt.Errorf("it announces room for %d", count)
		}
		return nil
	})
}
