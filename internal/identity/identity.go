// Package identity is the CSI Identity service: who the plugin is and what it
// can do as a whole.
package identity

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// DriverName is the name that PersistentVolumes, StorageClasses and the
// translation of in-tree volumes compiled into Kubernetes refer to. It can
// never change.
const DriverName = "cinder.csi.openstack.org"

// Config describes the plugin.
type Config struct {
	// Version is the plugin's own version.
	Version string
	// Topology tells that volumes are bound to zones.
	Topology bool
}

// Server implements csi.IdentityServer.
type Server struct {
	csi.UnimplementedIdentityServer
	cfg Config
}

// New makes the service.
func New(cfg Config) *Server { return &Server{cfg: cfg} }

// GetPluginInfo returns the driver's name and version.
func (s *Server) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: DriverName, VendorVersion: s.cfg.Version}, nil
}

// GetPluginCapabilities returns what the plugin can do as it is meant to be
// deployed. CSI wants the sum over all of its instances, so that a node plugin
// without the controller role announces the controller service, too.
func (s *Server) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	resp := &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{
		service(csi.PluginCapability_Service_CONTROLLER_SERVICE),
		expansion(csi.PluginCapability_VolumeExpansion_ONLINE),
		expansion(csi.PluginCapability_VolumeExpansion_OFFLINE),
	}}
	if s.cfg.Topology {
		resp.Capabilities = append(resp.Capabilities, service(csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS))
	}
	return resp, nil
}

// Probe answers as long as the plugin runs. It never asks the cloud: a cloud
// that is away is no reason to restart every plugin, and a liveness probe is
// no reason to burden a cloud that struggles (kubernetes/cloud-provider-openstack#1903).
func (s *Server) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

func service(t csi.PluginCapability_Service_Type) *csi.PluginCapability {
	return &csi.PluginCapability{Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: t}}}
}

func expansion(t csi.PluginCapability_VolumeExpansion_Type) *csi.PluginCapability {
	return &csi.PluginCapability{Type: &csi.PluginCapability_VolumeExpansion_{VolumeExpansion: &csi.PluginCapability_VolumeExpansion{Type: t}}}
}
