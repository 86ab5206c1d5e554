package rpc

import (
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Probe asks the plugin at an endpoint whether it serves, on a connection of its
// own: as a kubelet that has just started would come in. It waits for the answer
// until ctx ends.
func Probe(ctx context.Context, endpoint Endpoint) (err error) {
	target := "unix:" + endpoint.Address
	if endpoint.Network == "tcp" {
		target = "passthrough:///" + endpoint.Address
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", endpoint, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	resp, err := csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("the plugin does not answer on %s: %w", endpoint, err)
	}
	if ready := resp.GetReady(); ready != nil && !ready.GetValue() {
		return fmt.Errorf("the plugin on %s is not ready", endpoint)
	}
	return nil
}
