package controller_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// classRequest asks for a volume of a class with these parameters, for the claim
// web/data as the provisioner tells it with --extra-create-metadata.
func classRequest(name string, params map[string]string) *csi.CreateVolumeRequest {
	req := request(name, 1)
	req.Parameters = map[string]string{
		"csi.storage.k8s.io/pvc/name": "data", "csi.storage.k8s.io/pvc/namespace": "web", "csi.storage.k8s.io/pv/name": name,
	}
	maps.Copy(req.Parameters, params)
	return req
}

func TestMetadataOfAClassIsFilledIn(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	params := map[string]string{"appendvolumemetadata": `{"claim": "${pvc.namespace}/${pvc.name} as ${pv.name}", "team": "a", "price": "$5 {x}"}`}
	w.create(classRequest("pvc-1", params))
	w.create(classRequest("pvc-1", params))
	metadata := w.volumesNamed("pvc-1")[0].Metadata
	for key, want := range map[string]string{"claim": "web/data as pvc-1", "team": "a", "price": "$5 {x}", "csi.storage.k8s.io/pvc/name": "data"} {
		if metadata[key] != want {
			t.Errorf("%s is %q, want %q", key, metadata[key], want)
		}
	}
}

func TestFilesystemOptionsTravelToTheNode(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	for name, test := range map[string]struct {
		params, want map[string]string
	}{
		"none": {nil, nil},
		"all": {
			map[string]string{"mkfsOptions": "-m 1", "blockSize": "4096", "INODESIZE": "512", "bytesPerInode": "16384", "encrypted": "luks2"},
			map[string]string{
				"cinder.csi.openstack.org/mkfs-options": "-m 1", "cinder.csi.openstack.org/blockSize": "4096",
				"cinder.csi.openstack.org/inodeSize": "512", "cinder.csi.openstack.org/bytesPerInode": "16384",
				"cinder.csi.openstack.org/encrypted": "luks2",
			},
		},
		"by the other spelling": {map[string]string{"mkfs-options": "-m 1"}, map[string]string{"cinder.csi.openstack.org/mkfs-options": "-m 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				if diff := cmp.Diff(test.want, w.create(classRequest(name, test.params)).GetVolumeContext()); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
	origin := w.create(request("origin", 1))
	req := classRequest("clone", map[string]string{"blockSize": "4096"})
	req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: origin.GetVolumeId()},
	}}
	want := map[string]string{"cinder.csi.openstack.org/blockSize": "4096", "cinder.csi.openstack.org/resizeRequired": "true"}
	if diff := cmp.Diff(want, w.create(req).GetVolumeContext()); diff != "" {
		t.Error(diff)
	}
}

func TestParametersThatMakeNoSense(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	for name, test := range map[string]struct {
		key, value, says string
	}{
		"metadata that is no JSON":           {"appendVolumeMetadata", "team=a", "JSON"},
		"metadata that is a list":            {"appendVolumeMetadata", `["a"]`, "JSON object"},
		"metadata that is a number":          {"appendVolumeMetadata", `{"a": 5}`, "JSON object of strings"},
		"an unknown variable":                {"appendVolumeMetadata", `{"a": "${node.name}"}`, "${pvc.name}"},
		"a variable that is open":            {"appendVolumeMetadata", `{"a": "${pvc.name"}`, "not closed"},
		"metadata of the driver":             {"appendVolumeMetadata", `{"cinder.csi.openstack.org/cluster": "x"}`, "driver's own"},
		"metadata of the sidecars":           {"appendVolumeMetadata", `{"csi.storage.k8s.io/pvc/name": "x"}`, "driver's own"},
		"too long metadata":                  {"appendVolumeMetadata", fmt.Sprintf(`{"a": %q}`, strings.Repeat("x", 256)), "255"},
		"a size that is none":                {"blockSize", "4k", "blockSize"},
		"an encryption that there isn't":     {"encrypted", "luks1", "luks2"},
		"no size":                            {"inodeSize", "0", "inodeSize"},
		"two spellings that contradict":      {"mkfs-options", "-m 2", "two spellings"},
		"a key that looks like a known one":  {"mkfsOption", "-m 2", `"mkfsOption" is unknown`},
		"a mutable parameter that is unsure": {"migrationPolicy", "never", `"migrationPolicy" is unknown`},
	} {
		t.Run(name, func(t *testing.T) {
			params := map[string]string{test.key: test.value}
			if test.key == "mkfs-options" {
				params["mkfsOptions"] = "-m 1"
			}
			_, err := w.CreateVolume(w.within(time.Minute), classRequest("pvc-1", params))
			wantCode(t, err, codes.InvalidArgument, test.says)
		})
	}
	req := request("pvc-1", 1)
	req.Parameters = map[string]string{"appendVolumeMetadata": `{"a": "${pvc.name}"}`}
	_, err := w.CreateVolume(w.within(time.Minute), req)
	wantCode(t, err, codes.InvalidArgument, "--extra-create-metadata")
	if n := len(w.dump().Volumes); n != 0 {
		t.Errorf("%d volumes exist", n)
	}
}

func TestUnknownParametersAreAWarningWhereTheOperatorSaysSo(t *testing.T) {
	w := newWorld(t, devcloud.Instant(), func(_ *devcloud.Config, c *controller.Config) { c.AllowUnknownParameters = true })
	core, logs := observer.New(zap.WarnLevel)
	ctx := logging.Into(w.within(time.Minute), zap.New(core))
	created, err := w.CreateVolume(ctx, classRequest("pvc-1", map[string]string{"iops": "5", "type": "ssd"}))
	if err != nil {
		t.Fatal(err)
	}
	if w.typed("pvc-1", "ssd") != 1 {
		t.Error("the known parameter has no effect")
	}
	_, err = w.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{
		Name: "snap-1", SourceVolumeId: created.GetVolume().GetVolumeId(), Parameters: map[string]string{"tier": "cold"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var told []any
	for _, entry := range logs.All() {
		told = append(told, entry.ContextMap()["parameter"])
	}
	if diff := cmp.Diff([]any{"iops", "tier"}, told); diff != "" {
		t.Error(diff)
	}
	_, err = w.CreateVolume(ctx, classRequest("pvc-2", map[string]string{"blockSize": "big"}))
	wantCode(t, err, codes.InvalidArgument)
	wantCode(t, w.modify(created.GetVolume().GetVolumeId(), "iops", "5"), codes.InvalidArgument)
}
