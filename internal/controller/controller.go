// Package controller is the CSI Controller service: it checks a request, has
// the domain carry it out, and translates the answer or the error. It decides
// nothing about a cloud.
package controller

import (
	"context"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// cloudSecret is the key of a secret that names the cloud a call is about.
const cloudSecret = "cloud"

// Config is what the service works with.
type Config struct {
	// Clouds are the clouds by name; "" is the one for calls that name none.
	Clouds map[string]*volumes.Service
	// Open returns the cloud that the secrets of a call hold credentials for, and
	// what to call when the call is over; nil where they hold none. It may be
	// nil itself.
	Open func(ctx context.Context, secrets map[string]string) (service *volumes.Service, release func(), err error)
	// Tenants returns the clouds that Open has opened, and what to call when they
	// are not used any more. It may be nil.
	Tenants func() (tenants []Tenant, release func())
	// Annotations returns the annotations of a PersistentVolumeClaim; see
	// package claims. Nil: claims are not looked at.
	Annotations func(ctx context.Context, namespace, name string) (map[string]string, error)
	// Cluster is the value of the cluster's tag on what is created.
	Cluster string
	// WithTopology binds volumes to zones.
	WithTopology bool
	// IgnoreVolumeAZ lets volumes be used from whichever zone was asked for,
	// for clouds whose compute and storage zones have different names.
	IgnoreVolumeAZ bool
	// AllowUnknownParameters passes over parameters of classes that are unknown,
	// with a line in the log, instead of refusing them.
	AllowUnknownParameters bool
	// Version is the driver's own version.
	Version string
}

// Server implements csi.ControllerServer.
type Server struct {
	csi.UnimplementedControllerServer
	cfg Config
}

// New returns the service.
func New(cfg Config) *Server { return &Server{cfg: cfg} }

// cloud returns the cloud that the secrets of a call name, or hold credentials
// for. release has to be called when the call is over.
func (s *Server) cloud(ctx context.Context, secrets map[string]string) (service *volumes.Service, release func(), err error) {
	if s.cfg.Open != nil {
		service, release, err := s.cfg.Open(ctx, secrets)
		if err != nil {
			return nil, nil, statusOf(err)
		}
		if service != nil {
			return service, release, nil
		}
	}
	name := secrets[cloudSecret]
	service, ok := s.cfg.Clouds[name]
	if !ok {
		return nil, nil, status.Errorf(codes.InvalidArgument, "secret %q names cloud %q, which is not configured; there are: %s",
			cloudSecret, name, strings.Join(s.cloudNames(), ", "))
	}
	return service, func() {}, nil
}

// cloudNames returns the names of the clouds in order.
func (s *Server) cloudNames() []string {
	names := make([]string, 0, len(s.cfg.Clouds))
	for name := range s.cfg.Clouds {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// ControllerGetCapabilities returns what the service can do. PUBLISH_READONLY is
// not part of it, though a publish for reading only is honoured: Nova attaches
// for reading and writing alike, so that it is the node which mounts read-only
// and makes the disk so, as the publish context tells it. What the capability
// promises beyond that, a refusal of a second publish that differs from the
// first, would take a request more for each: neither Nova nor Cinder remembers
// how a publish was meant.
func (s *Server) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	types := []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES_PUBLISHED_NODES,
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
