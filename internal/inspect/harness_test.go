package inspect_test

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	sdk "github.com/gophercloud/gophercloud/v2/openstack"
	"go.uber.org/goleak"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/inspect"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/kube/kubetest"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/openstack/openstacktest"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	driverName = "cinder.csi.openstack.org"
	cluster    = "test"
)

// world is a development cloud, an apiserver, and the way to both.
type world struct {
	*testing.T
	cloud *devcloud.Cloud
	admin *admin.Client
	*openstack.Client
	kube *kubetest.Server
	from inspect.Sources
	// volume is the id of the volume that start made.
	volume string
}

// start makes a volume for the claim space/data, whose PersistentVolume is pv-1.
func start(t *testing.T) *world {
	t.Helper()
	c, err := devcloud.Start(t.Context(), devcloud.Config{
		StateDir: filepath.Join(t.TempDir(), "cloud"), Disks: devcloud.DisksNone, Latency: devcloud.Instant(), Ephemeral: true,
		Servers: []devcloud.Server{{Name: "one"}, {Name: "two"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{T: t, cloud: c, admin: c.Admin(), kube: kubetest.New(t, "token")}
	w.Client = openstacktest.Connect(t, c.CloudConf(), openstack.Options{Version: "test"})
	k, err := kube.New(kube.Options{Kubeconfig: w.kube.Kubeconfig(t, "token")})
	w.must(err)
	t.Cleanup(k.Close)
	w.from = inspect.Sources{Kubernetes: k, Clouds: []inspect.Cloud{{Name: "default", Client: w.Client}}}
	w.volume = w.create("pv-1")
	w.storeClaim(nil)
	w.storePV("pv-1", w.volume, nil)
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// object is JSON of Kubernetes.
type object = map[string]any

func (w *world) create(name string) string {
	w.Helper()
	v, err := w.CreateVolume(w.Context(), cloud.VolumeRequest{Name: name, SizeGiB: 2, Metadata: map[string]string{volumes.ClusterKey: cluster}})
	w.must(err)
	w.until(v.ID, cloud.VolumeAvailable)
	return v.ID
}

// until waits for a status of a volume.
func (w *world) until(id string, status cloud.VolumeStatus) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	for ; ; time.Sleep(5 * time.Millisecond) {
		v, err := w.GetVolume(ctx, id)
		w.must(err)
		if v.Status == status {
			return
		}
	}
}

func merged(objects ...object) object {
	all := object{}
	for _, o := range objects {
		maps.Copy(all, o)
	}
	return all
}

// storeClaim stores the claim, with a status of its own.
func (w *world) storeClaim(status object) {
	w.kube.Store(kube.Claims, "space", "data", object{
		"metadata": object{"uid": "u-1"},
		"spec":     object{"volumeName": "pv-1", "resources": object{"requests": object{"storage": "2Gi"}}},
		"status":   merged(object{"phase": "Bound", "capacity": object{"storage": "2Gi"}}, status),
	})
}

func (w *world) storePV(name, handle string, spec object) {
	w.kube.Store(kube.PersistentVolumes, "", name, object{
		"spec": merged(object{
			"capacity": object{"storage": "2Gi"}, "accessModes": []any{"ReadWriteOnce"}, "persistentVolumeReclaimPolicy": "Delete",
			"claimRef": object{"namespace": "space", "name": "data", "uid": "u-1"}, "csi": object{"driver": driverName, "volumeHandle": handle},
		}, spec),
		"status": object{"phase": "Bound"},
	})
}

// node stores a Node whose server is one of the cloud.
func (w *world) node(server string, taints ...any) {
	w.kube.Store(kube.Nodes, "", "node-"+server, object{
		"spec": object{"taints": taints}, "status": object{"conditions": []any{object{"type": "Ready", "status": "True"}}},
	})
	w.csiNode(server, w.cloud.ServerID(server))
}

// silent stores a node that doesn't answer any more, as its server is gone.
func (w *world) silent(server string) {
	w.kube.Store(kube.Nodes, "", "node-"+server, object{"status": object{"conditions": []any{object{"type": "Ready", "status": "Unknown"}}}})
}

func (w *world) csiNode(server, id string) {
	w.kube.Store(kube.CSINodes, "", "node-"+server, object{"spec": object{"drivers": []any{object{"name": driverName, "nodeID": id}}}})
}

func (w *world) va(server string, metadata, status object) {
	w.kube.Store(kube.Attachments, "", "va-"+server, object{
		"metadata": metadata, "status": status,
		"spec": object{"attacher": driverName, "nodeName": "node-" + server, "source": object{"persistentVolumeName": "pv-1"}},
	})
}

func (w *world) pod(name, server string) {
	w.kube.Store(kube.Pods, "space", name, object{
		"spec":   object{"nodeName": "node-" + server, "volumes": []any{object{"name": "v", "persistentVolumeClaim": object{"claimName": "data"}}}},
		"status": object{"phase": "Running"},
	})
}

func (w *world) event(message string) {
	w.kube.Store(kube.Events, "space", "event-1", object{
		"involvedObject": object{"kind": "PersistentVolumeClaim", "name": "data"}, "type": "Warning", "reason": "Failed", "message": message,
	})
}

// waits has a pod of node-one wait, for the reason that the kubelet told last.
func (w *world) waits(pod, message string) {
	w.kube.Store(kube.Pods, "space", pod, object{
		"spec":   object{"nodeName": "node-one", "volumes": []any{object{"name": "v", "persistentVolumeClaim": object{"claimName": "data"}}}},
		"status": object{"phase": "Pending"},
	})
	w.kube.Store(kube.Events, "space", "event-1", object{
		"involvedObject": object{"kind": "Pod", "name": pod}, "type": "Warning", "reason": "FailedMount", "message": message,
	})
}

func (w *world) faults(faults ...admin.Fault) {
	w.Helper()
	w.must(w.admin.SetFaults(w.Context(), faults...))
}

// attach attaches the volume to a server.
func (w *world) attach(server string) {
	w.Helper()
	_, err := w.AttachVolume(w.Context(), w.cloud.ServerID(server), w.volume)
	w.must(err)
	w.until(w.volume, cloud.VolumeInUse)
}

// used is a volume that is attached to a node, and used there by a pod.
func (w *world) used(server string) {
	w.Helper()
	w.attach(server)
	w.node(server)
	w.va(server, nil, object{"attached": true})
	w.pod("pod-"+server, server)
}

// operator returns the SDK with an administrator's credentials.
func (w *world) operator() (cinder, nova *gophercloud.ServiceClient) {
	w.Helper()
	return w.as("admin")
}

// as returns the SDK with the credentials of a user.
func (w *world) as(user string) (cinder, nova *gophercloud.ServiceClient) {
	w.Helper()
	conf := map[string]string{}
	for line := range strings.Lines(w.cloud.CloudConfFor(user)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		conf[key] = value
	}
	provider, err := sdk.NewClient(conf["auth-url"])
	w.must(err)
	w.Cleanup(provider.HTTPClient.CloseIdleConnections)
	w.must(sdk.Authenticate(w.Context(), provider, gophercloud.AuthOptions{
		IdentityEndpoint: conf["auth-url"], Username: conf["username"], Password: conf["password"], TenantName: conf["tenant-name"], DomainName: "Default",
	}))
	where := gophercloud.EndpointOpts{Region: conf["region"]}
	cinder, err = sdk.NewBlockStorageV3(provider, where)
	w.must(err)
	nova, err = sdk.NewComputeV2(provider, where)
	w.must(err)
	return cinder, nova
}

// look looks at the volume, some time from now.
func (w *world) look(asked string, later time.Duration) *inspect.Volume {
	w.Helper()
	v, err := inspect.LookAtVolume(w.Context(), w.from, asked, time.Now().Add(later))
	w.must(err)
	if len(v.Unseen) > 0 {
		w.Errorf("unseen: %v", v.Unseen)
	}
	return v
}

// kinds are the rows that were found.
func kinds(v *inspect.Volume) []string {
	var found []string
	for _, f := range v.Findings {
		found = append(found, f.Kind)
	}
	slices.Sort(found)
	return found
}
