package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// YoungestOrphan is the least age of an orphan: what is younger may be about to get its
// object in Kubernetes.
const YoungestOrphan = 10 * time.Minute

// Orphans are the things of one cluster in its clouds that Kubernetes has no objects of.
type Orphans struct {
	Cluster string `json:"cluster"`
	// OlderThan is the least age of what is told.
	OlderThan string         `json:"olderThan"`
	Clouds    []OrphansCloud `json:"clouds"`
	Orphans   []OrphanOf     `json:"orphans"`
	// Doubt tells why these may be no orphans; empty where nothing speaks for that.
	Doubt  string `json:"doubt,omitempty"`
	Unseen Unseen `json:"unseen"`
}

// OrphansCloud is how much of the cluster's a cloud has.
type OrphansCloud struct {
	Name      string `json:"cloud"`
	Volumes   int    `json:"volumes"`
	Snapshots int    `json:"snapshots"`
	Backups   int    `json:"backups"`
	// Known is how many of the volumes have a PersistentVolume.
	Known int `json:"known"`
}

// OrphanOf is an orphan of a cloud.
type OrphanOf struct {
	Cloud string `json:"cloud"`
	Kind  string `json:"kind"`
	// ID is the one in Cinder; of an attachment that of its record, empty where it is unknown.
	ID        string    `json:"id"`
	Name      string    `json:"name,omitempty"`
	Status    string    `json:"status,omitempty"`
	SizeGiB   int64     `json:"sizeGiB,omitempty"`
	CreatedAt time.Time `json:"createdAt,omitzero"`
	VolumeID  string    `json:"volumeID,omitempty"`
	ServerID  string    `json:"serverID,omitempty"`
	// Why it can be there, and the commands that remove it.
	Why  string   `json:"why"`
	Cure []string `json:"cure"`
}

// Wrong tells whether there are orphans.
func (o *Orphans) Wrong() bool { return len(o.Orphans) > 0 }

// LookForOrphans compares what the clouds have for a cluster with what Kubernetes knows at a
// time. It reads the clouds before Kubernetes, whole lists only, and tells nothing that is
// younger than olderThan. The error is about the question.
func LookForOrphans(ctx context.Context, from Sources, cluster string, olderThan time.Duration, now time.Time) (*Orphans, error) {
	switch {
	case cluster == "":
		return nil, errors.New("whose orphans? Give --cluster, the name that the driver tags volumes with")
	case olderThan < YoungestOrphan:
		return nil, fmt.Errorf("--older-than=%s: what is younger than %s may be about to get its PersistentVolume", olderThan, YoungestOrphan)
	}
	o := &Orphans{Cluster: cluster, OlderThan: olderThan.String(), Clouds: []OrphansCloud{}, Orphans: []OrphanOf{}, Unseen: Unseen{}}
	var all []stock
	for _, one := range from.Clouds {
		s, err := take(ctx, one, cluster)
		if err != nil {
			o.Unseen.add("cloud "+one.Name, err)
			continue
		}
		all = append(all, s)
	}
	if from.Kubernetes == nil {
		o.Unseen.add("Kubernetes", cmp.Or(from.KubernetesErr, errors.New("no way to it is known")))
		return o, nil
	}
	known, err := ReadKnown(ctx, from.Kubernetes)
	if err != nil {
		o.Unseen.add("Kubernetes", err)
		return o, nil
	}
	for i := range all {
		o.compare(&all[i], known, now.Add(-olderThan))
	}
	o.unseenClouds(all, known)
	o.again(ctx, from, all)
	o.doubt()
	o.elsewhere(ctx, all, known)
	return o, nil
}

// stock is what a cloud has for the cluster.
type stock struct {
	Cloud
	volumes.Lists
	records []cloud.AttachmentRecord
	// sizes are in GiB, by id.
	sizes map[string]int64
}

