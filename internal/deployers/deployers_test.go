package deployers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
)

const (
	driverName  = "cinder.csi.openstack.org"
	topologyKey = "topology." + driverName + "/zone"
	claim       = "data"
	namespace   = "default"
	gib         = 1 << 30
)

func TestEachDeployersManifestsRun(t *testing.T) {
	all, err := readDeployers()
	must(t, err)
	var table strings.Builder
	count := map[string]int{}
	for _, d := range all {
		for _, c := range d.Containers {
			ran := false
			passed := t.Run(d.name+"/"+c.Role, func(t *testing.T) {
				ran = true
				runContainer(t, d, c)
			})
			result, why := "passed", ""
			switch {
			case !ran:
				continue // left out by -run
			case !passed:
				result = "failed"
			case c.Because != "":
				result, why = "refused", ": "+c.Because
			}
			count[result]++
			_, _ = fmt.Fprintf(&table, "  %-22s %-11s serves %-17s %s%s\n", d.name, c.Role, roles(c), result, why)
		}
	}
	t.Logf("the deployers' table\n%s%d deployers: %d containers passed, %d refused for a reason, %d failed",
		table.String(), len(all), count["passed"], count["refused"], count["failed"])
}

func roles(c container) string {
	switch {
	case !c.isNode():
		return "controller"
	case !c.controls():
		return "node"
	}
	return "controller, node"
}

// runContainer runs a container and does with it what its sidecars and the kubelet
// do.
func runContainer(t *testing.T, d deployer, c container) {
	e := newEnvironment(t, d)
	files := maps.Clone(e.files)
	for _, some := range []map[string]string{d.Files, c.Files} {
		for path, content := range some {
			files[path] = e.placeholders.Replace(content)
		}
	}
	ctx, p := start(t, c, files, e.variables)
	calls, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	u := &user{environment: e, deployer: d, container: c, process: p}
	err := errors.Join(u.use(calls), context.Cause(ctx))
	switch {
	case c.Fails == "":
		must(t, errors.Join(err, p.stop()))
		if strings.Contains(p.log.String(), `"level":"error"`) {
			t.Error("the log has an error")
		}
	case err == nil || !strings.Contains(err.Error(), c.Fails):
		t.Errorf("it has to fail with %q, but: %v", c.Fails, err)
	}
	if t.Failed() {
		t.Logf("arguments %q, log:\n%s", c.arguments(), p.log)
	}
}

// user is who uses a container's plugin.
type user struct {
	*environment
	deployer
	container
	*process
}

// use makes the calls that the container is for.
func (u *user) use(ctx context.Context) error {
	identity := csi.NewIdentityClient(u.conn)
	info, err := identity.GetPluginInfo(ctx, &csi.GetPluginInfoRequest{})
	if err != nil {
		return fmt.Errorf("GetPluginInfo: %w", err)
	}
	if info.GetName() != driverName {
		return fmt.Errorf("GetPluginInfo: the driver is called %q", info.GetName())
	}
	if probe, err := identity.Probe(ctx, &csi.ProbeRequest{}); err != nil || probe.GetReady() != nil && !probe.GetReady().GetValue() {
		return fmt.Errorf("Probe: ready %v, %w", probe.GetReady(), err)
	}
	if u.isNode() {
		if err := u.asksNode(ctx); err != nil {
			return err
		}
	}
	if u.makesVolumes() {
		if err := u.controlsVolumes(ctx); err != nil {
			return err
		}
	}
	return u.readsMetrics(ctx)
}

func (u *user) asksNode(ctx context.Context) error {
	info, err := csi.NewNodeClient(u.conn).NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
	if err != nil {
		return fmt.Errorf("NodeGetInfo: %w", err)
	}
	zone := info.GetAccessibleTopology().GetSegments()[topologyKey]
	if info.GetNodeId() != u.cloud.ServerID(node) || info.GetMaxVolumesPerNode() <= 0 || u.topology() != (zone == u.Zones[0]) {
		return fmt.Errorf("NodeGetInfo: server %s of zone %s is %v", u.cloud.ServerID(node), u.Zones[0], info)
	}
	return nil
}

func (u *user) controlsVolumes(ctx context.Context) error {
	if _, err := csi.NewControllerClient(u.conn).ControllerGetCapabilities(ctx, &csi.ControllerGetCapabilitiesRequest{}); err != nil {
		return fmt.Errorf("ControllerGetCapabilities: %w", err)
	}
	for i, class := range u.StorageClasses {
		if err := u.hasVolume(ctx, fmt.Sprintf("pvc-%d", i), class); err != nil {
			return fmt.Errorf("StorageClass %v: %w", class, err)
		}
	}
	if u.flag("pvc-annotations") == "true" && u.ExtraCreateMetadata && u.claims.Load() == 0 {
		return errors.New("no claim was read for its annotations")
	}
	return nil
}

