// Package kube is the driver's way to Kubernetes, on client-go: which cluster, as whom, and
// the objects that the driver looks at.
//
// It uses client-go's dynamic client with types of its own (types.go). The typed clientsets
// register every API group when the program starts, which made the resident memory of
// a node plugin 13 MiB larger; k8s.io/api/core/v1 alone costs 0.7 MiB.
package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	kerrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// pageSize is the number of objects in one answer to a list.
const pageSize = 200

// Client speaks to one Kubernetes cluster. It keeps connections open, and no objects.
type Client struct {
	// Dynamic reads, changes and watches objects of all kinds.
	Dynamic dynamic.Interface
	// REST is for what has no object, as the logs of pods.
	REST rest.Interface
	// host is the address of the apiserver.
	host    string
	http    *http.Client
	timeout time.Duration
}

// New reads the configuration. It makes no request.
func New(opts Options) (*Client, error) {
	config, err := opts.config()
	if err != nil {
		return nil, oneLine(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, oneLine(fmt.Errorf("the credentials or certificates for the apiserver: %w", err))
	}
	// The token is for the apiserver alone.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	api, err := rest.UnversionedRESTClientForConfigAndClient(dynamic.ConfigFor(config), client)
	if err != nil {
		return nil, oneLine(err)
	}
	return &Client{
		Dynamic: dynamic.New(api), REST: api,
		host: config.Host, http: client, timeout: cmp.Or(max(opts.Timeout, 0), 10*time.Second),
	}, nil
}

// oneLine returns err with its text in one line.
func oneLine(err error) error { return errors.New(strings.Join(strings.Fields(err.Error()), " ")) }

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Host is the address of the apiserver, without a password.
func (c *Client) Host() string {
	address, err := url.Parse(c.host)
	if err != nil {
		return c.host
	}
	return address.Redacted()
}

// Resource names a kind of objects: its API version and its plural, as in a path of the API.
type Resource string

// The kinds of objects that the driver looks at.
const (
	Claims            Resource = "v1/persistentvolumeclaims"
	PersistentVolumes Resource = "v1/persistentvolumes"
	Pods              Resource = "v1/pods"
	Nodes             Resource = "v1/nodes"
	Events            Resource = "v1/events"
	Attachments       Resource = "storage.k8s.io/v1/volumeattachments"
	CSINodes          Resource = "storage.k8s.io/v1/csinodes"
	StorageClasses    Resource = "storage.k8s.io/v1/storageclasses"
	Snapshots         Resource = "snapshot.storage.k8s.io/v1/volumesnapshots"
	SnapshotContents  Resource = "snapshot.storage.k8s.io/v1/volumesnapshotcontents"
)

// GVR returns the resource as client-go calls it.
func (r Resource) GVR() schema.GroupVersionResource {
	parts := strings.Split(string(r), "/")
	gvr := schema.GroupVersionResource{Resource: parts[len(parts)-1], Version: parts[len(parts)-2]}
	if len(parts) > 2 {
		gvr.Group = parts[0]
	}
	return gvr
}

// root is the path below which the API has the resource.
func (r Resource) root() string {
	gvr := r.GVR()
	if gvr.Group == "" {
		return "/api/" + gvr.Version
	}
	return "/apis/" + gvr.Group + "/" + gvr.Version
}

// Of returns the objects of a kind; in one namespace, or in all where it is empty.
func (c *Client) Of(kind Resource, namespace string) dynamic.ResourceInterface {
	if namespace == "" {
		return c.Dynamic.Resource(kind.GVR())
	}
	return c.Dynamic.Resource(kind.GVR()).Namespace(namespace)
}

// Get reads one object. It returns nil where the apiserver says that there is none.
func Get[T any](ctx context.Context, c *Client, kind Resource, namespace, name string) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	found, err := c.Of(kind, namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case absent(err, name):
		return nil, nil
	case err != nil:
		return nil, c.failed(err, kind, "get", strings.TrimPrefix(namespace+"/"+name, "/"))
	}
	return decode[T](found)
}

