package inspect

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// lastActions is how many attachments and detachments of a server are told.
const lastActions = 5

// cloudSide reads Cinder and Nova.
type cloudSide struct {
	v      *Volume
	clouds []Cloud
	// of is the cloud that has the volume.
	of cloud.Inspector
}

// failed records that a cloud could not be asked. It reports whether that is so.
func (c *cloudSide) failed(name string, err error) bool {
	if err == nil {
		return false
	}
	c.v.sawClouds = false
	c.v.Unseen.add("cloud "+name, err)
	return true
}

// findVolume looks for the volume in all clouds: by its id, and without one by the name
// that was asked for, since a volume has the name of its PersistentVolume.
func (c *cloudSide) findVolume(ctx context.Context) {
	if len(c.clouds) == 0 {
		c.failed("", errors.New("none is known: give --cloud-config, or the variables of the openstack client"))
	}
	for _, one := range c.clouds {
		if c.failed(one.Name, one.Err) {
			continue
		}
		id := cmp.Or(c.v.ID, c.byName(ctx, one))
		if id == "" {
			continue
		}
		found, err := one.Client.VolumeDetails(ctx, id)
		switch {
		case errors.Is(err, cloud.ErrNotFound), c.failed(one.Name, err):
		default:
			c.of, c.v.ID = one.Client, found.ID
			c.v.Cinder = cinderOf(one.Name, found)
			return
		}
	}
	switch pv := c.v.PersistentVolume; {
	case c.v.ID == "" || !c.v.sawClouds:
	case pv != nil && pv.secret != "":
		c.failed("of secret "+pv.secret, errors.New("the volume is in none of the clouds that are looked at, and its class names that secret: give --cloud-config for the secret's cloud"))
	default:
		c.v.Cinder = &Cinder{Missing: true}
	}
	// Only the one cloud can be the volume's.
	if len(c.clouds) == 1 && c.clouds[0].Client != nil {
		c.of = c.clouds[0].Client
	}
}

// byName returns the id of the oldest volume of the name that was asked for, or that a claim's
// volume has; empty for none.
func (c *cloudSide) byName(ctx context.Context, one Cloud) string {
	name := ""
	switch {
	case c.v.Claim != nil && c.v.Claim.PV != "":
		name = c.v.Claim.PV
	case c.v.Claim != nil && c.v.Claim.uid != "":
		name = "pvc-" + c.v.Claim.uid
	case !strings.Contains(c.v.Asked, "/"):
		name = c.v.Asked
	}
	if name == "" {
		return ""
	}
	named, _, err := one.Client.ListVolumes(ctx, cloud.VolumeFilter{Name: name}, cloud.Page{})
	if c.failed(one.Name, err) || len(named) == 0 {
		return ""
	}
	return slices.MinFunc(named, func(a, b cloud.Volume) int { return a.CreatedAt.Compare(b.CreatedAt) }).ID
}

func cinderOf(name string, d *cloud.VolumeDetails) *Cinder {
	found := &Cinder{
		Cloud: name, Name: plain(d.Name), Status: d.Status, SizeGiB: d.SizeGiB, Type: plain(d.Type), Zone: plain(d.Zone),
		Cluster: plain(d.Metadata[volumes.ClusterKey]), Shared: d.Multiattach, CreatedAt: d.CreatedAt, UpdatedAt: d.UpdatedAt,
		AttachedTo: []string{}, Records: []Record{}, Snapshots: []Stored{}, Backups: []Stored{}, Messages: []Message{},
	}
	if found.UpdatedAt.IsZero() {
		found.UpdatedAt = found.CreatedAt // Cinder tells no change of a volume that was only made
	}
	for _, a := range d.Attachments {
		found.AttachedTo = append(found.AttachedTo, a.ServerID)
		found.Records = append(found.Records, Record{ID: a.ID, ServerID: a.ServerID, Status: "attached"})
	}
	return found
}

// around reads what has to do with the volume.
func (c *cloudSide) around(ctx context.Context) {
	if c.of == nil {
		return
	}
	if c.v.Cinder != nil && !c.v.Cinder.Missing {
		c.ofVolume(ctx)
	}
	var ids []string
	if c.v.Cinder != nil {
		ids = append(ids, c.v.Cinder.AttachedTo...)
		for _, r := range c.v.Cinder.Records {
			ids = append(ids, r.ServerID)
		}
	}
	for _, n := range c.v.Nodes {
		ids = append(ids, n.ServerID)
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		if id != "" {
			c.ofServer(ctx, id)
		}
	}
}

