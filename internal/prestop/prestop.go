// Package prestop keeps the node plugin alive while its node is emptied. The kubelet can't
// unmount a volume without the plugin, and Kubernetes detaches a volume that was not
// unmounted only after six minutes. So while the node is drained, shut down or deleted,
// the plugin has to be the last to go.
//
// What it needs to know is in one object, its Node: whether the node is being emptied, the
// volumes that the kubelet has mounted (volumesInUse), and those that are attached
// (volumesAttached). Where the Node is gone, the node's own mounts tell what is left.
package prestop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cinder-csi/cinder-csi/internal/kube"
)

const (
	// lookEvery is the pause between looks at the Node.
	lookEvery = time.Second
	// patience is how long the API server may fail before it is known whether the node is
	// being emptied. The plugin's rolling update waits for that.
	patience = 10 * time.Second
	// requestTimeout bounds one request.
	requestTimeout = 5 * time.Second
)

// Config says which node is meant.
type Config struct {
	// Kubernetes takes the verb get on nodes, and nothing else.
	Kubernetes *kube.Client
	// Node is the name of the Node.
	Node string
	// Driver is the CSI driver whose volumes are waited for.
	Driver string
	// KubeletDir is the kubelet's directory, as /var/lib/kubelet.
	KubeletDir string
	// Timeout is how long to wait for volumes.
	Timeout time.Duration
	// Logger is told what is waited for, and when that changes.
	Logger *zap.Logger
}

// ErrLeft is the error of a node that still had volumes after the time.
var ErrLeft = errors.New("volumes are left on the node")

// node is as much of a Node as is needed here.
type node struct {
	Metadata struct {
		DeletionTimestamp *metav1.Time `json:"deletionTimestamp"`
	} `json:"metadata"`
	Spec struct {
		Unschedulable bool `json:"unschedulable"`
		Taints        []struct {
			Key string `json:"key"`
		} `json:"taints"`
	} `json:"spec"`
	Status struct {
		Conditions []struct {
			Type    string `json:"type"`
			Status  string `json:"status"`
			Message string `json:"message"`
		} `json:"conditions"`
		VolumesInUse    []string `json:"volumesInUse"`
		VolumesAttached []struct {
			Name string `json:"name"`
		} `json:"volumesAttached"`
	} `json:"status"`
}

// Wait returns when the node has none of the driver's volumes any more, and at once when
// the node is not being emptied: then the plugin is replaced by another. Its error is
// ErrLeft after the time, and any other where nothing is known about the node.
func Wait(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	log := cfg.Logger.With(zap.String("name", cfg.Node))
	began, waiting := time.Now(), ""
	for {
		why, left, err := look(ctx, cfg)
		switch {
		case err != nil && waiting == "" && time.Since(began) > min(patience, cfg.Timeout/2):
			return fmt.Errorf("node %s: whether it is being emptied is not known, so nobody waits for its volumes: %w", cfg.Node, err)
		case err == nil && why == "":
			log.Info("the plugin is stopping, and its node is not being emptied: nobody waits for volumes")
			return nil
		case err == nil && len(left) == 0:
			log.Info("the plugin is stopping, and its node has no volumes any more", zap.String("reason", why))
			return nil
		case err == nil && strings.Join(left, ", ") != waiting:
			waiting = strings.Join(left, ", ")
			log.Info("the plugin is stopping: it waits until these volumes have left its node", zap.String("reason", why), zap.Strings("volumes", left))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s still had %s after %v (%w); Kubernetes detaches what is mounted after six minutes, or once the node is tainted as out of service",
				ErrLeft, cfg.Node, cmp.Or(waiting, "volumes that are not known"), time.Since(began).Round(time.Second), cmp.Or(err, ctx.Err()))
		case <-time.After(lookEvery):
		}
	}
}

// look returns why the node is being emptied, "" where it isn't, and the volumes that are
// still there.
func look(ctx context.Context, cfg Config) (why string, left []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	n, err := kube.Get[node](ctx, cfg.Kubernetes, kube.Nodes, "", cfg.Node)
	switch {
	case err != nil:
		return "", nil, err
	case n == nil:
		left, err = mounted(cfg.KubeletDir, cfg.Driver)
		return "is deleted", left, err
	}
	return n.emptied(), n.volumes(cfg.Driver), nil
}

// emptied says why a node is being emptied, by whatever does that:
//
//	kubectl drain, Cluster API, most operators   unschedulable
//	cluster-autoscaler, Karpenter                a taint
//	whoever deletes the Node                     a deletion that waits for finalizers
//	a shutdown that the kubelet delays           a condition
func (n *node) emptied() string {
	for _, t := range n.Spec.Taints {
		switch t.Key {
		case "ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted", "karpenter.sh/disruption", "node.kubernetes.io/out-of-service":
			return "is being emptied (taint " + t.Key + ")"
		}
	}
	for _, c := range n.Status.Conditions {
		// The kubelet says so in pkg/kubelet/nodeshutdown of Kubernetes.
		if c.Type == "Ready" && c.Status != "True" && strings.Contains(c.Message, "node is shutting down") {
			return "is shutting down"
		}
	}
	switch {
	case n.Metadata.DeletionTimestamp != nil:
		return "is being deleted"
	case n.Spec.Unschedulable:
		return "is being drained"
	}
	return ""
}

// volumes are those of the driver that are mounted or attached, by their ids in the cloud.
func (n *node) volumes(driver string) (ids []string) {
	names := n.Status.VolumesInUse
	for _, a := range n.Status.VolumesAttached {
		names = append(names, a.Name)
	}
	for _, name := range names {
		// The volume plugin, the driver and its id: kubernetes.io/csi/DRIVER^ID.
		if id, ours := strings.CutPrefix(name, "kubernetes.io/csi/"+driver+"^"); ours {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
