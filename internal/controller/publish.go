package controller

import (
	"context"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// devicePath is the key of the publish context with the device that Cinder
// reports. Nobody relies on it: a guest numbers its disks as it likes.
const devicePath = "DevicePath"

// readOnly is the key of the publish context that tells the node to mount the
// volume read-only; its value is "true" then. The node plugin reads it.
const readOnly = "cinder.csi.openstack.org/readOnly"

// firstPublication is the key of the publish context that tells the node plugin that
// no node ever had the volume before. Its value is the time of that publication, as
// RFC 3339 has it: the node plugin believes it until the node is started again.
const firstPublication = "cinder.csi.openstack.org/firstPublication"

// ControllerPublishVolume returns when the volume is attached to the node.
func (s *Server) ControllerPublishVolume(ctx context.Context, req *csi.ControllerPublishVolumeRequest) (*csi.ControllerPublishVolumeResponse, error) {
	switch {
	case req.GetVolumeId() == "":
		return nil, missing("volume_id")
	case req.GetNodeId() == "":
		return nil, missing("node_id")
	case req.GetVolumeCapability() == nil:
		return nil, missing("volume_capability")
	}
	wanted, err := checkCapability(req.GetVolumeCapability())
	if err != nil {
		return nil, err
	}
	return inCloud(ctx, s, req, func(service *volumes.Service) (*csi.ControllerPublishVolumeResponse, error) {
		attach := service.AttachAlone
		if wanted.multiattach {
			attach = service.Attach
		}
		volume, err := attach(ctx, req.GetVolumeId(), req.GetNodeId())
		if err != nil {
			return nil, statusOfPublication(err)
		}
		published := map[string]string{devicePath: ""}
		for _, a := range volume.Attachments {
			if strings.EqualFold(a.ServerID, req.GetNodeId()) {
				published[devicePath] = a.Device
			}
		}
		if req.GetReadonly() || wanted.readOnly {
			published[readOnly] = "true"
		}
		if volume.First {
			published[firstPublication] = time.Now().UTC().Format(time.RFC3339Nano)
		}
		return &csi.ControllerPublishVolumeResponse{PublishContext: published}, nil
	})
}

// ControllerUnpublishVolume returns when the volume is detached from the node,
// or from all nodes where none is named.
func (s *Server) ControllerUnpublishVolume(ctx context.Context, req *csi.ControllerUnpublishVolumeRequest) (*csi.ControllerUnpublishVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, missing("volume_id")
	}
	return inCloud(ctx, s, req, func(service *volumes.Service) (*csi.ControllerUnpublishVolumeResponse, error) {
		return &csi.ControllerUnpublishVolumeResponse{}, service.Detach(ctx, req.GetVolumeId(), req.GetNodeId())
	})
}
