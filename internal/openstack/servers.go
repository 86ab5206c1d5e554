package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// server is Nova's view of a server.
type server struct {
	ID     string `json:"id"`
	Status string `json:"status"`
}

func (s server) key() string         { return s.ID }
func (s server) cloud() cloud.Server { return cloud.Server(s) }
func (s server) lacks() string       { return "" }

// volumeAttachment is Nova's view of an attachment.
type volumeAttachment struct {
	VolumeID string `json:"volumeId"`
	Device   string `json:"device"`
}

func (a volumeAttachment) key() string { return a.VolumeID }

// GetServer is one GET, or none for an id that is not a UUID.
func (c *Client) GetServer(ctx context.Context, id string) (*cloud.Server, error) {
	return get[server](ctx, c, call{
		operation: "get server", resource: id, metric: "server_get", endpoint: c.now().nova,
		path: []string{"servers", id}, ids: []string{id},
	}, "server")
}

// ListAttachments is one GET.
func (c *Client) ListAttachments(ctx context.Context, serverID string) ([]cloud.ServerAttachment, error) {
	listed, _, err := list[volumeAttachment](ctx, c, call{
		operation: "list attachments of server", resource: serverID, metric: "attachment_list", endpoint: c.now().nova,
		path: []string{"servers", serverID, "os-volume_attachments"}, ids: []string{serverID},
	}, "volumeAttachments", cloud.Page{})
	if err != nil {
		return nil, err
	}
	attachments := make([]cloud.ServerAttachment, 0, len(listed))
	for _, a := range listed {
		attachments = append(attachments, cloud.ServerAttachment(a))
	}
	return attachments, nil
}

// AttachVolume is one POST, and another with microversion 2.60 where Nova tells no
// microversions and refuses the first, as it does for a multiattach volume. From
// microversion 2.101 on Nova accepts it without a body.
func (c *Client) AttachVolume(ctx context.Context, serverID, volumeID string) (*cloud.ServerAttachment, error) {
	var answer struct {
		Attachment volumeAttachment `json:"volumeAttachment"`
	}
	r := call{
		operation: "attach volume", resource: fmt.Sprintf("%s to server %s", volumeID, serverID), metric: "volume_attach",
		endpoint: c.now().nova, method: http.MethodPost, path: []string{"servers", serverID, "os-volume_attachments"},
		ids:    []string{serverID, volumeID},
		body:   map[string]any{"volumeAttachment": map[string]string{"volumeId": volumeID}},
		answer: &answer, emptyWith: http.StatusAccepted,
	}
	err := c.do(ctx, r)
	if errors.Is(err, cloud.ErrUnsupported) && r.endpoint.newest == 0 {
		r.version = novaPreferred
		err = c.do(ctx, r)
	}
	if err != nil {
		return nil, err
	}
	if got := answer.Attachment.VolumeID; got != "" && !sameID(got, volumeID) {
		return nil, r.unexpected("the answer is about volume %q", got)
	}
	return &cloud.ServerAttachment{VolumeID: volumeID, Device: answer.Attachment.Device}, nil
}

// DetachVolume is one DELETE.
func (c *Client) DetachVolume(ctx context.Context, serverID, volumeID string) error {
	return c.do(ctx, call{
		operation: "detach volume", resource: fmt.Sprintf("%s from server %s", volumeID, serverID), metric: "volume_detach",
		endpoint: c.now().nova, method: http.MethodDelete, path: []string{"servers", serverID, "os-volume_attachments", volumeID},
		ids: []string{serverID, volumeID},
	})
}
