package bundle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/cinder-csi/cinder-csi/internal/kube"
)

const (
	// patience bounds one request to Kubernetes.
	patience = 30 * time.Second
	// pageSize is for how many objects it asks at a time, and mostPages how often.
	pageSize  = 500
	mostPages = 100
	// mostPods is of how many pods of the driver the logs are read.
	mostPods = 200
	// mostOfLog bounds the log of a container, in bytes from its end.
	mostOfLog = 4 << 20
)

// cluster gathers what Kubernetes knows about the driver.
type cluster struct {
	*archive
	*kube.Client

	namespace, driver string
	// classes, volumes, claims and contents are the names of the driver's objects; claims are "namespace/name".
	classes, volumes, claims, contents map[string]bool
	// handles are the ids of volumes.
	handles map[string]bool
}

// kind is a kind of objects.
type kind struct {
	// file is the name of the file, and resource what they are called in the API.
	file     string
	resource kube.Resource
	// namespace is empty for objects of all namespaces.
	namespace string
	// ours chooses objects, and may take away from them what is others'.
	ours func(object) bool
}

// object is one of any kind.
type object struct{ *unstructured.Unstructured }

func (o object) text(path ...string) string {
	text, _, _ := unstructured.NestedString(o.Object, path...)
	return text
}

// kinds are read in this order: later ones are chosen by earlier ones.
func (c *cluster) kinds() []kind {
	always := func(object) bool { return true }
	is := func(path ...string) func(object) bool {
		return func(o object) bool { return o.text(path...) == c.driver }
	}
	const storage, snapshots = "storage.k8s.io/v1/", "snapshot.storage.k8s.io/v1/"
	return []kind{
		{"csidrivers", storage + "csidrivers", "", func(o object) bool { return o.GetName() == c.driver }},
		{"csinodes", storage + "csinodes", "", c.ofNode},
		{"storageclasses", storage + "storageclasses", "", func(o object) bool {
			return noted(c.classes, o.GetName(), o.text("provisioner") == c.driver)
		}},
		{"volumeattributesclasses", storage + "volumeattributesclasses", "", is("driverName")},
		{"persistentvolumes", kube.PersistentVolumes, "", c.ofVolume},
		{"persistentvolumeclaims", kube.Claims, "", func(o object) bool {
			return noted(c.claims, o.GetNamespace()+"/"+o.GetName(), c.volumes[o.text("spec", "volumeName")] || c.classes[o.text("spec", "storageClassName")])
		}},
		{"volumeattachments", storage + "volumeattachments", "", is("spec", "attacher")},
		{"volumesnapshotclasses", snapshots + "volumesnapshotclasses", "", is("driver")},
		{"volumesnapshotcontents", snapshots + "volumesnapshotcontents", "", func(o object) bool {
			return noted(c.contents, o.GetName(), o.text("spec", "driver") == c.driver)
		}},
		{"volumesnapshots", snapshots + "volumesnapshots", "", func(o object) bool {
			return c.contents[o.text("status", "boundVolumeSnapshotContentName")] || c.claims[o.GetNamespace()+"/"+o.text("spec", "source", "persistentVolumeClaimName")]
		}},
		{"csistoragecapacities", storage + "csistoragecapacities", c.namespace, func(o object) bool { return c.classes[o.text("storageClassName")] }},
		{"deployments", "apps/v1/deployments", c.namespace, ofDriver},
		{"daemonsets", "apps/v1/daemonsets", c.namespace, ofDriver},
		{"leases", "coordination.k8s.io/v1/leases", c.namespace, func(o object) bool { return strings.Contains(o.GetName(), strings.ReplaceAll(c.driver, ".", "-")) }},
		{"nodes", kube.Nodes, "", always},
		{"events", kube.Events, "", c.ofEvent},
	}
}

// noted notes a name where it is ours.
func noted(names map[string]bool, name string, ours bool) bool {
	if ours {
		names[name] = true
	}
	return ours
}

// ofNode keeps the entry of the driver alone.
func (c *cluster) ofNode(o object) bool {
	drivers, _, _ := unstructured.NestedSlice(o.Object, "spec", "drivers")
	drivers = slices.DeleteFunc(drivers, func(one any) bool {
		entry, ok := one.(map[string]any)
		return !ok || entry["name"] != c.driver
	})
	_ = unstructured.SetNestedSlice(o.Object, drivers, "spec", "drivers")
	return len(drivers) > 0
}

func (c *cluster) ofVolume(o object) bool {
	_, inTree, _ := unstructured.NestedMap(o.Object, "spec", "cinder")
	ours := o.text("spec", "csi", "driver") == c.driver || inTree
	if ours {
		c.handles[o.text("spec", "csi", "volumeHandle")+o.text("spec", "cinder", "volumeID")] = true
	}
	return noted(c.volumes, o.GetName(), ours)
}

