package controller_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/kube/kubetest"
)

const tagPrefix = "tags.example.com/"

// withTags is a service that takes tags from annotations.
func withTags(t *testing.T) (*world, *kubetest.Server) {
	t.Helper()
	w, server := withClaims(t, devcloud.Instant())
	w.config.TagPrefix = tagPrefix
	w.Server = controller.New(w.config)
	return w, server
}

func (w *world) wantMetadata(got map[string]string, want map[string]string) {
	w.Helper()
	for key, value := range want {
		if got[key] != value {
			w.Errorf("metadata %s is %q, want %q", key, got[key], value)
		}
	}
	for key := range got {
		_, wanted := want[key]
		if !wanted && !strings.Contains(key, "csi") && key != "type" {
			w.Errorf("metadata has %s=%q besides", key, got[key])
		}
	}
}

func TestAnnotationsOfAClaimBecomeMetadataOfItsVolume(t *testing.T) {
	w, server := withTags(t)
	server.Put("space/claim", map[string]string{
		tagPrefix + "cost-centre": "42", tagPrefix + "empty": "", tagPrefix + "team": "a", "tags.example.org/other": "no", "team": "b",
	})
	req := forClaim("pvc-1", "claim")
	req.Parameters["appendVolumeMetadata"] = `{"team": "a", "of": "class"}`
	req.MutableParameters = map[string]string{"metadata/tier": "gold"}
	w.create(req)
	server.Put("space/claim", map[string]string{tagPrefix + "cost-centre": "43"})
	w.create(req) // the volume exists: the claim isn't looked at again
	w.wantMetadata(w.volumesNamed("pvc-1")[0].Metadata, map[string]string{"cost-centre": "42", "empty": "", "team": "a", "of": "class", "tier": "gold"})
	if server.Asked() != 1 {
		t.Errorf("%d requests to the apiserver", server.Asked())
	}
}

func TestAnnotationsOfAVolumeSnapshotBecomeMetadata(t *testing.T) {
	w, server := withTags(t)
	server.Put("space/claim", nil)
	volume := w.create(forClaim("pvc-1", "claim")).GetVolumeId()
	ask := func(name, kind, snapshot string) *csi.CreateSnapshotRequest {
		return &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volume, Parameters: map[string]string{
			"type": kind, "appendVolumeMetadata": `{"of": "${volumesnapshot.namespace}/${volumesnapshot.name} as ${volumesnapshotcontent.name}"}`,
			"csi.storage.k8s.io/volumesnapshot/name": snapshot, "csi.storage.k8s.io/volumesnapshot/namespace": "space",
			"csi.storage.k8s.io/volumesnapshotcontent/name": "content",
		}}
	}
	for _, kind := range []string{"snapshot", "backup"} {
		server.PutSnapshot("space/"+kind, map[string]string{tagPrefix + "keep": "7d", "other": "no"})
		w.untilReady(ask(kind, kind, kind))
	}
	want := map[string]string{"keep": "7d"}
	for _, s := range w.dump().Snapshots {
		want["of"] = "space/" + *s.Name + " as content"
		w.wantMetadata(s.Metadata, want)
	}
	for _, b := range w.dump().Backups {
		want["of"] = "space/backup as content"
		w.wantMetadata(b.Metadata, want)
	}
	if d := w.dump(); len(d.Snapshots) != 1 || len(d.Backups) != 1 {
		t.Errorf("%d snapshots and %d backups", len(d.Snapshots), len(d.Backups))
	}

	// A VolumeSnapshot that is gone stops nothing; one that can't be read does.
	if _, err := w.CreateSnapshot(w.within(time.Minute), ask("gone", "snapshot", "gone")); err != nil {
		t.Error(err)
	}
	server.Instead(func(rw http.ResponseWriter, _ *http.Request) { kubetest.Status(rw, 403, "Forbidden", "no", "x") })
	_, err := w.CreateSnapshot(w.within(time.Minute), ask("forbidden", "snapshot", "snapshot"))
	wantCode(t, err, codes.Unavailable, "the verb get for volumesnapshots")
	unnamed := ask("unnamed", "snapshot", "snapshot")
	maps.DeleteFunc(unnamed.Parameters, func(key, _ string) bool { return strings.HasPrefix(key, "csi.") || strings.HasPrefix(key, "append") })
	_, err = w.CreateSnapshot(w.within(time.Minute), unnamed)
	wantCode(t, err, codes.FailedPrecondition, "--extra-create-metadata")
}

