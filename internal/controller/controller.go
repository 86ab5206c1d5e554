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
	// Cluster is the value of the cluster's tag on what is created.
	Cluster string
	// WithTopology binds volumes to zones.
	WithTopology bool
	// IgnoreVolumeAZ lets volumes be used from whichever zone was asked for,
	// for clouds whose compute and storage zones have different names.
	IgnoreVolumeAZ bool
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

// cloud returns the cloud that the secrets of a call name.
func (s *Server) cloud(secrets map[string]string) (*volumes.Service, error) {
	name := secrets[cloudSecret]
	service, ok := s.cfg.Clouds[name]
	if !ok {
		return nil, status.Errorf(codes.InvalidArgument, "secret %q names cloud %q, which is not configured; there are: %s",
			cloudSecret, name, strings.Join(s.cloudNames(), ", "))
	}
	return service, nil
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

// ControllerGetCapabilities returns what the service can do.
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
