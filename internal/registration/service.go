package registration

import (
	"context"

	"go.uber.org/zap"
	api "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// service is what the kubelet calls.
type service struct {
	api.UnimplementedRegistrationServer
	cfg Config
}

// GetInfo says where the CSI socket is. The version is that of CSI: any 1.x.
func (s *service) GetInfo(context.Context, *api.InfoRequest) (*api.PluginInfo, error) {
	s.cfg.Logger.Debug("the kubelet asks who is here")
	return &api.PluginInfo{
		Type:              api.CSIPlugin,
		Name:              s.cfg.Driver,
		Endpoint:          s.cfg.Endpoint,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

// NotifyRegistrationStatus is told how it went.
//
// A failure is logged and nothing else is done about it: the kubelet keeps the
// socket on its list and tries again after 0.5 s, 1 s, 2 s and so on up to two
// minutes, whatever the plugin does. Ending the process, as a side container may,
// would end mounts and checks of volumes that go on meanwhile, and put the
// container into pauses that are longer than the kubelet's.
func (s *service) NotifyRegistrationStatus(_ context.Context, status *api.RegistrationStatus) (*api.RegistrationStatusResponse, error) {
	endpoint := zap.String("kubeletRegistrationPath", s.cfg.Endpoint)
	s.cfg.registered(status.GetPluginRegistered())
	if status.GetPluginRegistered() {
		s.cfg.Logger.Info(Registered, endpoint)
	} else {
		s.cfg.Logger.Error("the kubelet has not registered this driver, so pods on this node get no volumes of it; "+
			"the kubelet tries again by itself, in two minutes at the latest", zap.String("error", status.GetError()), endpoint)
	}
	return &api.RegistrationStatusResponse{}, nil
}
