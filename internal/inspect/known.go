package inspect

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/identity"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// The kinds of orphans.
const (
	OrphanVolume     = "volume"
	OrphanSnapshot   = "snapshot"
	OrphanBackup     = "backup"
	OrphanAttachment = "attachment"
	// OrphanTwin is a volume beside an older one of the same name, or beside one that a
	// PersistentVolume has.
	OrphanTwin = "twin"
)

// Known is what Kubernetes has objects of. It is read after the lists of the cloud that it
// is compared with: whatever they have, and has an object, is known.
type Known struct {
	// volumes and snapshots are ids in Cinder; snapshots has those of backups, too.
	volumes, snapshots map[string]bool
	// waiting are the UIDs of claims without a volume and of VolumeSnapshots without a
	// snapshot: what is made for one has its UID at the end of its name.
	waiting map[string]bool
	// attachments are the servers that VolumeAttachments ask for, by the id of the volume, or
	// by the name of a PersistentVolume that doesn't exist; "" is a server that is unknown.
	attachments map[string]map[string]bool
	// servers are those of the nodes, and secrets the Secrets whose clouds have volumes, by
	// the volume's id.
	servers map[string]bool
	secrets map[string]string
	// Snapshots tells whether the cluster has VolumeSnapshotContents. Where it has none,
	// nothing is known of snapshots.
	Snapshots bool
}

// ReadKnown reads all of it, or returns an error: what is missing would make orphans of
// what is in use.
func ReadKnown(ctx context.Context, c *kube.Client) (*Known, error) {
	k := &Known{
		volumes: map[string]bool{}, snapshots: map[string]bool{}, waiting: map[string]bool{}, attachments: map[string]map[string]bool{},
		servers: map[string]bool{}, secrets: map[string]string{},
		Snapshots: true,
	}
	ids, err := k.readVolumes(ctx, c)
	if err != nil {
		return nil, err
	}
	err = kube.Each(ctx, c, kube.SnapshotContents, func(content *kube.SnapshotContent) {
		k.snapshots[strings.ToLower(content.Spec.Source.SnapshotHandle)] = true
		k.snapshots[strings.ToLower(content.Status.SnapshotHandle)] = true
		if content.Spec.Source.SnapshotHandle+content.Status.SnapshotHandle == "" {
			k.waiting[content.Spec.Snapshot.UID] = true
		}
	})
	if kube.Unknown(err) {
		k.Snapshots, err = false, nil
	}
	if err != nil {
		return nil, err
	}
	return k, k.readAttachments(ctx, c, ids)
}

// readVolumes reads PersistentVolumes and claims. It returns the ids of the first by name.
func (k *Known) readVolumes(ctx context.Context, c *kube.Client) (ids map[string]string, err error) {
	// Claims first: one that gets its PersistentVolume meanwhile is seen twice rather than
	// not at all.
	if err := kube.Each(ctx, c, kube.Claims, func(claim *kube.PersistentVolumeClaim) {
		if claim.Spec.VolumeName == "" {
			k.waiting[string(claim.UID)] = true
		}
	}); err != nil {
		return nil, err
	}
	ids = make(map[string]string)
	if err := kube.Each(ctx, c, kube.PersistentVolumes, func(pv *kube.PersistentVolume) {
		if id := strings.ToLower(handle(pv)); id != "" {
			k.volumes[id], ids[pv.Name] = true, id
			if csi := pv.Spec.CSI; csi != nil && csi.PublishSecret != nil {
				k.secrets[id] = csi.PublishSecret.Namespace + "/" + csi.PublishSecret.Name
			}
		}
	}); err != nil {
		return nil, err
	}
	return ids, nil
}

