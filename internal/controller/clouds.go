package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
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

// fixed are clouds that never change.
type fixed map[string]*volumes.Service

// Use returns the cloud that the secret names.
func (f fixed) Use(_ context.Context, secrets map[string]string) (*volumes.Service, func(), error) {
	service, ok := f[secrets[CloudSecret]]
	if !ok {
		return nil, nil, fmt.Errorf("%w: secret %q names cloud %q, which is not configured; there are: %s", cloud.ErrInvalid,
			CloudSecret, secrets[CloudSecret], strings.Join(slices.Sorted(maps.Keys(f)), ", "))
	}
	return service, func() {}, nil
}

// All returns them by name.
func (f fixed) All(context.Context) ([]Cloud, func()) {
	all := make([]Cloud, 0, len(f))
	for _, name := range slices.Sorted(maps.Keys(f)) {
		all = append(all, Cloud{Name: name, Service: f[name]})
	}
	return all, func() {}
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
