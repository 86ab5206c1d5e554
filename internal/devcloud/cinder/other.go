package cinder

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

func (s *Service) otherRoutes(add adder) {
	add("GET", "/os-availability-zone", "zone.list", s.zones)
	add("GET", "/limits", "limits.get", s.limits)
	add("GET", "/os-quota-sets/{target}", "quota.get", s.getQuotas)
	add("PUT", "/os-quota-sets/{target}", "quota.update", admin("volume_extension:quotas:update", s.setQuotas))
	add("GET", "/scheduler-stats/get_pools", "pool.list", admin("scheduler_extension:scheduler_stats:get_pools", s.pools))
	add("GET", "/os-services", "service.list", admin("volume_extension:services:index", s.services))
	add("GET", "/messages", "message.list", since(3, s.listMessages))
	add("GET", "/messages/{id}", "message.get", since(3, s.getMessage))
	add("DELETE", "/messages/{id}", "message.delete", since(3, s.deleteMessage))
	add("GET", "/attachments", "cinder-attachment.list", since(27, s.listAttachments(false)))
	add("POST", "/attachments", "cinder-attachment.create", since(27, s.createAttachment))
	add("GET", "/attachments/detail", "cinder-attachment.list", since(27, s.listAttachments(true)))
	add("GET", "/attachments/{id}", "cinder-attachment.get", since(27, s.getAttachment))
	add("DELETE", "/attachments/{id}", "cinder-attachment.delete", since(27, s.deleteAttachment))
	add("POST", "/attachments/{id}/action", "cinder-attachment.complete", since(44, s.completeAttachment))
	add("GET", "/extensions", "extension.list", func(*request) (*rest.Response, error) { return ok(rest.Object{"extensions": []any{}}) })
}

func (s *Service) zones(*request) (*rest.Response, error) {
	list := []rest.Object{}
	for _, zone := range s.cloud.Zones() {
		list = append(list, rest.Object{"zoneName": zone, "zoneState": rest.Object{"available": true}})
	}
	return ok(rest.Object{"availabilityZoneInfo": list})
}

func (s *Service) limits(r *request) (*rest.Response, error) {
	q := map[string]state.QuotaLine{}
	for _, line := range s.cloud.QuotaReport(r.ProjectID) {
		q[line.Name] = line
	}
	return ok(rest.Object{"limits": rest.Object{"rate": []any{}, "absolute": map[string]int64{
		"maxTotalVolumes": q["volumes"].Limit, "maxTotalSnapshots": q["snapshots"].Limit, "maxTotalVolumeGigabytes": q["gigabytes"].Limit,
		"maxTotalBackups": q["backups"].Limit, "maxTotalBackupGigabytes": q["backup_gigabytes"].Limit,
		"totalVolumesUsed": q["volumes"].InUse, "totalGigabytesUsed": q["gigabytes"].InUse, "totalSnapshotsUsed": q["snapshots"].InUse,
		"totalBackupsUsed": q["backups"].InUse, "totalBackupGigabytesUsed": q["backup_gigabytes"].InUse,
	}}})
}

func (s *Service) getQuotas(r *request) (*rest.Response, error) {
	target := r.PathValue("target")
	if target != r.ProjectID && !r.Admin {
		return nil, denied("volume_extension:quotas:show")
	}
	usage := truth(r.URL.Query().Get("usage"))
	set := rest.Object{"id": target}
	for _, line := range s.cloud.QuotaReport(target) {
		if set[line.Name] = line.Limit; usage {
			set[line.Name] = rest.Object{"limit": line.Limit, "in_use": line.InUse, "reserved": 0}
		}
	}
	return ok(rest.Object{"quota_set": set})
}