// moved tells whether the volume is another now than when it was read.
func (c *cloudSide) moved(ctx context.Context) bool {
	was := c.v.Cinder
	if c.of == nil || was == nil || was.Missing {
		return false
	}
	found, err := c.of.VolumeDetails(ctx, c.v.ID)
	if err != nil {
		return errors.Is(err, cloud.ErrNotFound)
	}
	is := cinderOf(was.Cloud, found)
	return is.Status != was.Status || !is.UpdatedAt.Equal(was.UpdatedAt) || !slices.Equal(is.AttachedTo, was.AttachedTo)
}

func (c *cloudSide) ofVolume(ctx context.Context) {
	v := c.v.Cinder
	records, err := c.of.ListAttachmentRecords(ctx, c.v.ID)
	if !errors.Is(err, cloud.ErrUnsupported) && !c.failed(v.Cloud, err) {
		v.Records = []Record{}
		for _, r := range records {
			v.Records = append(v.Records, Record{ID: r.ID, ServerID: r.ServerID, Status: r.Status})
		}
	}
	snapshots, _, err := c.of.ListSnapshots(ctx, cloud.SnapshotFilter{VolumeID: c.v.ID}, cloud.Page{})
	c.failed(v.Cloud, err)
	for _, s := range snapshots {
		v.Snapshots = append(v.Snapshots, Stored{ID: s.ID, Name: plain(s.Name), Status: string(s.Status)})
	}
	backups, _, err := c.of.ListBackups(ctx, cloud.BackupFilter{VolumeID: c.v.ID}, cloud.Page{})
	if !cloud.NotTold(err) {
		c.failed(v.Cloud, err)
	}
	for _, b := range backups {
		v.Backups = append(v.Backups, Stored{ID: b.ID, Name: plain(b.Name), Status: string(b.Status)})
	}
	messages, err := c.of.Messages(ctx, c.v.ID)
	c.failed(v.Cloud, err)
	for _, m := range messages[:min(len(messages), 5)] {
		v.Messages = append(v.Messages, Message{At: m.CreatedAt, Text: plain(m.Text), RequestID: m.RequestID})
	}
}

func (c *cloudSide) ofServer(ctx context.Context, id string) {
	name := ""
	if c.v.Cinder != nil {
		name = c.v.Cinder.Cloud
	}
	s := Server{ID: id}
	details, err := c.of.ServerDetails(ctx, id)
	switch {
	case errors.Is(err, cloud.ErrNotFound):
		c.ofOtherCloud(ctx, &s)
	case c.failed(name, err):
	default:
		s.Name, s.Status, s.Task, s.Locked, s.Fault = plain(details.Name), details.Status, details.TaskState, details.Locked, plain(details.Fault)
		c.ofAttachments(ctx, name, &s)
	}
	c.v.Servers = append(c.v.Servers, s)
}

// ofOtherCloud looks for a server that the volume's cloud doesn't have: a node may be in
// another one.
func (c *cloudSide) ofOtherCloud(ctx context.Context, s *Server) {
	for _, one := range c.clouds {
		if one.Client == c.of {
			continue
		}
		if c.failed(one.Name, one.Err) {
			return
		}
		details, err := one.Client.ServerDetails(ctx, s.ID)
		switch {
		case errors.Is(err, cloud.ErrNotFound):
		case c.failed(one.Name, err):
			return
		default:
			s.Name, s.Status, s.HasVolume = plain(details.Name), details.Status, new(bool)
			return
		}
	}
	s.Missing, s.HasVolume = true, new(bool)
}

func (c *cloudSide) ofAttachments(ctx context.Context, name string, s *Server) {
	listed, err := c.of.ListAttachments(ctx, s.ID)
	if !c.failed(name, err) {
		has := slices.ContainsFunc(listed, func(a cloud.ServerAttachment) bool { return strings.EqualFold(a.VolumeID, c.v.ID) })
		s.HasVolume = &has
	}
	actions, err := c.of.ServerActions(ctx, s.ID, lastActions)
	if cloud.NotTold(err) || c.failed(name, err) {
		return
	}
	for _, a := range actions {
		action := Action{Name: a.Name, At: a.StartedAt, Failed: a.Failed, RequestID: a.RequestID}
		for _, e := range a.Events {
			result := e.Result
			if result == "" {
				result = "not finished"
			}
			action.Events = append(action.Events, e.Name+": "+result)
		}
		s.Actions = append(s.Actions, action)
	}
}