// List reads all objects of a kind, in one namespace or in all where it is empty: all, or
// it returns an error. A kind that the cluster doesn't have is an error, too; see Unknown.
func List[T any](ctx context.Context, c *Client, kind Resource, namespace string) ([]T, error) {
	all := []T{}
	if err := each(ctx, c, kind, namespace, func() { all = all[:0] }, func(object *T) { all = append(all, *object) }); err != nil {
		return nil, err
	}
	return all, nil
}

// Each is List with one page in memory at a time: it calls do for each object, again for
// some of them where the cluster has changed for too long between two pages.
func Each[T any](ctx context.Context, c *Client, kind Resource, do func(*T)) error {
	return each(ctx, c, kind, "", func() {}, do)
}

// each calls do for each object, and begin before the first of them.
func each[T any](ctx context.Context, c *Client, kind Resource, namespace string, begin func(), do func(*T)) error {
	opts := metav1.ListOptions{Limit: pageSize}
	begin()
	for {
		page, err := c.page(ctx, kind, namespace, opts)
		if kerrors.IsResourceExpired(err) && opts.Continue != "" {
			// The cluster changed for too long between two pages: one answer has all.
			opts = metav1.ListOptions{}
			begin()
			continue
		}
		if err != nil {
			return c.failed(err, kind, "list", "")
		}
		for i := range page.Items {
			page.Items[i].SetManagedFields(nil) // half of an object, which nobody reads
			object, err := decode[T](&page.Items[i])
			if err != nil {
				return err
			}
			do(object)
		}
		if opts.Continue = page.GetContinue(); opts.Continue == "" {
			return nil
		}
	}
}

// page is one request for a list. It ends also where the apiserver hangs.
func (c *Client) page(ctx context.Context, kind Resource, namespace string, opts metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	const many = 6 // times as long as for one object
	ctx, cancel := context.WithTimeout(ctx, many*c.timeout)
	defer cancel()
	return c.Of(kind, namespace).List(ctx, opts)
}

// decode gives an object its type.
func decode[T any](found *unstructured.Unstructured) (*T, error) {
	object := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found.Object, object); err != nil {
		return nil, fmt.Errorf("%s %s/%s is not as this version of the driver knows it: %w", found.GetKind(), found.GetNamespace(), found.GetName(), err)
	}
	return object, nil
}

// absent tells whether the apiserver itself says that there is no object of that name.
// A path that it doesn't know is another answer, with the same status.
func absent(err error, name string) bool {
	var status kerrors.APIStatus
	if !errors.As(err, &status) || !kerrors.IsNotFound(err) || Unknown(err) {
		return false
	}
	details := status.Status().Details
	return details != nil && details.Name == name
}

// Unknown tells whether an error says that the cluster doesn't have the kind of objects
// that were asked for, as VolumeSnapshots where their definitions are not installed.
func Unknown(err error) bool {
	_, generic := kerrors.StatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
	return generic && kerrors.IsNotFound(err)
}

// failed says which request failed, and where.
func (c *Client) failed(err error, kind Resource, verb, name string) error {
	return fmt.Errorf("%s %s at %s: %w", verb, strings.TrimSpace(kind.GVR().Resource+" "+name), c.Host(), told(err, kind, verb))
}

// told is err in words for who runs the driver: with the HTTP status, without the URL that
// net/http puts before every error.
func told(err error, kind Resource, verb string) error {
	var (
		status kerrors.APIStatus
		at     *url.Error
	)
	switch {
	case errors.As(err, &status) && kerrors.IsForbidden(err):
		return fmt.Errorf("HTTP 403: %w (the account needs the verb %s for %s)", err, verb, kind.GVR().Resource)
	case errors.As(err, &status):
		return fmt.Errorf("HTTP %d: %w", status.Status().Code, err)
	case errors.As(err, &at):
		return at.Err
	}
	return err
}