// hasVolume makes a volume of a class, publishes it, makes a snapshot of it with
// each VolumeSnapshotClass, and deletes all of that.
func (u *user) hasVolume(ctx context.Context, name string, class map[string]string) error {
	controller := csi.NewControllerClient(u.conn)
	made, err := controller.CreateVolume(ctx, u.request(name, class))
	if err != nil {
		return fmt.Errorf("CreateVolume: %w", err)
	}
	volume := made.GetVolume().GetVolumeId()
	if err := u.isOfClass(ctx, volume, class); err != nil {
		return err
	}
	publication := &csi.ControllerPublishVolumeRequest{
		VolumeId: volume, NodeId: u.cloud.ServerID(node), VolumeCapability: capability(class), VolumeContext: made.GetVolume().GetVolumeContext(), Secrets: u.Secrets,
	}
	if _, err := controller.ControllerPublishVolume(ctx, publication); err != nil {
		return fmt.Errorf("ControllerPublishVolume: %w", err)
	}
	if _, err := controller.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: volume, NodeId: publication.GetNodeId(), Secrets: u.Secrets}); err != nil {
		return fmt.Errorf("ControllerUnpublishVolume: %w", err)
	}
	for i, parameters := range u.VolumeSnapshotClasses {
		snapshot, err := controller.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{
			SourceVolumeId: volume, Name: fmt.Sprintf("snapshot-of-%s-%d", name, i), Parameters: parameters, Secrets: u.Secrets,
		})
		if err != nil {
			return fmt.Errorf("VolumeSnapshotClass %v: CreateSnapshot: %w", parameters, err)
		}
		if _, err := controller.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: snapshot.GetSnapshot().GetSnapshotId(), Secrets: u.Secrets}); err != nil {
			return fmt.Errorf("DeleteSnapshot: %w", err)
		}
	}
	if _, err := controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: volume, Secrets: u.Secrets}); err != nil {
		return fmt.Errorf("DeleteVolume: %w", err)
	}
	return nil
}

// isOfClass looks at a volume in the cloud.
func (u *user) isOfClass(ctx context.Context, id string, class map[string]string) error {
	volume, err := volumes.Get(ctx, u.blockStorage, id).Extract()
	if err != nil {
		return err
	}
	for key, got := range map[string]string{"type": volume.VolumeType, "availability": volume.AvailabilityZone} {
		if want := class[key]; want != "" && got != want {
			return fmt.Errorf("volume %s has the %s %s, not %s", id, key, got, want)
		}
	}
	return nil
}

// request is what the provisioner makes of a class and a claim. It takes away the
// parameters that are for itself, but not the old name of the filesystem's.
func (u *user) request(name string, class map[string]string) *csi.CreateVolumeRequest {
	parameters := map[string]string{}
	for key, value := range class {
		if !strings.HasPrefix(key, "csi.storage.k8s.io/") {
			parameters[key] = value
		}
	}
	if u.ExtraCreateMetadata {
		parameters["csi.storage.k8s.io/pvc/name"], parameters["csi.storage.k8s.io/pvc/namespace"], parameters["csi.storage.k8s.io/pv/name"] = claim, namespace, name
	}
	req := &csi.CreateVolumeRequest{
		Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: gib},
		VolumeCapabilities: []*csi.VolumeCapability{capability(class)}, Parameters: parameters, Secrets: u.Secrets,
	}
	if u.topology() {
		here := []*csi.Topology{{Segments: map[string]string{topologyKey: u.Zones[0]}}}
		req.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: here, Preferred: here}
	}
	return req
}

// capability is that of a claim with ReadWriteOnce; the class may name a filesystem.
func capability(class map[string]string) *csi.VolumeCapability {
	kind := "ext4"
	for key, value := range class {
		if name := strings.ToLower(key); name == "fstype" || name == "csi.storage.k8s.io/fstype" {
			kind = value
		}
	}
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: kind}},
	}
}

func (u *user) readsMetrics(ctx context.Context) error {
	endpoint := u.flag("http-endpoint")
	if endpoint == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(endpoint)
	if err != nil {
		return err
	}
	for _, path := range []string{"/metrics", "/healthz"} {
		if status, err := get(ctx, "http://127.0.0.1:"+port+path); err != nil || status != http.StatusOK {
			return fmt.Errorf("%s: status %d, %w", path, status, err)
		}
	}
	return nil
}
