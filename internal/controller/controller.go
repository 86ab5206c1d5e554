// Package controller is the CSI Controller service: it checks a request, has
// the domain carry it out, and translates the answer or the error. It decides
// nothing about a cloud.
package controller

import (
	"context"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/kube"
)

// CloudSecret is the key of a secret that names the cloud a call is about.
const CloudSecret = "cloud"

// Config is what the service works with.
type Config struct {
	// Source has the clouds.
	Source Source
	// Incomplete tells that Source may have clouds that All does not know: those that
	// secrets of later calls lead to. LIST_VOLUMES_PUBLISHED_NODES is then not announced.
	Incomplete bool
	// Annotations returns the annotations of a PersistentVolumeClaim or a VolumeSnapshot;
	// see kube.Client.Annotations. Nil: the driver reads neither.
	Annotations func(ctx context.Context, kind kube.Resource, namespace, name string) (map[string]string, error)
	// TagPrefix begins the annotations that ask for metadata; the rest of the annotation's
	// key is the key of the metadata. Empty: none do.
	TagPrefix string
	// ExtraTags are volumes.Options.Metadata of all clouds, which no annotation replaces.
	ExtraTags map[string]string
	// WithTopology binds volumes to zones.
	WithTopology bool
	// WellKnownZone makes volumes usable from nodes that have their zone under
	// zone.WellKnownKey only, too.
	WellKnownZone bool
	// IgnoreVolumeAZ lets volumes be used from whichever zone was asked for,
	// for clouds whose compute and storage zones have different names.
	IgnoreVolumeAZ bool
	// AllowUnknownParameters has the driver ignore unknown parameters of StorageClasses and
	// VolumeSnapshotClasses, with a warning in the log, instead of refusing them.
	AllowUnknownParameters bool
}

// Server implements csi.ControllerServer.
type Server struct {
	csi.UnimplementedControllerServer
	cfg Config
	// remarked has the remarks about classes that are in the log already.
	remarked sync.Map
}

// New returns the service.
func New(cfg Config) *Server { return &Server{cfg: cfg} }

// ControllerGetCapabilities returns what the service can do. PUBLISH_READONLY is
// not part of it, though a publish for reading only is honoured: Nova attaches
// for reading and writing alike, so that it is the node which mounts read-only
// and makes the disk so, as the publish context tells it. What the capability
// promises beyond that, a refusal of a second publish that differs from the
// first, would take a request more for each: neither Nova nor Cinder remembers
// how a publish was meant. LIST_VOLUMES_PUBLISHED_NODES is not part of it where secrets
// may hold credentials: external-attacher publishes what the list lacks once more
// (ReconcileVA of its pkg/controller/csi_handler.go), and after a start the list lacks the
// volumes of all clouds whose secrets have not come yet.
func (s *Server) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	types := []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
		csi.ControllerServiceCapability_RPC_GET_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
		csi.ControllerServiceCapability_RPC_GET_VOLUME,
		csi.ControllerServiceCapability_RPC_MODIFY_VOLUME,
		csi.ControllerServiceCapability_RPC_GET_CAPACITY,
		// Without it the sidecars pass SINGLE_NODE_WRITER for ReadWriteOncePod.
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	}
	if !s.cfg.Incomplete {
		types = append(types, csi.ControllerServiceCapability_RPC_LIST_VOLUMES_PUBLISHED_NODES)
	}
	resp := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range types {
		resp.Capabilities = append(resp.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}},
		})
	}
	return resp, nil
}

// missing is the error for a required field that is empty.
func missing(field string) error {
	return status.Errorf(codes.InvalidArgument, "%s is missing", field)
}
