package openstack

import (
	"cmp"
	"context"
	"net/url"
	"slices"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

var _ cloud.Inspector = (*Client)(nil)

// volumeDetails is Cinder's view of a volume, for people.
type volumeDetails struct {
	volume
	UpdatedAt timestamp `json:"updated_at"`
}

func (v volumeDetails) cloud() cloud.VolumeDetails {
	return cloud.VolumeDetails{Volume: v.volume.cloud(), UpdatedAt: v.UpdatedAt.Time}
}

// VolumeDetails is one GET, or none for an id that is not a UUID.
func (c *Client) VolumeDetails(ctx context.Context, id string) (*cloud.VolumeDetails, error) {
	return get[volumeDetails](ctx, c, call{
		operation: "get volume", resource: id, metric: "volume_get", endpoint: c.now().cinder,
		path: []string{"volumes", id}, ids: []string{id},
	}, "volume")
}

// datedMessage is a message with the request that failed.
type datedMessage struct {
	message
	RequestID string `json:"request_id"`
}

// Messages is one GET, or none where the cloud has no user messages.
func (c *Client) Messages(ctx context.Context, id string) ([]cloud.Message, error) {
	r := call{
		operation: "list messages about", resource: id, metric: "message_list", endpoint: c.now().cinder,
		path: []string{"messages"}, ids: []string{id},
	}
	if err := r.known(); err != nil {
		return nil, err
	}
	switch {
	case r.use(ctx, cinderMessageFilters):
		r.query = url.Values{"resource_uuid": {id}, "sort": {"created_at:desc"}}
	case !r.use(ctx, cinderMessages):
		return nil, nil
	}
	listed, _, err := list[datedMessage](ctx, c, r, "messages", cloud.Page{})
	if cloud.NotTold(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var messages []cloud.Message
	for _, m := range listed {
		if sameID(m.ResourceID, id) {
			messages = append(messages, cloud.Message{Text: oneLine(m.Text), CreatedAt: m.CreatedAt.Time, RequestID: m.RequestID})
		}
	}
	slices.SortStableFunc(messages, func(a, b cloud.Message) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return messages, nil
}

// serverDetails is Nova's view of a server, for people.
type serverDetails struct {
	server
	Name      string `json:"name"`
	TaskState string `json:"OS-EXT-STS:task_state"`
	Locked    truth  `json:"locked"`
	Fault     struct {
		Message string `json:"message"`
	} `json:"fault"`
}

func (s serverDetails) cloud() cloud.ServerDetails {
	return cloud.ServerDetails{
		Server: s.server.cloud(), Name: s.Name, TaskState: s.TaskState, Locked: bool(s.Locked), Fault: oneLine(s.Fault.Message),
	}
}

// ServerDetails is one GET, or none for an id that is not a UUID.
func (c *Client) ServerDetails(ctx context.Context, id string) (*cloud.ServerDetails, error) {
	return get[serverDetails](ctx, c, call{
		operation: "get server", resource: id, metric: "server_get", endpoint: c.now().nova,
		path: []string{"servers", id}, ids: []string{id},
	}, "server")
}

// serverAction is Nova's view of something that was asked of a server.
type serverAction struct {
	Action    string    `json:"action"`
	RequestID string    `json:"request_id"`
	StartedAt timestamp `json:"start_time"`
	Message   string    `json:"message"`
	Events    []struct {
		Event  string `json:"event"`
		Result string `json:"result"`
	} `json:"events"`
}

func (a serverAction) key() string { return a.RequestID }

// ServerActions is one GET for the list, and one for each attachment and detachment.
func (c *Client) ServerActions(ctx context.Context, id string, limit int) ([]cloud.ServerAction, error) {
	r := call{
		operation: "list actions of server", resource: id, metric: "server_action_list", endpoint: c.now().nova,
		path: []string{"servers", id, "os-instance-actions"}, ids: []string{id},
	}
	listed, _, err := list[serverAction](ctx, c, r, "instanceActions", cloud.Page{})
	if err != nil {
		return nil, err
	}
	listed = slices.DeleteFunc(listed, func(a serverAction) bool { return a.Action != "attach_volume" && a.Action != "detach_volume" })
	slices.SortStableFunc(listed, func(a, b serverAction) int { return b.StartedAt.Compare(a.StartedAt.Time) })
	var actions []cloud.ServerAction
	for _, a := range listed[:min(limit, len(listed))] {
		var answer struct {
			Action serverAction `json:"instanceAction"`
		}
		err := c.do(ctx, call{
			operation: "get action of server", resource: id, metric: "server_action_get", endpoint: c.now().nova,
			path: []string{"servers", id, "os-instance-actions", a.RequestID}, ids: []string{id}, answer: &answer,
		})
		if err != nil && !cloud.NotTold(err) {
			return nil, err
		}
		action := cloud.ServerAction{
			Name: a.Action, RequestID: a.RequestID, StartedAt: a.StartedAt.Time, Failed: cmp.Or(a.Message, answer.Action.Message) != "",
		}
		for _, e := range answer.Action.Events {
			action.Events = append(action.Events, cloud.ServerEvent{Name: e.Event, Result: e.Result})
		}
		actions = append(actions, action)
	}
	return actions, nil
}

// AllAttachmentRecords is one GET per 1000 records.
func (c *Client) AllAttachmentRecords(ctx context.Context) ([]cloud.AttachmentRecord, error) {
	listed, err := all[record](ctx, c, call{
		operation: "list attachment records", metric: "attachment_record_list", endpoint: c.now().cinder,
		path: []string{"attachments"}, needs: cinderAttachments, feature: "reading attachment records",
	}, "attachments")
	if err != nil {
		return nil, err
	}
	records := make([]cloud.AttachmentRecord, 0, len(listed))
	for _, a := range listed {
		records = append(records, cloud.AttachmentRecord{ID: a.ID, VolumeID: a.VolumeID, ServerID: a.Instance, Status: a.Status})
	}
	return records, nil
}
