package controller

import (
	"slices"

	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// Tenant is a cloud that is known from the secret of an earlier call.
type Tenant struct {
	// Name is its name in tokens: it tells nothing about the secret, and is
	// never given again.
	Name    string
	Service *volumes.Service
}

// clouds are those that a call without a secret is about: the configured ones
// by name, then the tenants.
type clouds struct {
	names    []string
	services map[string]*volumes.Service
	tenants  map[string]bool
}

// everyCloud returns all clouds. release has to be called when the call is over.
func (s *Server) everyCloud() (all clouds, release func()) {
	all = clouds{names: s.cloudNames(), services: make(map[string]*volumes.Service), tenants: make(map[string]bool)}
	for name, service := range s.cfg.Clouds {
		all.services[name] = service
	}
	if s.cfg.Tenants == nil {
		return all, func() {}
	}
	tenants, release := s.cfg.Tenants()
	for _, t := range tenants {
		all.names = append(all.names, t.Name)
		all.services[t.Name], all.tenants[t.Name] = t.Service, true
	}
	return all, release
}

// after returns the name of the cloud that follows one.
func (c clouds) after(name string) (next string, ok bool) {
	i := slices.Index(c.names, name) + 1
	if i == 0 || i == len(c.names) {
		return "", false
	}
	return c.names[i], true
}
