package openstack

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// volumeAttachment is Nova's view of an attachment.
type volumeAttachment struct {
	ServerID string `json:"serverId"`
	VolumeID string `json:"volumeId"`
	Device   string `json:"device"`
}

// GetServer is one GET, or none for an id that is not a UUID.
func (c *Client) GetServer(ctx context.Context, id string) (*cloud.Server, error) {
	var answer struct {
		Server struct {
			ID     string `json:"id"`
			Name   string `json:"name"`
			Status string `json:"status"`
			Zone   string `json:"OS-EXT-AZ:availability_zone"`
		} `json:"server"`
	}
	r := call{
		operation: "get server", resource: id, metric: "server_get", endpoint: c.now().nova,
		method: http.MethodGet, path: []string{"servers", id}, answer: &answer, accept: []int{http.StatusOK},
	}
	if err := r.known(id); err != nil {
		return nil, err
	}
	if err := c.do(ctx, r); err != nil {
		return nil, err
	}
	s := cloud.Server(answer.Server)
	if !sameID(s.ID, id) {
		return nil, r.unexpected("the answer is about server %q", s.ID)
	}
	return &s, nil
}

// ListAttachments is one GET.
func (c *Client) ListAttachments(ctx context.Context, serverID string) ([]cloud.ServerAttachment, error) {
	r := call{
		operation: "list attachments of server", resource: serverID, metric: "attachment_list", endpoint: c.now().nova,
		method: http.MethodGet, path: []string{"servers", serverID, "os-volume_attachments"},
	}
	if err := r.known(serverID); err != nil {
		return nil, err
	}
	listed, _, err := list[volumeAttachment](ctx, c, r, "volumeAttachments", cloud.Page{})
	if err != nil {
		return nil, err
	}
	attachments := make([]cloud.ServerAttachment, 0, len(listed))
	for _, a := range listed {
		attachments = append(attachments, cloud.ServerAttachment{
			ServerID: cmp.Or(a.ServerID, serverID), VolumeID: a.VolumeID, Device: a.Device,
		})
	}
	return attachments, nil
}

// AttachVolume is one POST. From microversion 2.101 on Nova accepts it without
// a body.
func (c *Client) AttachVolume(ctx context.Context, serverID, volumeID string) (*cloud.ServerAttachment, error) {
	var answer struct {
		Attachment volumeAttachment `json:"volumeAttachment"`
	}
	r := call{
		operation: "attach volume", resource: fmt.Sprintf("%s to server %s", volumeID, serverID), metric: "volume_attach",
		endpoint: c.now().nova, method: http.MethodPost, path: []string{"servers", serverID, "os-volume_attachments"},
		body:   map[string]any{"volumeAttachment": map[string]string{"volumeId": volumeID}},
		answer: &answer, accept: []int{http.StatusOK, http.StatusAccepted}, emptyWith: http.StatusAccepted,
	}
	if err := r.known(serverID, volumeID); err != nil {
		return nil, err
	}
	if err := c.do(ctx, r); err != nil {
		return nil, err
	}
	if got := answer.Attachment.VolumeID; got != "" && !sameID(got, volumeID) {
		return nil, r.unexpected("the answer is about volume %q", got)
	}
	return &cloud.ServerAttachment{ServerID: serverID, VolumeID: volumeID, Device: answer.Attachment.Device}, nil
}

// DetachVolume is one DELETE.
func (c *Client) DetachVolume(ctx context.Context, serverID, volumeID string) error {
	r := call{
		operation: "detach volume", resource: fmt.Sprintf("%s from server %s", volumeID, serverID), metric: "volume_detach",
		endpoint: c.now().nova, method: http.MethodDelete, path: []string{"servers", serverID, "os-volume_attachments", volumeID},
		accept: []int{http.StatusOK, http.StatusAccepted, http.StatusNoContent},
	}
	if err := r.known(serverID, volumeID); err != nil {
		return err
	}
	return c.do(ctx, r)
}
