package registration

import (
	"context"
	"regexp"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/cinder-csi/cinder-csi/internal/zone"
)

// Ask asks whoever serves a registration socket who it is, as the kubelet does.
func Ask(ctx context.Context, path string) (*api.PluginInfo, error) {
	connection, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer func() { _ = connection.Close() }()
	return api.NewRegistrationClient(connection).GetInfo(ctx, &api.InfoRequest{})
}

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
	s.cfg.Registered(status.GetPluginRegistered())
	if status.GetPluginRegistered() {
		s.cfg.Logger.Info(Registered, endpoint)
	} else {
		s.cfg.Logger.Error("the kubelet has not registered this driver, so pods on this node get no volumes of it; "+
			"the kubelet tries again by itself, in two minutes at the latest",
			append(s.cfg.otherLabel(status.GetError()), zap.String("error", status.GetError()), endpoint)...)
	}
	return &api.RegistrationStatusResponse{}, nil
}

// collision is how the kubelet says that the Node has another label than the driver tells,
// in updateTopologyLabels of Kubernetes' pkg/volume/csi/nodeinfomanager.
var collision = regexp.MustCompile(`driver reported "([^"]*)":"([^"]*)" but existing label is "[^"]*":"([^"]*)"`)

// otherLabel returns what to do about a Node that has another label, as fields for the log;
// none where the kubelet's error is about something else.
func (c Config) otherLabel(failure string) []zap.Field {
	found := collision.FindStringSubmatch(failure)
	if found == nil {
		return nil
	}
	label, told, existing := found[1], found[2], found[3]
	return []zap.Field{
		zap.String("cause", "the Node has another label than this server's zone, since the server has moved, or something else has set the label"),
		zap.String("nodeName", c.NodeName), zap.String("label", label), zap.String("old", existing), zap.String("new", told),
		zap.String("command", zone.Relabel(c.NodeName, label, told)),
	}
}
