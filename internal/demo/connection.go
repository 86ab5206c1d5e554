package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// plugin is the connection to one plugin, as a sidecar or a kubelet has it.
type plugin struct {
	name string
	conn *grpc.ClientConn
}

// dial prepares the connection to the plugin that listens on socket. It is
// made when it is used, and made again when the plugin has been restarted.
// intercept sees every call.
func dial(name, socket string, intercept grpc.UnaryClientInterceptor) (*plugin, error) {
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(intercept),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 250 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", name, err)
	}
	return &plugin{name: name, conn: conn}, nil
}

// awaitReady asks the plugin by Probe until it says that it is ready, as the
// sidecars do when they start.
func (p *plugin) awaitReady(ctx context.Context, pat patience) error {
	identity := csi.NewIdentityClient(p.conn)
	_, err := repeat(ctx, pat, p.name+": Probe", func(ctx context.Context) (*csi.ProbeResponse, error) {
		answer, err := identity.Probe(ctx, &csi.ProbeRequest{})
		if err != nil {
			return nil, err
		}
		if answer.GetReady() != nil && !answer.GetReady().GetValue() {
			return nil, status.Error(codes.Unavailable, "not ready yet")
		}
		return answer, nil
	})
	return err
}

// controllerNeeds and nodeNeeds are the capabilities that the demo makes use
// of; a sidecar would leave out what a plugin does not announce.
func controllerNeeds() []csi.ControllerServiceCapability_RPC_Type {
	return []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
	}
}

func nodeNeeds() []csi.NodeServiceCapability_RPC_Type {
	return []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
	}
}

// checkController makes sure that the controller announces what is needed.
func checkController(ctx context.Context, pat patience, c csi.ControllerClient) error {
	answer, err := repeat(ctx, pat, "ControllerGetCapabilities", func(ctx context.Context) (*csi.ControllerGetCapabilitiesResponse, error) {
		return c.ControllerGetCapabilities(ctx, &csi.ControllerGetCapabilitiesRequest{})
	})
	if err != nil {
		return err
	}
	has := map[csi.ControllerServiceCapability_RPC_Type]bool{}
	for _, capability := range answer.GetCapabilities() {
		has[capability.GetRpc().GetType()] = true
	}
	for _, need := range controllerNeeds() {
		if !has[need] {
			return fmt.Errorf("the controller does not announce %v", need)
		}
	}
	return nil
}

// checkNode makes sure that a node plugin announces what is needed.
func checkNode(ctx context.Context, pat patience, name string, n csi.NodeClient) error {
	answer, err := repeat(ctx, pat, name+": NodeGetCapabilities", func(ctx context.Context) (*csi.NodeGetCapabilitiesResponse, error) {
		return n.NodeGetCapabilities(ctx, &csi.NodeGetCapabilitiesRequest{})
	})
	if err != nil {
		return err
	}
	has := map[csi.NodeServiceCapability_RPC_Type]bool{}
	for _, capability := range answer.GetCapabilities() {
		has[capability.GetRpc().GetType()] = true
	}
	for _, need := range nodeNeeds() {
		if !has[need] {
			return fmt.Errorf("%s does not announce %v", name, need)
		}
	}
	return nil
}
