// Package nodestart takes the start-up taint off nodes. A node that joins with that taint
// gets no pods before the driver is registered on it and Kubernetes knows how many
// volumes it takes. Without the taint, the scheduler takes a node that tells no limit for
// one that has none, and sends it more volumes than it has room for.
//
// The controller does that, so that nodes need no rights. Every replica may: a patch
// tests that the taint is where it was, and the second of two finds it gone.
package nodestart

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/util/workqueue"

	"github.com/cinder-csi/cinder-csi/internal/kube"
)

const (
	// pageSize is how many objects a list asks for at once.
	pageSize = 100
	// patchTimeout bounds one patch; an API server that hangs is asked again.
	patchTimeout = 10 * time.Second
	// shortest and longest are the pauses between attempts for one node.
	shortest, longest = 200 * time.Millisecond, time.Minute
)

// Config says which taint goes when.
type Config struct {
	// Kubernetes takes the verbs list and watch on nodes and csinodes, and patch on nodes.
	Kubernetes *kube.Client
	// Driver is the CSI driver that has to be registered.
	Driver string
	// Taint is the key of the taint, whatever its value and effect are.
	Taint  string
	Logger *zap.Logger
}

// remover has what it knows of the cluster in two caches that the API server keeps
// current: each costs one request at the start and one every few minutes, and none for
// what happens meanwhile.
type remover struct {
	cfg             Config
	nodes, csiNodes cache.SharedIndexInformer
	queue           workqueue.TypedRateLimitingInterface[string]
}

// Run takes the taint off nodes until ctx ends. What fails is in the log and tried again.
func Run(ctx context.Context, cfg Config) error {
	r := &remover{cfg: cfg, queue: workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](shortest, longest))}
	var err error
	if r.nodes, err = r.informer(kube.Nodes, slim[node]); err != nil {
		return err
	}
	if r.csiNodes, err = r.informer(kube.CSINodes, slim[csiNode]); err != nil {
		return err
	}
	var informers sync.WaitGroup
	defer informers.Wait()
	informers.Go(func() { r.nodes.RunWithContext(ctx) })
	informers.Go(func() { r.csiNodes.RunWithContext(ctx) })
	defer context.AfterFunc(ctx, r.queue.ShutDown)()
	for r.next(ctx) {
	}
	return nil
}

// informer keeps a cache of one kind of object and queues the names of those that change.
func (r *remover) informer(kind kube.Resource, slim cache.TransformFunc) (cache.SharedIndexInformer, error) {
	all := r.cfg.Kubernetes.Of(kind, "")
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			// The API server answers for an older version from its cache, which has no pages.
			options.ResourceVersion, options.ResourceVersionMatch, options.Limit = "", "", pageSize
			list, _, err := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
				page, err := all.List(ctx, options)
				if err == nil {
					err = page.EachListItem(func(o runtime.Object) error { strip(o.(*unstructured.Unstructured)); return nil })
				}
				return page, err
			}).ListWithAlloc(ctx, options)
			return list, err
		},
		WatchFuncWithContext: all.Watch,
	}
	informer := cache.NewSharedIndexInformerWithOptions(source, &unstructured.Unstructured{}, cache.SharedIndexInformerOptions{ObjectDescription: string(kind)})
	if err := informer.SetTransform(slim); err != nil {
		return nil, err
	}
	if err := informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		r.cfg.Logger.Warn("can't watch the nodes of the cluster, which is tried again; start-up taints stay on new nodes meanwhile",
			zap.String("resource", string(kind)), zap.Error(err))
	}); err != nil {
		return nil, err
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    r.enqueue,
		UpdateFunc: func(_, changed any) { r.enqueue(changed) },
	})
	return informer, err
}

// enqueue queues a Node or a CSINode, which has the name of its Node.
func (r *remover) enqueue(object any) {
	if o, ok := object.(metav1.Object); ok {
		r.queue.Add(o.GetName())
	}
}

// next looks at one node; false when there is none any more.
func (r *remover) next(ctx context.Context) bool {
	name, shutdown := r.queue.Get()
	if shutdown {
		return false
	}
	defer r.queue.Done(name)
	err := r.look(ctx, name)
	if err == nil || apierrors.IsNotFound(err) || ctx.Err() != nil {
		r.queue.Forget(name)
		return true
	}
	// Somebody else has changed the taints, as the other replica does that removes this
	// one: the cache will tell. It does by the next attempt.
	changed := (apierrors.IsInvalid(err) || apierrors.IsConflict(err)) && r.queue.NumRequeues(name) == 0
	if !changed {
		r.cfg.Logger.Warn("the start-up taint can't be removed, which is tried again; pods without a toleration wait meanwhile",
			zap.String("name", name), zap.String("taint", r.cfg.Taint), zap.Error(err))
	}
	r.queue.AddRateLimited(name)
	return true
}

// look removes the taint from a node that has it, once the driver is registered there.
func (r *remover) look(ctx context.Context, name string) error {
	n, csi := find[*node](r.nodes, name), find[*csiNode](r.csiNodes, name)
	if n == nil || csi == nil {
		return nil
	}
	limit, known := registered(csi, n.UID, r.cfg.Driver)
	patch := untaint(n, r.cfg.Taint)
	if !known || len(patch) == 0 {
		return nil
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patchTimeout)
	defer cancel()
	if _, err := r.cfg.Kubernetes.Of(kube.Nodes, "").Patch(ctx, name, types.JSONPatchType, body, metav1.PatchOptions{}); err != nil {
		return err
	}
	r.cfg.Logger.Info("the driver is registered on a new node, and its start-up taint is removed",
		zap.String("name", name), zap.String("taint", r.cfg.Taint), zap.Int32("limit", limit))
	return nil
}

// find returns a cached object, nil where there is none.
func find[T any](informer cache.SharedIndexInformer, name string) (found T) {
	object, ok, err := informer.GetStore().GetByKey(name)
	if err != nil || !ok {
		return found
	}
	found, _ = object.(T)
	return found
}

// registered returns how many volumes the Node of that uid takes, once the driver is
// registered there. A CSINode may still be that of a Node of the same name before: the
// kubelet makes it for one Node, and it is deleted some time after that.
func registered(csi *csiNode, of types.UID, driver string) (limit int32, known bool) {
	if slices.ContainsFunc(csi.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == "Node" && o.UID != of }) {
		return 0, false
	}
	for _, d := range csi.Spec.Drivers {
		if d.Name == driver && d.Allocatable != nil && d.Allocatable.Count != nil {
			return *d.Allocatable.Count, true
		}
	}
	return 0, false
}

// operation is one of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// untaint returns a patch that removes the taints of that key; none where there are
// none. It does nothing at all if the Node or the place of a taint is another one by
// then, so that no change of somebody else's is lost.
func untaint(n *node, key string) []operation {
	var patch []operation
	// From the last to the first: each removal moves what comes after it.
	for i, t := range slices.Backward(n.Spec.Taints) {
		if t.Key == key {
			path := fmt.Sprintf("/spec/taints/%d", i)
			patch = append(patch, operation{"test", path + "/key", key}, operation{Op: "remove", Path: path})
		}
	}
	if len(patch) == 0 {
		return nil
	}
	return append([]operation{{"test", "/metadata/uid", n.UID}}, patch...)
}
