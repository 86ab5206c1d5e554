package cinder

import (
	"fmt"
	"net/http"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

func (s *Service) backupRoutes(add adder) {
	add("POST", "/backups", "backup.create", s.createBackup)
	add("GET", "/backups", "backup.list", s.listBackups(false))
	add("GET", "/backups/detail", "backup.list", s.listBackups(true))
	add("GET", "/backups/{id}", "backup.get", s.getBackup)
	add("PUT", "/backups/{id}", "backup.update", since(9, s.updateBackup))
	add("DELETE", "/backups/{id}", "backup.delete", s.deleteBackup)
	add("POST", "/backups/{id}/restore", "backup.restore", s.restoreBackup)
	add("POST", "/backups/{id}/action", "backup.reset", s.backupAction)
}

type backupSummary struct {
	ID    string  `json:"id"`
	Name  *string `json:"name"`
	Links []link  `json:"links"`
}

type backupView struct {
	ID            string             `json:"id"`
	Status        string             `json:"status"`
	Size          int64              `json:"size"`
	Objects       int64              `json:"object_count"`
	Zone          *string            `json:"availability_zone"` // never told, whatever was asked for
	Container     *string            `json:"container"`
	CreatedAt     string             `json:"created_at"`
	UpdatedAt     *string            `json:"updated_at"`
	Name          *string            `json:"name"`
	Description   *string            `json:"description"`
	FailReason    *string            `json:"fail_reason"`
	VolumeID      string             `json:"volume_id"`
	Links         []link             `json:"links"`
	Incremental   bool               `json:"is_incremental"`
	Dependents    bool               `json:"has_dependent_backups"`
	SnapshotID    *string            `json:"snapshot_id"`
	DataTimestamp string             `json:"data_timestamp"`
	Metadata      *map[string]string `json:"metadata,omitempty"`
	Project       string             `json:"os-backup-project-attr:project_id,omitempty"`
	UserID        string             `json:"user_id,omitempty"`
}

// objectSize is the size in GiB that goes into twenty objects of the posix
// backup driver, one more holding the description.
const objectsPerGiB = 20

func (r *request) viewBackup(b state.Backup, dependents bool) backupView {
	view := backupView{
		ID: b.ID, Status: b.Status, Size: b.Size, Container: optional(b.Container),
		CreatedAt: rest.Seconds(b.CreatedAt), UpdatedAt: updated(b.UpdatedAt), Name: b.Name, Description: b.Description,
		FailReason: optional(b.FailReason), VolumeID: b.VolumeID, Links: r.links("backups", b.ID), Incremental: b.ParentID != "",
		Dependents: dependents, SnapshotID: optional(b.SnapshotID), DataTimestamp: rest.Seconds(b.CreatedAt),
	}
	if b.Status == "available" {
		view.Objects = b.Size*objectsPerGiB + 1
	}
	if r.version.AtLeast(43) {
		m := notNil(b.Metadata)
		view.Metadata = &m
	}
	if r.Admin && r.version.AtLeast(18) {
		view.Project = b.ProjectID
	}
	if r.Admin && r.version.AtLeast(56) {
		view.UserID = b.UserID
	}
	return view
}

func (s *Service) createBackup(r *request) (*rest.Response, error) {
	raw := rest.Member(r.Body, "backup")
	if raw == nil {
		return nil, rest.Malformed()
	}
	keys := []string{"volume_id", "container", "description", "incremental", "force", "name", "snapshot_id"}
	if r.version.AtLeast(43) {
		keys = append(keys, "metadata")
	}
	if r.version.AtLeast(51) {
		keys = append(keys, "availability_zone")
	}
	if err := rest.CheckKeys("backup", raw, keys...); err != nil {
		return nil, err
	}
	b := bodyReader{raw: raw}
	spec := state.BackupSpec{
		VolumeID: b.onlyUUID("volume_id"), SnapshotID: b.uuid("snapshot_id"), Name: b.label("name"), Description: b.label("description"),
		Container: b.id("container"), Zone: b.id("availability_zone"), Metadata: b.metadata("metadata"),
		Force: b.flag("force"), Incremental: b.flag("incremental"),
	}
	if b.err == nil && spec.VolumeID == "" {
		b.err = rest.InvalidField("backup", raw, "'volume_id' is a required property")
	}
	if b.err != nil {
		return nil, b.err
	}
	backup, err := s.cloud.CreateBackup(r.Call, spec)
	if err != nil {
		return nil, err
	}
	return accepted(rest.Object{"backup": backupSummary{backup.ID, backup.Name, r.links("backups", backup.ID)}})
}

func (s *Service) getBackup(r *request) (*rest.Response, error) {
	b, dependents, err := s.cloud.Backup(r.Call, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return ok(rest.Object{"backup": r.viewBackup(b, dependents)})
}

func (s *Service) deleteBackup(r *request) (*rest.Response, error) {
	return &rest.Response{Status: http.StatusAccepted, Header: http.Header{"Content-Type": {"application/json"}}}, s.cloud.DeleteBackup(r.Call, r.PathValue("id"))
}

func (s *Service) updateBackup(r *request) (*rest.Response, error) {
	b := bodyReader{raw: rest.Member(r.Body, "backup")}
	name, description, metadata := b.label("name"), b.label("description"), b.metadata("metadata")
	if b.raw == nil {
		return nil, rest.Malformed()
	}
	if b.err != nil {
		return nil, b.err
	}
	backup, err := s.cloud.ChangeBackup(r.Call, r.PathValue("id"), func(x *state.Backup) {
		if name != nil {
			x.Name = name
		}
		if description != nil {
			x.Description = description
		}
		if metadata != nil {
			x.Metadata = metadata
		}
	})
	if err != nil {
		return nil, err
	}
	return ok(rest.Object{"backup": backupSummary{backup.ID, backup.Name, r.links("backups", backup.ID)}})
}

func (s *Service) restoreBackup(r *request) (*rest.Response, error) {
	b := bodyReader{raw: rest.Member(r.Body, "restore")}
	if b.raw == nil {
		return nil, rest.Malformed()
	}
	volumeID, name := "", ""
	if !rest.IsNull(b.raw) {
		volumeID, name = b.uuid("volume_id"), b.id("name")
	}
	if b.err != nil {
		return nil, b.err
	}
	id := r.PathValue("id")
	v, err := s.cloud.RestoreBackup(r.Call, id, volumeID, name)
	if err != nil {
		return nil, err
	}
	return accepted(rest.Object{"restore": rest.Object{"backup_id": id, "volume_id": v.ID, "volume_name": v.Name}})
}

func (s *Service) backupAction(r *request) (*rest.Response, error) {
	name, value := actionOf(r.Body)
	if name != "os-reset_status" && name != "os-force_delete" {
		return nil, rest.BadRequest("There is no such action: %s", name)
	}
	if !r.Admin {
		return nil, denied("volume_extension:backup_admin_actions:" + name[len("os-"):])
	}
	status := "error"
	if name == "os-reset_status" {
		b := bodyReader{raw: value}
		status = b.id("status")
	}
	if _, err := s.cloud.ChangeBackup(r.Call, r.PathValue("id"), func(x *state.Backup) { x.Status = status }); err != nil {
		return nil, err
	}
	if name == "os-force_delete" {
		return s.deleteBackup(r)
	}
	return &rest.Response{Status: http.StatusAccepted, Header: http.Header{"Content-Type": {"application/json"}}}, nil
}

func backupValue(b *state.Backup, key string) string {
	switch key {
	case "name":
		return state.Or(b.Name)
	case "status":
		return b.Status
	case "volume_id":
		return b.VolumeID
	case "created_at":
		return rest.Seconds(b.CreatedAt)
	case "size":
		return fmt.Sprintf("%020d", b.Size)
	}
	return b.ID
}

func (s *Service) listBackups(detail bool) handler {
	return func(r *request) (*rest.Response, error) {
		query := r.URL.Query()
		p, err := parsePage(query)
		if err != nil {
			return nil, err
		}
		want, err := filters(query, "name", "status", "volume_id")
		if err != nil {
			return nil, err
		}
		orders, err := sortOrders(query, "id", "status", "size", "created_at", "name", "volume_id")
		if err != nil {
			return nil, err
		}
		list := s.cloud.Backups(r.Call, truth(query.Get("all_tenants")), func(x *state.Backup) bool {
			if x.ID == p.marker {
				return true
			}
			for key, value := range want {
				if !state.SameText(backupValue(x, key), value) {
					return false
				}
			}
			return true
		})
		sortBy(list, orders, backupValue)
		list, more, err := cut(list, p, func(x *state.Backup) string { return x.ID }, func(marker string) error {
			return rest.NotFound("Backup %s could not be found.", marker)
		})
		if err != nil {
			return nil, err
		}
		body := rest.Object{"backups": s.viewBackups(r, list, detail)}
		if more {
			body["backups_links"] = r.next(list[len(list)-1].ID)
		}
		return ok(body)
	}
}

func (s *Service) viewBackups(r *request, list []state.Backup, detail bool) []any {
	views := make([]any, len(list))
	for i, x := range list {
		if !detail {
			views[i] = backupSummary{x.ID, x.Name, r.links("backups", x.ID)}
			continue
		}
		_, dependents, _ := s.cloud.Backup(r.Call, x.ID) // gone meanwhile: nothing depends on it
		views[i] = r.viewBackup(x, dependents)
	}
	return views
}
