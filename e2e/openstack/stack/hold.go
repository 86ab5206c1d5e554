package stack

import (
	"context"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/supervisor"
)

// Hold is the supervisor: the first process of the namespaces of the services.
func (s *Stack) Hold(ctx context.Context) error {
	if err := supervisor.Enter(s.dir, s.mounts()...); err != nil {
		return err
	}
	return supervisor.Serve(ctx, s.socket())
}