// take lists everything that bears the cluster's name, whole lists only.
func take(ctx context.Context, one Cloud, cluster string) (s stock, err error) {
	s.Cloud, s.sizes = one, make(map[string]int64)
	if one.Err != nil {
		return s, one.Err
	}
	service := volumes.New(one.Client, volumes.Options{Cluster: cluster})
	defer service.Close()
	for page := (cloud.Page{Stable: true}); ; {
		listed, next, err := service.List(ctx, page)
		if err != nil {
			return s, err
		}
		for _, v := range listed {
			s.sizes[v.ID] = v.SizeGiB
		}
		if next == "" {
			break
		}
		page.Marker, page.MarkerCreated = next, time.Time{}
		if n := len(listed); n > 0 && listed[n-1].ID == next {
			page.MarkerCreated = listed[n-1].CreatedAt // the place is found again if that volume is gone
		}
	}
	for page := (cloud.Page{}); ; {
		var listed []volumes.Snapshot
		if listed, page, err = service.ListSnapshots(ctx, "", page); err != nil {
			return s, err
		}
		for _, v := range listed {
			s.sizes[v.ID] = v.SizeGiB
		}
		if page.Marker == "" {
			break
		}
	}
	s.Lists = service.LastLists()
	if s.Volumes.At.IsZero() || s.Volumes.Cut || s.Snapshots.Cut || s.Backups.Cut {
		return s, errors.New("its lists are not whole, or longer than this command can compare")
	}
	if s.records, err = one.Client.AllAttachmentRecords(ctx); errors.Is(err, cloud.ErrUnsupported) {
		err = nil
	}
	return s, err
}

