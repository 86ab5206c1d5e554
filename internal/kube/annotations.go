package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	// ErrNotFound tells that an object does not exist.
	ErrNotFound = errors.New("it does not exist")
	// ErrUnavailable tells that it could not be read, for whatever reason.
	ErrUnavailable = errors.New("it could not be read")
)

// maxName is the longest name of a claim or VolumeSnapshot.
const maxName = 253

// names are those of namespaces, claims and VolumeSnapshots: what is none would become
// another path.
var names = regexp.MustCompile(`^[a-z0-9-][a-z0-9.-]*$`)

// Annotations returns the annotations of an object, whose kind is Claims or Snapshots.
// It returns ErrNotFound where the apiserver itself says so of this object, and else
// ErrUnavailable.
func (c *Client) Annotations(ctx context.Context, kind Resource, namespace, name string) (map[string]string, error) {
	found, err := c.annotations(ctx, kind, namespace, name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s/%s, at %s: %w", kind.GVR().Resource, namespace, name, c.Host(), err)
	}
	return found, nil
}

// annotations asks for metadata alone, which is a third of the object; older servers send
// all of it.
func (c *Client) annotations(ctx context.Context, kind Resource, namespace, name string) (map[string]string, error) {
	if max(len(namespace), len(name)) > maxName || !names.MatchString(namespace) || !names.MatchString(name) {
		return nil, ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	answer := c.REST.Get().AbsPath(kind.root()).Namespace(namespace).Resource(kind.GVR().Resource).Name(name).
		SetHeader("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json").
		Do(ctx)
	switch err := answer.Error(); {
	case absent(err, name):
		return nil, ErrNotFound
	case err != nil:
		return nil, told(err, kind, "get")
	}
	body, _ := answer.Raw()
	var object metav1.PartialObjectMetadata
	if json.Unmarshal(body, &object) != nil || object.Kind == "Status" || object.Name != name {
		return nil, errors.New("the answer is not about that object")
	}
	return object.Annotations, nil
}
