package volumes_test

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/openstack/openstacktest"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// remote is a development cloud and a service that reaches it over HTTP.
type remote struct {
	*testing.T
	cloud *devcloud.Cloud
	admin *admin.Client
	*volumes.Service
}

// overHTTP starts a development cloud without latencies.
func overHTTP(t *testing.T, opts volumes.Options) *remote {
	t.Helper()
	c, err := devcloud.Start(t.Context(), devcloud.Config{
		StateDir: filepath.Join(t.TempDir(), "cloud"), Disks: devcloud.DisksNone, Latency: devcloud.Instant(), Ephemeral: true,
		Servers: []devcloud.Server{{Name: "one"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	opts.Cluster = cluster
	return &remote{T: t, cloud: c, admin: c.Admin(), Service: volumes.New(connect(t, c.CloudConf()), opts)}
}

// connect logs in as the driver does.
func connect(t *testing.T, conf string) *openstack.Client {
	t.Helper()
	return openstacktest.Connect(t, conf, openstack.Options{Version: "test"})
}

func (r *remote) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(strictly(r.Context(), r.T), d)
	r.Cleanup(cancel)
	return ctx
}

func (r *remote) faults(faults ...admin.Fault) {
	r.Helper()
	if err := r.admin.SetFaults(r.Context(), faults...); err != nil {
		r.Fatal(err)
	}
}

func (r *remote) dump() admin.Dump {
	r.Helper()
	d, err := r.admin.Dump(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	return d
}

func (r *remote) create(req volumes.CreateRequest) *cloud.Volume {
	r.Helper()
	req.SizeGiB = max(req.SizeGiB, 1)
	v, err := r.Create(strictly(r.within(time.Minute), r.T, "name"), req)
	if err != nil {
		r.Fatal(err)
	}
	return v
}

// backup asks for a backup until it is ready.
func (r *remote) backup(req volumes.SnapshotRequest) *volumes.Snapshot {
	r.Helper()
	req.Backup = true
	for ctx := strictly(r.within(time.Minute), r.T, "name", "volumeID"); ; time.Sleep(10 * time.Millisecond) {
		b, err := r.CreateSnapshot(ctx, req)
		if err != nil {
			r.Fatal(err)
		}
		if b.Ready {
			return b
		}
	}
}

// until waits until the cloud is in a state.
func (r *remote) until(reached func(admin.Dump) bool) {
	r.Helper()
	for ctx := r.within(time.Minute); !reached(r.dump()); time.Sleep(10 * time.Millisecond) {
		if ctx.Err() != nil {
			r.Fatal("that never happens")
		}
	}
}

// Backups are beside the point of who asks for snapshots: a cloud that does not show them
// to the account still lists its snapshots.
func TestSnapshotsAreListedWhereBackupsAreNotShown(t *testing.T) {
	r := overHTTP(t, volumes.Options{})
	v := r.create(volumes.CreateRequest{Name: "pvc-1"})
	if _, err := r.CreateSnapshot(r.within(time.Minute), volumes.SnapshotRequest{Name: "snap-1", VolumeID: v.ID}); err != nil {
		t.Fatal(err)
	}
	for name, fault := range map[string]admin.Fault{
		"forbidden": {Before: http.StatusForbidden, Body: `{"forbidden": {"message": "no"}}`},
		"refused":   {Before: http.StatusBadRequest, Body: `{"badRequest": {"message": "no"}}`},
		"HTML":      {Before: http.StatusOK, Body: `<html></html>`},
	} {
		fault.Operation = "backup.list"
		r.faults(fault)
		for _, limit := range []int{0, 5} {
			found, next, err := r.ListSnapshots(r.within(time.Minute), "", cloud.Page{Limit: limit})
			if err != nil || len(found) != 1 || next.Marker != "" {
				t.Errorf("%s: %d snapshots, then %q, %v", name, len(found), next.Marker, err)
			}
		}
	}
	r.faults(admin.Fault{Operation: "backup.list", Before: http.StatusInternalServerError})
	if _, _, err := r.ListSnapshots(r.within(time.Minute), "", cloud.Page{}); !errors.Is(err, cloud.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