func (k *Known) readAttachments(ctx context.Context, c *kube.Client, ids map[string]string) error {
	servers := make(map[string]string)
	if err := kube.Each(ctx, c, kube.CSINodes, func(node *kube.CSINode) {
		for _, driver := range node.Spec.Drivers {
			if driver.Name == identity.DriverName {
				servers[node.Name] = strings.ToLower(driver.NodeID)
				k.servers[servers[node.Name]] = true
			}
		}
	}); err != nil {
		return err
	}
	return kube.Each(ctx, c, kube.Attachments, func(a *kube.VolumeAttachment) {
		if a.Spec.Attacher != identity.DriverName {
			return
		}
		source := a.Spec.Source
		of := ids[source.PersistentVolumeName]
		if of == "" {
			of = source.PersistentVolumeName
		}
		if source.Inline != nil && source.Inline.CSI != nil {
			of = strings.ToLower(source.Inline.CSI.VolumeHandle)
			k.volumes[of] = true
		}
		if k.attachments[of] == nil {
			k.attachments[of] = make(map[string]bool)
		}
		k.attachments[of][servers[a.Spec.NodeName]] = true
	})
}

// isWaiting tells whether something of a name may be for a claim or a VolumeSnapshot that
// waits.
func (k *Known) isWaiting(name string) bool {
	const uid = 36
	return len(name) >= uid && k.waiting[name[len(name)-uid:]]
}

// attached tells whether a VolumeAttachment asks for a volume on a server. One for a node
// whose server isn't known may be for any.
func (k *Known) attached(v volumes.Listed, server string) bool {
	for _, of := range []string{v.ID, v.Name} {
		if k.attachments[of][server] || k.attachments[of][""] {
			return true
		}
	}
	return false
}

// Orphan is something in Cinder that Kubernetes has no object of.
type Orphan struct {
	Kind string
	volumes.Listed
	// Server is where an attachment is.
	Server string
	// Beside is the volume of the same name that a twin is beside.
	Beside string
}

// Compare returns what a project has for this cluster and Kubernetes has no object of, if it
// is older than before. What has no date may be young.
func Compare(lists volumes.Lists, known *Known, before time.Time) []Orphan {
	var found []Orphan
	old := func(l volumes.Listed) bool { return !l.CreatedAt.IsZero() && l.CreatedAt.Before(before) }
	first := firsts(lists.Volumes.Own, known)
	for _, v := range lists.Volumes.Own {
		beside, named := first[v.Name]
		switch twin := named && beside != v.ID; {
		case known.volumes[v.ID], v.Status == "deleting", !old(v):
		case twin:
			found = append(found, Orphan{Kind: OrphanTwin, Listed: v, Beside: beside})
		case !known.isWaiting(v.Name):
			found = append(found, Orphan{Kind: OrphanVolume, Listed: v})
		}
		for _, server := range v.Servers {
			if !known.attached(v, strings.ToLower(server)) && old(v) {
				found = append(found, Orphan{Kind: OrphanAttachment, Listed: v, Server: server})
			}
		}
	}
	if !known.Snapshots {
		return found
	}
	for kind, list := range map[string][]volumes.Listed{OrphanSnapshot: lists.Snapshots.Own, OrphanBackup: lists.Backups.Own} {
		for _, s := range list {
			if !beingBackedUp(s, lists.Backups.Own) && !known.snapshots[s.ID] && !known.isWaiting(s.Name) && old(s) && s.Status != "deleting" {
				found = append(found, Orphan{Kind: kind, Listed: s})
			}
		}
	}
	return found
}

// beingBackedUp tells whether a snapshot was made for a backup that is still being made.
func beingBackedUp(s volumes.Listed, backups []volumes.Listed) bool {
	return s.Temporary && (s.Status == "backing-up" || slices.ContainsFunc(backups, func(b volumes.Listed) bool {
		return b.VolumeID == s.VolumeID && b.Status == "creating"
	}))
}

// firsts are the volumes that count among those of one name: one that a PersistentVolume
// has, else the oldest. The cloud lists the newest first, or in any order.
func firsts(all []volumes.Listed, known *Known) map[string]string {
	best := make(map[string]volumes.Listed)
	for _, v := range all {
		if v.Name == "" || v.Status == "deleting" || v.Status == "error_deleting" {
			continue
		}
		b, seen := best[v.Name]
		older := v.CreatedAt.Before(b.CreatedAt) || v.CreatedAt.Equal(b.CreatedAt) && v.ID < b.ID
		if !seen || known.volumes[v.ID] && !known.volumes[b.ID] || known.volumes[v.ID] == known.volumes[b.ID] && older {
			best[v.Name] = v
		}
	}
	ids := make(map[string]string, len(best))
	for name, v := range best {
		ids[name] = v.ID
	}
	return ids
}
