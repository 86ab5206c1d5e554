package cinder

import (
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

func (s *Service) snapshotRoutes(add adder) {
	add("POST", "/snapshots", "snapshot.create", s.createSnapshot)
	add("GET", "/snapshots", "snapshot.list", s.listSnapshots(false))
	add("GET", "/snapshots/detail", "snapshot.list", s.listSnapshots(true))
	add("GET", "/snapshots/{id}", "snapshot.get", s.getSnapshot)
	add("PUT", "/snapshots/{id}", "snapshot.update", s.updateSnapshot)
	add("DELETE", "/snapshots/{id}", "snapshot.delete", s.deleteSnapshot)
	add("POST", "/snapshots/{id}/action", "snapshot.reset", s.snapshotAction)
	s.metadataRoutes(add, "/snapshots/{id}/metadata", "snapshot", s.snapshotMetadata)
}

type snapshotView struct {
	ID            string            `json:"id"`
	CreatedAt     string            `json:"created_at"`
	UpdatedAt     *string           `json:"updated_at"`
	Name          *string           `json:"name"`
	Description   *string           `json:"description"`
	VolumeID      string            `json:"volume_id"`
	Status        string            `json:"status"`
	Size          int64             `json:"size"`
	Metadata      map[string]string `json:"metadata"`
	GroupID       *rest.Null        `json:"group_snapshot_id,omitempty"`
	UserID        string            `json:"user_id,omitempty"`
	ConsumesQuota *bool             `json:"consumes_quota,omitempty"`
	Project       string            `json:"os-extended-snapshot-attributes:project_id,omitempty"`
	Progress      string            `json:"os-extended-snapshot-attributes:progress,omitempty"`
}

func (r *request) viewSnapshot(s state.Snapshot, fresh bool) snapshotView {
	view := snapshotView{
		ID: s.ID, CreatedAt: rest.Seconds(s.CreatedAt), UpdatedAt: updated(s.UpdatedAt), Name: s.Name, Description: s.Description,
		VolumeID: s.VolumeID, Status: s.Status, Size: s.Size, Metadata: notNil(s.Metadata),
	}
	if fresh {
		view.CreatedAt = rest.Micros(s.CreatedAt)
	} else {
		view.Project, view.Progress = s.ProjectID, "0%"
		if s.Made {
			view.Progress = "100%"
		}
	}
	if r.version.AtLeast(14) {
		view.GroupID = &rest.Null{}
	}
	if r.version.AtLeast(41) {
		view.UserID = s.UserID
	}
	if r.version.AtLeast(65) {
		consumes := true
		view.ConsumesQuota = &consumes
	}
	return view
}

// attachedAllowed applies the rules of the flag "force": until 3.65 it allows
// a volume that is in use, since 3.66 that is always allowed and the flag is not.
func (r *request) attachedAllowed(raw json.RawMessage) (bool, error) {
	b := bodyReader{raw: raw}
	given := rest.Member(raw, "force") != nil
	force := b.flag("force")
	if b.err != nil {
		return false, b.err
	}
	if !r.version.AtLeast(66) {
		return force, nil
	}
	if given && !force {
		//nolint:misspell // the services' own spelling
		return false, rest.BadRequest("Since microversion 3.66 the 'force' flag is invalid for this request.  For backward compatability, however, when the 'force' flag is passed with a value evaluating to True, it is silently ignored.")
	}
	return true, nil
}

func (s *Service) createSnapshot(r *request) (*rest.Response, error) {
	raw := rest.Member(r.Body, "snapshot")
	if raw == nil {
		return nil, rest.Malformed()
	}
	if err := rest.CheckKeys("snapshot", raw, "name", "display_name", "description", "volume_id", "force", "metadata"); err != nil {
		return nil, err
	}
	attached, err := r.attachedAllowed(raw)
	if err != nil {
		return nil, err
	}
	b := bodyReader{raw: raw}
	if given := rest.Member(raw, "volume_id"); given != nil && rest.IsNull(given) {
		return nil, rest.NotFound("Volume None could not be found.")
	}
	if name := rest.Member(raw, "name"); utf8.RuneCountInString(rest.Python(name)) > 257 {
		return nil, rest.InvalidField("name", name, "%s is too long", rest.Python(name))
	}
	spec := state.SnapshotSpec{
		Name: b.label("name", "display_name"), Description: b.label("description"), VolumeID: b.uuid("volume_id"),
		Metadata: b.metadata("metadata"), Attached: attached,
	}
	if b.err == nil && spec.VolumeID == "" {
		b.err = rest.InvalidField("snapshot", raw, "'volume_id' is a required property")
	}
	if b.err != nil {
		return nil, b.err
	}
	snapshot, err := s.cloud.CreateSnapshot(r.Call, spec)
	if err != nil {
		return nil, err
	}
	return accepted(rest.Object{"snapshot": r.viewSnapshot(snapshot, true)})
}

func (s *Service) getSnapshot(r *request) (*rest.Response, error) {
	snapshot, err := s.cloud.Snapshot(r.Call, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return ok(rest.Object{"snapshot": r.viewSnapshot(snapshot, false)})
}

func (s *Service) deleteSnapshot(r *request) (*rest.Response, error) {
	return &rest.Response{Status: http.StatusAccepted}, s.cloud.DeleteSnapshot(r.Call, r.PathValue("id"))
}

func (s *Service) updateSnapshot(r *request) (*rest.Response, error) {
	b := bodyReader{raw: rest.Member(r.Body, "snapshot")}
	name, description := b.label("name", "display_name"), b.label("description", "display_description")
	if b.raw == nil {
		return nil, rest.Malformed()
	}
	if b.err != nil {
		return nil, b.err
	}
	snapshot, err := s.cloud.ChangeSnapshot(r.Call, r.PathValue("id"), func(s *state.Snapshot) {
		if name != nil {
			s.Name = name
		}
		if description != nil {
			s.Description = description
		}
	})
	if err != nil {
		return nil, err
	}
	return ok(rest.Object{"snapshot": r.viewSnapshot(snapshot, false)})
}

func (s *Service) snapshotAction(r *request) (*rest.Response, error) {
	name, value := actionOf(r.Body)
	if name != "os-reset_status" {
		return nil, rest.BadRequest("There is no such action: %s", name)
	}
	if !r.Admin {
		return nil, denied("volume_extension:snapshot_admin_actions:reset_status")
	}
	b := bodyReader{raw: value}
	status := b.id("status")
	_, err := s.cloud.ChangeSnapshot(r.Call, r.PathValue("id"), func(s *state.Snapshot) { s.Status = status })
	return &rest.Response{Status: http.StatusAccepted, Header: http.Header{"Content-Type": {"application/json"}}}, err
}

func (s *Service) snapshotMetadata(r *request, change func(map[string]string) map[string]string) (map[string]string, error) {
	if change == nil {
		snapshot, err := s.cloud.Snapshot(r.Call, r.PathValue("id"))
		return snapshot.Metadata, err
	}
	snapshot, err := s.cloud.ChangeSnapshot(r.Call, r.PathValue("id"), func(s *state.Snapshot) {
		s.Metadata = change(maps.Clone(notNil(s.Metadata)))
	})
	return snapshot.Metadata, err
}

func snapshotValue(s *state.Snapshot, key string) string {
	switch key {
	case "name", "display_name":
		return state.Or(s.Name)
	case "status":
		return s.Status
	case "volume_id":
		return s.VolumeID
	case "created_at":
		return rest.Seconds(s.CreatedAt)
	case "size", "volume_size":
		return strconv.FormatInt(s.Size, 10)
	}
	return s.ID
}

func (s *Service) listSnapshots(detail bool) handler {
	return func(r *request) (*rest.Response, error) {
		query := r.URL.Query()
		p, err := parsePage(query)
		if err != nil {
			return nil, err
		}
		want, err := filters(query, "name", "status", "volume_id", "metadata", "availability_zone", "consumes_quota")
		if err != nil {
			return nil, err
		}
		metadata := metadataFilter(want["metadata"])
		orders, err := sortOrders(query, "id", "name", "status", "created_at", "volume_id", "display_name")
		if err != nil {
			return nil, err
		}
		list := s.cloud.Snapshots(r.Call, truth(query.Get("all_tenants")), func(x *state.Snapshot) bool {
			return x.ID == p.marker || snapshotMatches(x, want) && includes(x.Metadata, metadata)
		})
		sortBy(list, orders, snapshotValue)
		total := len(list)
		list, more, err := cut(list, p, func(x *state.Snapshot) string { return x.ID }, func(marker string) error {
			return rest.NotFound("Snapshot %s could not be found.", marker)
		})
		if err != nil {
			return nil, err
		}
		views := make([]snapshotView, len(list))
		for i, x := range list {
			views[i] = r.viewSnapshot(x, !detail)
			views[i].CreatedAt = rest.Seconds(x.CreatedAt)
			if !detail {
				views[i].GroupID, views[i].UserID, views[i].ConsumesQuota = nil, "", nil
			}
		}
		body := rest.Object{"snapshots": views}
		if r.version.AtLeast(45) && truth(query.Get("with_count")) {
			body["count"] = total
		}
		if more {
			body["snapshots_links"] = r.next(list[len(list)-1].ID)
		}
		return ok(body)
	}
}

func snapshotMatches(x *state.Snapshot, want map[string]string) bool {
	for _, key := range []string{"name", "status", "volume_id", "volume_size", "id"} {
		if value, given := want[key]; given && !state.SameText(snapshotValue(x, key), value) {
			return false
		}
	}
	return true
}
