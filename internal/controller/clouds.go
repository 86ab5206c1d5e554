package controller

import (
	"context"

	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// Source has the clouds of all calls.
type Source interface {
	// Use returns the cloud that the secrets of a call name, or hold credentials for. The
	// caller calls release when it is done with the cloud.
	Use(ctx context.Context, secrets map[string]string) (service *volumes.Service, release func(), err error)
	// All returns every known cloud, in the order of ListVolumes.
	All(ctx context.Context) (all []Cloud, release func())
}

// Cloud is one of all clouds.
type Cloud struct {
	// Name of the cloud in tokens. It tells nothing about a secret, and no other cloud
	// ever gets it.
	Name string
	// Service of the cloud; nil while the driver can't reach it, and Err says why.
	Service *volumes.Service
	Err     error
}

// inCloud carries out a call in the cloud that its secrets name, and returns its error as a
// status.
func inCloud[T any](ctx context.Context, s *Server, req interface{ GetSecrets() map[string]string }, do func(*volumes.Service) (*T, error)) (*T, error) {
	service, release, err := s.cfg.Source.Use(ctx, req.GetSecrets())
	if err != nil {
		return nil, statusOf(err)
	}
	defer release()
	resp, err := do(service)
	if err != nil {
		return nil, statusOf(err)
	}
	return resp, nil
}
