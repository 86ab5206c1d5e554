package cinder

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

func isUUID(s string) bool { return len(s) == 36 && uuid.Validate(s) == nil }

// volumeFilter turns the query into a condition.
func (s *Service) volumeFilter(r *request) (state.Filter, error) {
	query := r.URL.Query()
	if len(query) == 0 {
		return nil, nil
	}
	want, err := filters(query,
		"name", "status", "metadata", "bootable", "migration_status", "availability_zone", "group_id", "glance_metadata",
		"size", "created_at", "updated_at", "consumes_quota")
	if err != nil {
		return nil, err
	}
	metadata := metadataFilter(want["metadata"])
	delete(want, "metadata")
	created, err := timeFilter(r, want["created_at"])
	if err != nil {
		return nil, err
	}
	if created != nil {
		delete(want, "created_at")
	}
	types := map[string]string{}
	if want["volume_type"] != "" {
		types = s.cloud.TypeNames()
	}
	return func(v *state.Volume) bool {
		for key, value := range want {
			if !volumeMatches(v, key, value, types) {
				return false
			}
		}
		return includes(v.Metadata, metadata) && (created == nil || created(v.CreatedAt))
	}, nil
}

// timeFilter reads a filter like lte:2026-01-02T15:04:05, which exists from
// microversion 3.60 on; nil for another one.
func timeFilter(r *request, text string) (func(time.Time) bool, error) {
	operator, value, found := strings.Cut(text, ":")
	if !r.version.AtLeast(60) || text == "" {
		return nil, nil
	}
	if !found {
		return nil, rest.BadRequest("Invalid %s operator", operator)
	}
	limit, err := time.Parse("2006-01-02T15:04:05.999999", value)
	if err != nil {
		return nil, rest.BadRequest("Invalid input received: created_at filter: %s is not a time", value)
	}
	compare := map[string]func(int) bool{
		"gt": func(c int) bool { return c > 0 }, "gte": func(c int) bool { return c >= 0 }, "eq": func(c int) bool { return c == 0 },
		"neq": func(c int) bool { return c != 0 }, "lt": func(c int) bool { return c < 0 }, "lte": func(c int) bool { return c <= 0 },
	}[operator]
	if compare == nil {
		return nil, rest.BadRequest("Invalid input received: created_at filter: unknown operator %s", operator)
	}
	return func(at time.Time) bool { return compare(at.Truncate(time.Second).Compare(limit)) }, nil
}

func volumeMatches(v *state.Volume, key, value string, types map[string]string) bool {
	switch key {
	case "bootable", "multiattach", "consumes_quota":
		have := map[string]bool{"bootable": v.Bootable, "multiattach": v.Multiattach, "consumes_quota": true}[key]
		return truth(value) == have
	case "glance_metadata", "created_at", "updated_at", "host", "migration_status", "group_id":
		return value == ""
	case "volume_type":
		return state.SameText(value, types[v.TypeID]) || value == v.TypeID
	}
	return state.SameText(volumeValue(v, key), value)
}

// volumeValue is the text of a field by which volumes are selected and sorted.
func volumeValue(v *state.Volume, key string) string {
	switch key {
	case "name", "display_name":
		return state.Or(v.Name)
	case "status":
		return v.Status
	case "availability_zone":
		return v.Zone
	case "volume_type_id":
		return v.TypeID
	case "snapshot_id":
		return v.SnapshotID
	case "source_volid":
		return v.SourceID
	case "size":
		return strconv.FormatInt(v.Size, 10)
	case "user_id":
		return v.UserID
	case "project_id":
		return v.ProjectID
	case "created_at":
		return rest.Seconds(v.CreatedAt)
	case "updated_at":
		return rest.Micros(v.UpdatedAt)
	case "bootable":
		return strconv.FormatBool(v.Bootable)
	}
	return v.ID
}

func volumeSortValue(v *state.Volume, key string) string {
	if key == "size" {
		return fmt.Sprintf("%020d", v.Size)
	}
	return volumeValue(v, key)
}

type volumeSummaryView struct {
	ID    string  `json:"id"`
	Name  *string `json:"name"`
	Links []link  `json:"links"`
}

func (s *Service) listVolumes(detail bool) handler {
	return func(r *request) (*rest.Response, error) {
		query := r.URL.Query()
		p, err := parsePage(query)
		if err != nil {
			return nil, err
		}
		filter, err := s.volumeFilter(r)
		if err != nil {
			return nil, err
		}
		orders, err := sortOrders(query, "id", "name", "status", "size", "created_at", "updated_at", "availability_zone", "bootable", "display_name")
		if err != nil {
			return nil, err
		}
		// The marker marks a place, whether the filter selects it or not.
		list := s.cloud.Volumes(r.Call, truth(query.Get("all_tenants")), func(v *state.Volume) bool {
			return v.ID == p.marker || filter == nil || filter(v)
		})
		sortBy(list, orders, volumeSortValue)
		total := len(list)
		list, more, err := cut(list, p, func(v *state.Volume) string { return v.ID }, func(marker string) error {
			return rest.NotFound("Volume %s could not be found.", strings.TrimSpace(marker))
		})
		if err != nil {
			return nil, err
		}
		body := rest.Object{"volumes": s.viewVolumes(r, list, detail)}
		if more {
			body["volumes_links"] = r.next(list[len(list)-1].ID)
		}
		if r.version.AtLeast(45) && truth(query.Get("with_count")) {
			body["count"] = total
		}
		return ok(body)
	}
}

func (s *Service) viewVolumes(r *request, list []state.Volume, detail bool) any {
	if !detail {
		views := make([]volumeSummaryView, len(list))
		for i, v := range list {
			views[i] = volumeSummaryView{v.ID, v.Name, r.links("volumes", v.ID)}
		}
		return views
	}
	types := s.cloud.TypeNames()
	views := make([]volumeView, len(list))
	for i, v := range list {
		views[i] = r.viewVolume(v, types, false)
	}
	return views
}
