// Package controllertest has the clouds of tests of the controller service.
package controllertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// Clouds are clouds by name that never change; "" is the one of calls that name none.
type Clouds map[string]*volumes.Service

// Use returns the cloud that the secret names.
func (c Clouds) Use(_ context.Context, secrets map[string]string) (*volumes.Service, func(), error) {
	service, ok := c[secrets[controller.CloudSecret]]
	if !ok {
		return nil, nil, fmt.Errorf("%w: secret %q names cloud %q, which is not configured; there are: %s", cloud.ErrInvalid,
			controller.CloudSecret, secrets[controller.CloudSecret], strings.Join(slices.Sorted(maps.Keys(c)), ", "))
	}
	return service, func() {}, nil
}

// All returns the clouds by name.
func (c Clouds) All(context.Context) ([]controller.Cloud, func()) {
	all := make([]controller.Cloud, 0, len(c))
	for _, name := range slices.Sorted(maps.Keys(c)) {
		all = append(all, controller.Cloud{Name: name, Service: c[name]})
	}
	return all, func() {}
}