// A snapshot or backup that was begun is finished as it was begun, whatever becomes of the
// annotations: an error about these would be final, and leave it behind.
func TestASnapshotThatIsBegunNeedsNoAnnotationsAnyMore(t *testing.T) {
	w, server := withTags(t)
	server.Put("space/claim", nil)
	volume := w.create(forClaim("pvc-1", "claim")).GetVolumeId()
	for _, kind := range []string{"snapshot", "backup"} {
		req := &csi.CreateSnapshotRequest{Name: kind, SourceVolumeId: volume, Parameters: map[string]string{
			"type": kind, "csi.storage.k8s.io/volumesnapshot/name": "snap", "csi.storage.k8s.io/volumesnapshot/namespace": "space",
		}}
		server.PutSnapshot("space/snap", map[string]string{tagPrefix + "keep": "7d"})
		if _, err := w.CreateSnapshot(w.within(time.Minute), req); err != nil {
			t.Fatal(err)
		}
		server.PutSnapshot("space/snap", map[string]string{tagPrefix + "ä": "x"})
		w.untilReady(req)
		req.Name += "-2"
		_, err := w.CreateSnapshot(w.within(time.Minute), req)
		wantCode(t, err, codes.InvalidArgument, "annotation")
	}
	for _, b := range w.dump().Backups {
		w.wantMetadata(b.Metadata, map[string]string{"keep": "7d"})
	}
	if d := w.dump(); len(d.Snapshots) != 1 || len(d.Backups) != 1 {
		t.Errorf("%d snapshots and %d backups", len(d.Snapshots), len(d.Backups))
	}
}

func TestTagsThatMayNotBeAreRefused(t *testing.T) {
	w, server := withTags(t)
	w.config.ExtraTags = map[string]string{"bill": "them"}
	w.Server = controller.New(w.config)
	many := make(map[string]string)
	for i := range 51 {
		many[fmt.Sprintf("%s%d", tagPrefix, i)] = "x"
	}
	for name, c := range map[string]struct {
		annotations map[string]string
		says        string
	}{
		"the driver's":       {map[string]string{tagPrefix + "cinder.csi.openstack.org/cluster": "x"}, "driver's own"},
		"in capitals":        {map[string]string{tagPrefix + "CINDER.csi.openstack.org/never-published": "x"}, "driver's own"},
		"a side container's": {map[string]string{tagPrefix + "csi.storage.k8s.io/pvc/name": "x"}, "driver's own"},
		"Cinder's":           {map[string]string{tagPrefix + "readonly": "True"}, "Cinder's own"},
		"no key":             {map[string]string{tagPrefix: "x"}, "empty"},
		"a long value":       {map[string]string{tagPrefix + "a": strings.Repeat("ä", 256)}, "255"},
		"a long key":         {map[string]string{tagPrefix + strings.Repeat("a", 256): ""}, "255"},
		"an odd key":         {map[string]string{tagPrefix + "ä": "x"}, "1 to 255 letters"},
		"the operator's":     {map[string]string{tagPrefix + "bill": "me"}, `sets bill to "them"`},
		"in other letters":   {map[string]string{tagPrefix + "TEAM": "mine"}, `sets team to "theirs"`},
		"too many":           {many, "at most 50"},
		"the class's":        {map[string]string{tagPrefix + "team": "mine"}, `sets team to "theirs"`},
	} {
		server.Put("space/claim", c.annotations)
		req := forClaim("pvc-1", "claim")
		req.Parameters["appendVolumeMetadata"] = `{"team": "theirs"}`
		_, err := w.CreateVolume(w.within(time.Minute), req)
		wantCode(t, err, codes.InvalidArgument, c.says)
		if n := len(w.dump().Volumes); n != 0 {
			t.Fatalf("%s: %d volumes", name, n)
		}
	}
	server.Put("space/claim", map[string]string{tagPrefix + "a": strings.Repeat("ä", 255)})
	w.create(forClaim("pvc-1", "claim"))
}

func TestAnnotationsAreNoTagsUnlessTheOperatorSaysSo(t *testing.T) {
	w, server := withClaims(t, devcloud.Instant())
	server.Put("space/claim", map[string]string{tagPrefix + "a": "b", "c": "d"})
	volume := w.create(forClaim("pvc-1", "claim")).GetVolumeId()
	w.wantMetadata(w.volumesNamed("pvc-1")[0].Metadata, nil)
	w.snapshot("snap-1", volume)
	if server.Asked() != 1 {
		t.Errorf("%d requests to the apiserver", server.Asked())
	}
}

// An incremental backup is asked for by the class; where none can be built upon, the
// backup is a full one.
func TestIncrementalBackups(t *testing.T) {
	w := newWorld(t, devcloud.Instant())
	volume := w.create(request("pvc-1", 1)).GetVolumeId()
	for _, name := range []string{"first", "second"} {
		w.untilReady(&csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volume, Parameters: map[string]string{"type": "backup", "Incremental": "True"}})
	}
	incremental := make(map[string]bool)
	for _, b := range w.dump().Backups {
		incremental[*b.Name] = b.ParentID != ""
	}
	if len(incremental) != 2 || incremental["first"] || !incremental["second"] {
		t.Errorf("incremental: %v", incremental)
	}
}
