package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// TargetsCommand is the first argument that makes the program tell Prometheus of the
// driver's pods, for ever: Debian's Prometheus is built without Kubernetes' API.
const TargetsCommand = "prometheus-targets"

// targetsEvery is how often pods are looked at.
const targetsEvery = 2 * time.Second

func (p Paths) targets() process {
	return process{
		group: []string{hostGroup, TargetsCommand}, log: p.log(TargetsCommand), args: []string{p.Bin(nodeProgram), TargetsCommand},
	}
}

// targetsFile is what FollowTargets writes and Prometheus reads.
func (p Paths) targetsFile() string { return p.run("prometheus", "targets.json") }

// target is a port of a container, as Prometheus reads it.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// podList is as much of the pods as makes targets of them.
type podList struct {
	Items []struct {
		Metadata struct {
			Name, Namespace string
			Labels          map[string]string
		}
		Spec struct {
			NodeName   string
			Containers []struct {
				Name  string
				Ports []struct {
					Name          string
					ContainerPort int
				}
			}
		}
		Status struct{ Phase, PodIP string }
	}
}

// FollowTargets writes the ports of all pods where Prometheus reads them, until the
// context ends.
func FollowTargets(ctx context.Context) error {
	c, err := Load()
	if err != nil {
		return err
	}
	tick := time.NewTicker(targetsEvery)
	defer tick.Stop()
	for {
		if err := c.writeTargets(ctx); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err) // the API server may be restarting
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (c *Cluster) writeTargets(ctx context.Context) error {
	var pods podList
	if err := c.list(ctx, "pods", &pods); err != nil {
		return err
	}
	content, err := json.Marshal(pods.targets())
	if err != nil {
		return err
	}
	return writeFile(c.paths().targetsFile(), content, 0o644)
}

// targets have the labels that Prometheus' own discovery of pods gives.
func (pods podList) targets() []target {
	all := []target{}
	for _, pod := range pods.Items {
		for _, container := range pod.Spec.Containers {
			for _, port := range container.Ports {
				labels := map[string]string{
					"__meta_kubernetes_namespace":               pod.Metadata.Namespace,
					"__meta_kubernetes_pod_name":                pod.Metadata.Name,
					"__meta_kubernetes_pod_phase":               pod.Status.Phase,
					"__meta_kubernetes_pod_node_name":           pod.Spec.NodeName,
					"__meta_kubernetes_pod_container_name":      container.Name,
					"__meta_kubernetes_pod_container_port_name": port.Name,
				}
				for label, value := range pod.Metadata.Labels {
					labels["__meta_kubernetes_pod_label_"+notInLabels.ReplaceAllString(label, "_")] = value
				}
				if pod.Status.PodIP != "" {
					all = append(all, target{[]string{fmt.Sprintf("%s:%d", pod.Status.PodIP, port.ContainerPort)}, labels})
				}
			}
		}
	}
	return all
}
