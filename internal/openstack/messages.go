package openstack

import (
	"context"
	"net/url"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// VolumeFault is one GET, or none where the cloud has no user messages.
func (c *Client) VolumeFault(ctx context.Context, id string) (cloud.Fault, error) {
	return c.newestFault(ctx, "VOLUME", id)
}

// SnapshotFault is one GET, or none where the cloud has no user messages.
func (c *Client) SnapshotFault(ctx context.Context, id string) (cloud.Fault, error) {
	return c.newestFault(ctx, "VOLUME_SNAPSHOT", id)
}

// message is what Cinder tells users about something that failed.
type message struct {
	ResourceType string    `json:"resource_type"`
	ResourceID   string    `json:"resource_uuid"`
	Text         string    `json:"user_message"`
	CreatedAt    timestamp `json:"created_at"`
}

func (m message) key() string { return m.ResourceID }

// newestFault returns the newest message about a resource, none where the cloud doesn't
// tell. Filters need 3.5; the messages are compared again here, and all are read below
// it.
func (c *Client) newestFault(ctx context.Context, resourceType, id string) (cloud.Fault, error) {
	r := call{
		operation: "list messages about", resource: id, metric: "message_list", endpoint: c.now().cinder,
		path: []string{"messages"}, ids: []string{id},
	}
	if err := r.known(); err != nil {
		return cloud.Fault{}, err
	}
	switch {
	case r.use(ctx, cinderMessageFilters):
		r.query = url.Values{"resource_uuid": {id}, "sort": {"created_at:desc"}}
	case !r.use(ctx, cinderMessages):
		return cloud.Fault{}, nil
	}
	messages, _, err := list[message](ctx, c, r, "messages", cloud.Page{})
	if cloud.NotTold(err) {
		return cloud.Fault{}, nil
	}
	if err != nil {
		return cloud.Fault{}, err
	}
	newest, text := time.Time{}, ""
	for _, m := range messages {
		if m.ResourceType == resourceType && sameID(m.ResourceID, id) && (text == "" || m.CreatedAt.After(newest)) {
			newest, text = m.CreatedAt.Time, m.Text
		}
	}
	return fault(oneLine(text)), nil
}
