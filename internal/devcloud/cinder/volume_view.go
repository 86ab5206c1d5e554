package cinder

import (
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

type attachmentView struct {
	ID           string  `json:"id"`
	AttachmentID string  `json:"attachment_id"`
	VolumeID     string  `json:"volume_id"`
	ServerID     string  `json:"server_id"`
	HostName     *string `json:"host_name"`
	Device       string  `json:"device"`
	AttachedAt   string  `json:"attached_at"`
}

// volumeView is a volume as Cinder shows it. What a microversion adds is a
// pointer that is nil before it.
type volumeView struct {
	ID                string            `json:"id"`
	Status            string            `json:"status"`
	Size              int64             `json:"size"`
	Zone              *string           `json:"availability_zone"`
	CreatedAt         string            `json:"created_at"`
	UpdatedAt         *string           `json:"updated_at"`
	Name              *string           `json:"name"`
	Description       *string           `json:"description"`
	Type              *string           `json:"volume_type"`
	SnapshotID        *string           `json:"snapshot_id"`
	SourceID          *string           `json:"source_volid"`
	Metadata          map[string]string `json:"metadata"`
	Links             []link            `json:"links"`
	UserID            string            `json:"user_id"`
	Bootable          string            `json:"bootable"`
	Encrypted         bool              `json:"encrypted"`
	ReplicationStatus *string           `json:"replication_status"`
	ConsistencyGroup  *string           `json:"consistencygroup_id"`
	Multiattach       bool              `json:"multiattach"`
	Attachments       []attachmentView  `json:"attachments"`
	MigrationStatus   *rest.Null        `json:"migration_status,omitempty"`
	GroupID           *rest.Null        `json:"group_id,omitempty"`
	SharedTargets     *bool             `json:"shared_targets,omitempty"`
	ServiceID         *rest.Nullable    `json:"service_uuid,omitempty"`
	TypeID            *string           `json:"volume_type_id,omitempty"`
	ConsumesQuota     *bool             `json:"consumes_quota,omitempty"`
	Tenant            string            `json:"os-vol-tenant-attr:tenant_id,omitempty"`
	Host              string            `json:"os-vol-host-attr:host,omitempty"`
}

// serviceID is the id of the service that makes the volumes.
const serviceID = "d0ef272e-dc01-4e47-9f13-29f50c2eb13a"

// viewVolume shows a volume. fresh is the answer to its creation, which shows
// less and a finer time.
func (r *request) viewVolume(v state.Volume, types map[string]string, fresh bool) volumeView {
	view := volumeView{
		ID: v.ID, Status: v.Status, Size: v.Size, Zone: optional(v.Zone), CreatedAt: rest.Seconds(v.CreatedAt), Name: v.Name,
		Description: v.Description, SnapshotID: optional(v.SnapshotID), SourceID: optional(v.SourceID),
		Metadata: notNil(v.Metadata), Links: r.links("volumes", v.ID), UserID: v.UserID, Bootable: "false",
		Multiattach: v.Multiattach, Attachments: []attachmentView{}, UpdatedAt: updated(v.UpdatedAt),
	}
	if v.Bootable {
		view.Bootable = "true"
	}
	view.Type = optional(types[v.TypeID])
	for _, a := range v.Attached() {
		view.Attachments = append(view.Attachments, attachmentView{
			ID: v.ID, AttachmentID: a.ID, VolumeID: v.ID, ServerID: a.ServerID, Device: a.Device, AttachedAt: rest.Seconds(a.AttachedAt),
		})
	}
	if fresh {
		view.CreatedAt = rest.Micros(v.CreatedAt)
	} else {
		view.Tenant = v.ProjectID
		if r.Admin {
			view.Host, view.MigrationStatus = v.Host, &rest.Null{}
		}
	}
	r.newerFields(&view, v)
	return view
}

// newerFields adds what came with microversions.
func (r *request) newerFields(view *volumeView, v state.Volume) {
	if r.version.AtLeast(13) {
		view.GroupID = &rest.Null{}
	}
	if r.version.AtLeast(48) {
		waits := v.Host == "" || v.Status == "creating" // no service has taken it up
		view.SharedTargets = &waits
		view.ServiceID = &rest.Nullable{}
		if !waits {
			view.ServiceID.Value = serviceID
		}
	}
	if r.version.AtLeast(63) {
		view.TypeID = &v.TypeID
	}
	if r.version.AtLeast(65) {
		consumes := true
		view.ConsumesQuota = &consumes
	}
}

func updated(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := rest.Seconds(t)
	return &text
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func notNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