// compare adds the orphans of a cloud.
func (o *Orphans) compare(s *stock, known *Known, before time.Time) {
	of := OrphansCloud{Name: s.Name, Volumes: len(s.Volumes.Own), Snapshots: len(s.Snapshots.Own), Backups: len(s.Backups.Own)}
	for _, v := range s.Volumes.Own {
		if known.volumes[v.ID] {
			of.Known++
		}
	}
	o.Clouds = append(o.Clouds, of)
	if !known.Snapshots && of.Snapshots+of.Backups > 0 {
		o.Unseen.add("snapshots", errors.New("the cluster has no VolumeSnapshotContents to compare them with"))
	}
	for _, found := range Compare(s.Lists, known, before) {
		o.Orphans = append(o.Orphans, s.tell(found))
	}
	// Attachments that were begun and are of no server yet, or of one that never got them.
	for _, r := range s.records {
		i := slices.IndexFunc(s.Volumes.Own, func(v volumes.Listed) bool { return v.ID == strings.ToLower(r.VolumeID) })
		if i < 0 || slices.Contains(s.Volumes.Own[i].Servers, r.ServerID) {
			continue
		}
		if v := s.Volumes.Own[i]; v.CreatedAt.Before(before) && len(known.attachments[v.ID]) == 0 && len(known.attachments[v.Name]) == 0 {
			o.Orphans = append(o.Orphans, s.tell(Orphan{Kind: OrphanAttachment, Listed: v, Server: r.ServerID}))
		}
	}
	slices.SortStableFunc(o.Orphans, func(a, b OrphanOf) int {
		return cmp.Or(strings.Compare(a.Cloud, b.Cloud), strings.Compare(a.Kind, b.Kind), a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
}

// foreign are those who keep what Kubernetes has no object of, on purpose.
const foreign = "# A backup tool such as Velero may keep it for a restore, without an object here: ask it first."

// tell says what an orphan is and how it goes.
func (s *stock) tell(found Orphan) OrphanOf {
	o := OrphanOf{
		Cloud: s.Name, Kind: found.Kind, ID: found.ID, Name: plain(found.Name), Status: plain(found.Status), CreatedAt: found.CreatedAt,
		VolumeID: found.VolumeID, ServerID: found.Server, SizeGiB: s.sizes[found.ID],
	}
	switch found.Kind {
	case OrphanVolume, OrphanTwin:
		o.Why = "no PersistentVolume has it: the PersistentVolume was deleted with the policy Retain, or by force, or its creation was given up"
		if found.Kind == OrphanTwin {
			o.Why = "volume " + found.Beside + " has the same name, and counts: a request was answered too late and repeated"
		}
		s.removal(&o, found)
	case OrphanSnapshot:
		o.Why = "no VolumeSnapshotContent has it: that was deleted with the policy Retain, or by force"
		if found.Temporary {
			o.Why = "it was made for a backup only, and left behind"
		}
		o.Cure = []string{foreign, "openstack volume snapshot delete " + o.ID}
	case OrphanBackup:
		o.Why = "no VolumeSnapshotContent has it: that was deleted with the policy Retain, or by force"
		o.Cure = []string{foreign, "# Incremental backups that build on it go first.", "openstack volume backup delete " + o.ID}
	case OrphanAttachment:
		s.attachment(&o, found)
	}
	return o
}

// removal says how a volume goes: what holds it first.
func (s *stock) removal(o *OrphanOf, found Orphan) {
	if len(found.Servers) > 0 {
		o.Cure = append(o.Cure, "# It is attached: something may use it. See what, and leave it if so:", "cinder-csi-plugin inspect volume "+o.ID)
	}
	for _, snapshot := range s.Snapshots.Own {
		if snapshot.VolumeID == o.ID {
			o.Cure = append(o.Cure, "# Its snapshots go first, if nobody needs them either, as:", "openstack volume snapshot delete "+snapshot.ID)
			break
		}
	}
	if found.Status == "error_deleting" {
		o.Cure = append(o.Cure, "# Cinder could not delete it. An administrator:", "openstack volume set --state available "+o.ID)
	}
	o.Cure = append(o.Cure, "openstack volume delete "+o.ID)
}

// attachment says what holds a volume, and how it goes.
func (s *stock) attachment(o *OrphanOf, found Orphan) {
	o.ID, o.VolumeID, o.Status = "", found.ID, ""
	for _, r := range s.records {
		if strings.EqualFold(r.VolumeID, found.ID) && r.ServerID == found.Server {
			o.ID, o.Status = r.ID, r.Status
		}
	}
	o.Why = "no VolumeAttachment asks for it: somebody attached it by hand, a VolumeAttachment was deleted by force, or an attachment ended halfway"
	o.Cure = []string{"# See which side has it, and whether something uses it:", "cinder-csi-plugin inspect volume " + found.ID}
}

// doubt looks whether this is the cluster at all. Where that is in doubt, no command is
// told by which something would be deleted.
func (o *Orphans) doubt() {
	total, known := 0, 0
	for _, c := range o.Clouds {
		total, known = total+c.Volumes, known+c.Known
	}
	if len(o.Orphans) > 0 && total > 0 && known == 0 {
		o.doubtful("none of the %d volumes of cluster %q has a PersistentVolume here: if this is another Kubernetes cluster, none of them is an orphan", total, plain(o.Cluster))
	}
}

// elsewhere looks whether a volume without an object is on a server that exists and is no
// node here, as those of another cluster of the same name are.
func (o *Orphans) elsewhere(ctx context.Context, all []stock, known *Known) {
	for i := range all {
		s := &all[i]
		for _, v := range s.Volumes.Own {
			for _, server := range v.Servers {
				if known.servers[strings.ToLower(server)] || !o.has(s.Name, v.ID) {
					continue
				}
				_, err := s.Client.ServerDetails(ctx, server)
				if errors.Is(err, cloud.ErrNotFound) {
					continue
				}
				if err != nil {
					o.Unseen.add("cloud "+s.Name, err)
				}
				o.doubtful("volume %s is attached to server %s, which is no node here: if that is of another Kubernetes cluster whose driver has the same --cluster, none of these is an orphan", v.ID, server)
				return
			}
		}
	}
}

// has tells whether a volume of a cloud is an orphan.
func (o *Orphans) has(name, id string) bool {
	return slices.ContainsFunc(o.Orphans, func(one OrphanOf) bool { return one.Cloud == name && one.ID == id })
}

// doubtful says why these may be no orphans.
func (o *Orphans) doubtful(format string, args ...any) {
	for i := range o.Orphans {
		o.Orphans[i].Cure = nil
	}
	o.Doubt = cmp.Or(o.Doubt, fmt.Sprintf(format, args...))
}

// unseenClouds tells which clouds of Secrets have volumes and were not looked at.
func (o *Orphans) unseenClouds(all []stock, known *Known) {
	for _, id := range slices.Sorted(maps.Keys(known.secrets)) {
		if !slices.ContainsFunc(all, func(s stock) bool { return s.sizes[id] > 0 }) {
			o.Unseen.add("cloud of secret "+known.secrets[id], errors.New("it has volumes and is not looked at: give --cloud-config for it"))
		}
	}
}

// again looks a second time for attachments, which come and go: one that ended, or that a
// VolumeAttachment asks for meanwhile, is none. It does so only where there are any.
func (o *Orphans) again(ctx context.Context, from Sources, all []stock) {
	if !slices.ContainsFunc(o.Orphans, func(one OrphanOf) bool { return one.Kind == OrphanAttachment }) {
		return
	}
	now := make(map[string]bool)
	for _, s := range all {
		for _, one := range o.Orphans {
			if one.Kind == OrphanAttachment && one.Cloud == s.Name {
				there, err := s.isAttached(ctx, one)
				if err != nil {
					o.Unseen.add("cloud "+s.Name, err)
				}
				now[one.VolumeID+one.ServerID] = there
			}
		}
	}
	known, err := ReadKnown(ctx, from.Kubernetes)
	if err != nil {
		o.Unseen.add("Kubernetes", err)
	}
	o.Orphans = slices.DeleteFunc(o.Orphans, func(one OrphanOf) bool {
		return one.Kind == OrphanAttachment && (err != nil || !now[one.VolumeID+one.ServerID] ||
			known.attached(volumes.Listed{ID: one.VolumeID, Name: one.Name}, strings.ToLower(one.ServerID)))
	})
}

// isAttached asks Cinder again whether there is an attachment.
func (s *stock) isAttached(ctx context.Context, one OrphanOf) (bool, error) {
	v, err := s.Client.GetVolume(ctx, one.VolumeID)
	if errors.Is(err, cloud.ErrNotFound) {
		return false, nil
	}
	if err != nil || v.AttachedTo(one.ServerID) {
		return err == nil, err
	}
	records, err := s.Client.ListAttachmentRecords(ctx, one.VolumeID)
	if errors.Is(err, cloud.ErrUnsupported) {
		err = nil
	}
	return slices.ContainsFunc(records, func(r cloud.AttachmentRecord) bool { return r.ServerID == one.ServerID }), err
}

// Print writes the orphans for people.
func (o *Orphans) Print(w io.Writer) error {
	p := &page{}
	p.printf("cluster %s: what is older than %s and has no object in Kubernetes\n", plain(o.Cluster), o.OlderThan)
	for _, c := range o.Clouds {
		p.title("CLOUD " + c.Name)
		p.line("it has", "%d volumes (%d with a PersistentVolume), %d snapshots, %d backups", c.Volumes, c.Known, c.Snapshots, c.Backups)
		for _, one := range o.Orphans {
			if one.Cloud == c.Name {
				p.line(one.Kind, "%s", parts(orElse(one.ID, "volume "+one.VolumeID), one.Name, one.Status, when(one.SizeGiB > 0, fmt.Sprintf("%d GiB", one.SizeGiB)), said("made ", stamp(one.CreatedAt)), said("server ", one.ServerID)))
			}
		}
	}
	var found []Finding
	for _, one := range o.Orphans {
		found = append(found, Finding{
			What: one.Kind + " " + orElse(one.ID, "of volume "+one.VolumeID) + said(" (", one.Name) + when(one.Name != "", ")") + " is an orphan", Why: one.Why, Cure: one.Cure,
		})
	}
	if o.Doubt != "" {
		p.title("DOUBT")
		p.line("", "%s", o.Doubt)
	}
	p.findings(found, o.Unseen, "No orphans.")
	if len(found) > 0 {
		p.title("BEFORE YOU DELETE ANYTHING")
		p.line("", "Another cluster whose driver has the same --cluster in this project has volumes that look like this cluster's orphans. Data that are deleted are gone.")
	}
	_, err := io.WriteString(w, p.text.String())
	return err
}