// ofEvent keeps those of the driver's namespace that are about its pods, and those about
// its volumes and claims, whoever is the subject.
func (c *cluster) ofEvent(o object) bool {
	about := o.text("involvedObject", "namespace") + "/" + o.text("involvedObject", "name")
	switch o.text("involvedObject", "kind") {
	case "PersistentVolumeClaim":
		return c.claims[about]
	case "PersistentVolume":
		return c.volumes[o.text("involvedObject", "name")]
	}
	if o.GetNamespace() == c.namespace && strings.Contains(o.text("involvedObject", "name"), "cinder") {
		return true
	}
	return slices.ContainsFunc(strings.FieldsFunc(o.text("message"), func(r rune) bool { return strings.ContainsRune(" \"'():,;", r) }), func(word string) bool {
		return c.volumes[word] || c.handles[word]
	})
}

// ofDriver tells the driver's pods, and what makes them, by their containers.
func ofDriver(o object) bool {
	for _, one := range containers(o) {
		text, err := json.Marshal([]any{one["image"], one["command"], one["args"]})
		if err == nil && strings.Contains(string(text), "cinder-csi") {
			return true
		}
	}
	return false
}

// containers are those of a pod, or of what makes pods.
func containers(o object) (all []map[string]any) {
	for _, path := range [][]string{{"spec"}, {"spec", "template", "spec"}} {
		for _, key := range []string{"initContainers", "containers", "ephemeralContainers"} {
			listed, _, _ := unstructured.NestedFieldNoCopy(o.Object, append(slices.Clone(path), key)...)
			entries, _ := listed.([]any)
			for _, one := range entries {
				if container, ok := one.(map[string]any); ok {
					all = append(all, container)
				}
			}
		}
	}
	return all
}

// gather adds the objects, and of the driver's pods the logs and metrics.
func (c *cluster) gather(ctx context.Context) {
	c.classes, c.volumes, c.claims, c.contents, c.handles = map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	if text, err := c.raw(ctx, 1<<16, nil, "version"); err != nil {
		c.failed("kubernetes/version", err)
	} else {
		c.add("kubernetes/version.json", text)
	}
	for _, k := range c.kinds() {
		c.objects(ctx, k)
	}
	pods := c.objects(ctx, kind{"pods", kube.Pods, c.namespace, ofDriver})
	if len(pods) > mostPods {
		c.failed("logs", fmt.Errorf("the driver has %d pods, these are of %d", len(pods), mostPods))
		pods = pods[:mostPods]
	}
	for _, pod := range pods {
		c.logs(ctx, pod)
		c.metrics(ctx, pod)
	}
}

// objects adds those of a kind that are ours, and returns them.
func (c *cluster) objects(ctx context.Context, k kind) (found []object) {
	opts := metav1.ListOptions{Limit: pageSize}
	for range mostPages {
		bounded, cancel := context.WithTimeout(ctx, patience)
		page, err := c.Of(k.resource, k.namespace).List(bounded, opts)
		cancel()
		if err != nil {
			if !kube.Unknown(err) { // else the cluster has none
				c.failed("kubernetes/"+k.file, err)
			}
			break
		}
		for i := range page.Items {
			if o := (object{&page.Items[i]}); k.ours(o) {
				found = append(found, c.cleared(o))
			}
		}
		if opts.Continue = page.GetContinue(); opts.Continue == "" {
			break
		}
	}
	list := make([]any, 0, len(found))
	for _, o := range found {
		list = append(list, o.Object)
	}
	text, err := json.MarshalIndent(list, "", " ")
	if err != nil {
		c.failed("kubernetes/"+k.file, err)
		return found
	}
	c.add("kubernetes/"+k.file+".json", append(text, '\n'))
	return found
}

// knownAnnotation tells annotations that Kubernetes and the driver make of themselves.
func knownAnnotation(key string) bool {
	domain, _, _ := strings.Cut(key, "/")
	return slices.Contains([]string{
		"pv.kubernetes.io", "volume.kubernetes.io", "volume.beta.kubernetes.io", "csi.volume.kubernetes.io", "storageclass.kubernetes.io",
		"snapshot.storage.kubernetes.io", "csi.alpha.kubernetes.io", "node.alpha.kubernetes.io",
		"deployment.kubernetes.io", "deprecated.daemonset.template.generation", "meta.helm.sh", "cinder.csi.openstack.org", "volumes.kubernetes.io",
	}, domain)
}

// knownVariable tells variables whose values are shown.
func knownVariable(name string) bool {
	return slices.Contains([]string{"GOMEMLIMIT", "GOMAXPROCS", "GODEBUG", "CSI_ENDPOINT", "ADDRESS", "NODE_ID", "NODE_NAME", "KUBE_NODE_NAME", "CLUSTER_NAME", "CLOUD_CONFIG", "POD_NAME", "POD_NAMESPACE", "NO_PROXY"}, name)
}

