package cinder

import (
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

type attachmentSummary struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Instance string `json:"instance"`
	VolumeID string `json:"volume_id"`
}

type attachmentDetail struct {
	attachmentSummary
	AttachedAt string      `json:"attached_at"`
	DetachedAt string      `json:"detached_at"`
	Mode       string      `json:"attach_mode"`
	Connection rest.Object `json:"connection_info"`
}

func summaryOf(v state.Volume, a state.Attachment) attachmentSummary {
	return attachmentSummary{a.ID, a.Status, a.ServerID, v.ID}
}

func detailOf(v state.Volume, a state.Attachment) attachmentDetail {
	d := attachmentDetail{attachmentSummary: summaryOf(v, a), Mode: "rw", Connection: rest.Object{}}
	if a.Status == "reserved" {
		d.Mode = "null" // that is a word
	}
	if !a.AttachedAt.IsZero() {
		d.AttachedAt = rest.Seconds(a.AttachedAt.Truncate(time.Second))
		d.Connection = rest.Object{
			"access_mode": "rw", "qos_specs": nil, "encrypted": false, "cacheable": false, "driver_volume_type": "file", "attachment_id": a.ID,
		}
	}
	return d
}

func (s *Service) listAttachments(detail bool) handler {
	return func(r *request) (*rest.Response, error) {
		query := r.URL.Query()
		p, err := parsePage(query)
		if err != nil {
			return nil, err
		}
		want, err := filters(query, "volume_id", "instance_id", "status", "attach_status")
		if err != nil {
			return nil, err
		}
		type pair struct {
			v state.Volume
			a state.Attachment
		}
		var list []pair
		volumes := s.cloud.Volumes(r.Call, truth(query.Get("all_tenants")), func(v *state.Volume) bool {
			return len(v.Attachments) > 0 && (want["volume_id"] == "" || v.ID == want["volume_id"])
		})
		for _, v := range volumes {
			for _, a := range v.Attachments {
				if (want["instance_id"] == "" || a.ServerID == want["instance_id"]) && (want["status"] == "" || a.Status == want["status"]) {
					list = append(list, pair{v, a})
				}
			}
		}
		list, _, err = cut(list, p, func(x *pair) string { return x.a.ID }, func(marker string) error {
			return rest.NotFound("Volume attachment could not be found with filter: attachment_id = %s.", marker)
		})
		if err != nil {
			return nil, err
		}
		views := make([]any, len(list))
		for i, x := range list {
			if views[i] = summaryOf(x.v, x.a); detail {
				views[i] = detailOf(x.v, x.a)
			}
		}
		// Cinder links to no next page here.
		return ok(rest.Object{"attachments": views})
	}
}

func (s *Service) findAttachment(r *request) (state.Volume, state.Attachment, error) {
	id := r.PathValue("id")
	for _, v := range s.cloud.Volumes(r.Call, true, func(v *state.Volume) bool { return len(v.Attachments) > 0 }) {
		for _, a := range v.Attachments {
			if a.ID == id {
				return v, a, nil
			}
		}
	}
	return state.Volume{}, state.Attachment{}, rest.NotFound("Volume attachment could not be found with filter: attachment_id = %s.", id)
}

func (s *Service) getAttachment(r *request) (*rest.Response, error) {
	v, a, err := s.findAttachment(r)
	if err != nil {
		return nil, err
	}
	return ok(rest.Object{"attachment": detailOf(v, a)})
}

// createAttachment reserves a volume, as Nova asks it to.
func (s *Service) createAttachment(r *request) (*rest.Response, error) {
	b := bodyReader{raw: rest.Member(r.Body, "attachment")}
	volume, server := b.id("volume_uuid"), b.id("instance_uuid")
	if b.raw == nil {
		return nil, rest.Malformed()
	}
	if b.err != nil {
		return nil, b.err
	}
	v, a, err := s.cloud.Reserve(r.Call, volume, server)
	if err != nil {
		return nil, err
	}
	return ok(rest.Object{"attachment": detailOf(v, a)})
}

// deleteAttachment refuses: every attachment here is one of Nova's, or what is
// left of one.
func (s *Service) deleteAttachment(r *request) (*rest.Response, error) {
	v, a, err := s.findAttachment(r)
	if err != nil {
		return nil, err
	}
	server, err := s.cloud.Server(r.Call, a.ServerID)
	if err == nil {
		if d, found := server.Disk(v.ID); found && d.AttachmentID == a.ID {
			return nil, conflictWithNova(r, a.ServerID)
		}
	}
	if err := s.cloud.ForgetAttachment(r.Call, v.ID, a.ID); err != nil {
		return nil, err
	}
	return ok(rest.Object{"attachments": []any{}})
}