func (s *Service) setQuotas(r *request) (*rest.Response, error) {
	raw := rest.Member(r.Body, "quota_set")
	fields, err := rest.Fields(raw)
	if err != nil {
		return nil, rest.Malformed()
	}
	target := r.PathValue("target")
	known := s.cloud.QuotaReport(target)
	changes := state.Quotas{}
	for _, f := range fields {
		if f.Name == "tenant_id" || f.Name == "force" {
			continue
		}
		if !slices.ContainsFunc(known, func(l state.QuotaLine) bool { return l.Name == f.Name }) {
			return nil, rest.BadRequest("Bad key(s) in quota set: %s", f.Name)
		}
		var limit int64
		if err := json.Unmarshal(f.Value, &limit); err != nil || limit < -1 {
			return nil, rest.InvalidField(f.Name, f.Value, "%s is not a valid quota", rest.Python(f.Value))
		}
		changes[f.Name] = limit
	}
	if err := s.cloud.SetQuotas(target, changes); err != nil {
		return nil, err
	}
	set := rest.Object{}
	for _, line := range s.cloud.QuotaReport(target) {
		set[line.Name] = line.Limit
	}
	return ok(rest.Object{"quota_set": set})
}

type messageView struct {
	ID              string `json:"id"`
	EventID         string `json:"event_id"`
	Text            string `json:"user_message"`
	Level           string `json:"message_level"`
	CreatedAt       string `json:"created_at"`
	GuaranteedUntil string `json:"guaranteed_until"`
	RequestID       string `json:"request_id"`
	Links           []link `json:"links"`
	ResourceType    string `json:"resource_type"`
	ResourceID      string `json:"resource_uuid"`
}

// messageLife is how long Cinder promises to keep a message.
const messageLife = 30 * 24 * time.Hour

func (r *request) viewMessage(m state.Message) messageView {
	return messageView{
		m.ID, m.EventID, m.Text, "ERROR", rest.Seconds(m.CreatedAt), rest.Seconds(m.CreatedAt.Add(messageLife)), m.RequestID,
		r.links("messages", m.ID), m.ResourceType, m.ResourceID,
	}
}

func (s *Service) listMessages(r *request) (*rest.Response, error) {
	query := r.URL.Query()
	p, err := parsePage(query)
	if err != nil {
		return nil, err
	}
	want, err := filters(query, "resource_uuid", "resource_type", "event_id", "request_id", "message_level")
	if err != nil {
		return nil, err
	}
	list := s.cloud.Messages(r.Call, func(m *state.Message) bool {
		have := map[string]string{
			"resource_uuid": m.ResourceID, "resource_type": m.ResourceType, "event_id": m.EventID, "request_id": m.RequestID, "message_level": "ERROR",
		}
		return m.ID == p.marker || includes(have, want)
	})
	orders, err := sortOrders(query, "id", "created_at", "guaranteed_until", "event_id", "resource_uuid", "resource_type", "request_id", "message_level")
	if err != nil {
		return nil, err
	}
	sortBy(list, orders, func(m *state.Message, key string) string {
		if key == "created_at" || key == "guaranteed_until" {
			return rest.Micros(m.CreatedAt)
		}
		return map[string]string{"event_id": m.EventID, "resource_uuid": m.ResourceID, "resource_type": m.ResourceType, "request_id": m.RequestID, "id": m.ID}[key]
	})
	list, more, err := cut(list, p, func(m *state.Message) string { return m.ID }, func(marker string) error {
		return rest.NotFound("Message %s could not be found.", marker)
	})
	if err != nil {
		return nil, err
	}
	views := make([]messageView, len(list))
	for i, m := range list {
		views[i] = r.viewMessage(m)
	}
	body := rest.Object{"messages": views}
	if more {
		body["messages_links"] = r.next(list[len(list)-1].ID)
	}
	return ok(body)
}

func (s *Service) getMessage(r *request) (*rest.Response, error) {
	id := r.PathValue("id")
	list := s.cloud.Messages(r.Call, func(m *state.Message) bool { return m.ID == id })
	if len(list) == 0 {
		return nil, rest.NotFound("Message %s could not be found.", id)
	}
	return ok(rest.Object{"message": r.viewMessage(list[0])})
}

func (s *Service) deleteMessage(r *request) (*rest.Response, error) {
	return &rest.Response{Status: 204}, s.cloud.DeleteMessage(r.Call, r.PathValue("id"))
}