// cleared takes away what may hold a secret, or what is of no use.
func (c *cluster) cleared(o object) object {
	o.SetManagedFields(nil)
	annotations := o.GetAnnotations()
	for key := range annotations {
		if !knownAnnotation(key) {
			annotations[key] = Redacted
		}
	}
	if annotations != nil {
		o.SetAnnotations(annotations)
	}
	unstructured.RemoveNestedField(o.Object, "status", "images")
	if template, ok, _ := unstructured.NestedStringMap(o.Object, "spec", "template", "metadata", "annotations"); ok {
		for key := range template {
			if !knownAnnotation(key) {
				template[key] = Redacted
			}
		}
		_ = unstructured.SetNestedStringMap(o.Object, template, "spec", "template", "metadata", "annotations")
	}
	for _, container := range containers(o) {
		entries, _ := container["env"].([]any)
		for _, one := range entries {
			variable, _ := one.(map[string]any)
			value, ok := variable["value"].(string)
			name, _ := variable["name"].(string)
			if !ok || knownVariable(name) {
				continue
			}
			c.know(passwordIn(value)...)
			if secretName(name) {
				c.know(value)
			}
			variable["value"] = Redacted
		}
	}
	return o
}

// raw reads a path below the apiserver. Of more than so many bytes it returns the last,
// from the beginning of a line on: what is cut off in its middle can't be told to be a secret.
func (c *cluster) raw(ctx context.Context, most int, query map[string]string, path ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req := c.REST.Get().AbsPath(path...)
	for key, value := range query {
		req = req.Param(key, value)
	}
	stream, err := req.Stream(ctx)
	if err != nil {
		return nil, err
	}
	text := end{most: most}
	_, err = io.Copy(&text, stream)
	return text.lines(), errors.Join(err, stream.Close())
}

// end keeps the end of what is written to it.
type end struct {
	most int
	kept []byte
	cut  bool
}

// Write implements io.Writer.
func (e *end) Write(p []byte) (int, error) {
	e.kept = append(e.kept, p...)
	if len(e.kept) > 2*e.most {
		e.shorten()
	}
	return len(p), nil
}

func (e *end) shorten() {
	if over := len(e.kept) - e.most; over > 0 {
		e.kept, e.cut = append(e.kept[:0], e.kept[over:]...), true
	}
}

// lines returns what is kept, in whole lines.
func (e *end) lines() []byte {
	e.shorten()
	if !e.cut {
		return e.kept
	}
	_, whole, _ := bytes.Cut(e.kept, []byte("\n"))
	return whole
}

// logs adds the ends of the logs of a pod's containers, and of those before their last start.
func (c *cluster) logs(ctx context.Context, pod object) {
	restarts := map[string]bool{}
	for _, key := range []string{"initContainerStatuses", "containerStatuses"} {
		statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", key)
		for _, one := range statuses {
			status, _ := one.(map[string]any)
			name, _ := status["name"].(string)
			count, _ := status["restartCount"].(int64)
			restarts[name] = count > 0
		}
	}
	for _, container := range containers(pod) {
		name, _ := container["name"].(string)
		for _, previous := range []bool{false, true} {
			if previous && !restarts[name] {
				continue
			}
			file := fmt.Sprintf("logs/%s/%s.log", pod.GetName(), name)
			query := map[string]string{"container": name, "timestamps": "true", "tailLines": "20000"}
			if previous {
				file, query["previous"] = strings.TrimSuffix(file, ".log")+".previous.log", "true"
			}
			text, err := c.raw(ctx, mostOfLog, query, "api", "v1", "namespaces", pod.GetNamespace(), "pods", pod.GetName(), "log")
			if err != nil {
				c.failed(file, err)
				continue
			}
			c.add(file, text)
		}
	}
}

// metrics adds what a pod's containers serve at the port of their flag --http-endpoint.
func (c *cluster) metrics(ctx context.Context, pod object) {
	for _, container := range containers(pod) {
		name, _ := container["name"].(string)
		arguments, _ := container["args"].([]any)
		for _, one := range arguments {
			argument, _ := one.(string)
			address, ok := strings.CutPrefix(argument, "--http-endpoint=")
			host, port, err := net.SplitHostPort(address)
			if !ok || err != nil || net.ParseIP(host).IsLoopback() || host == "localhost" {
				continue
			}
			file := fmt.Sprintf("metrics/%s/%s.txt", pod.GetName(), name)
			text, err := c.raw(ctx, mostOfLog, nil, "api", "v1", "namespaces", pod.GetNamespace(), "pods", pod.GetName()+":"+port, "proxy", "metrics")
			if err != nil {
				c.failed(file, err)
				continue
			}
			c.add(file, text)
		}
	}
}
