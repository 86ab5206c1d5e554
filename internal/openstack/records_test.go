package openstack_test

import (
	"errors"
	"net/http"
	"sync"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
)

func TestZonesAreAskedForOnceAndFailuresAreNotKept(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{}, nil), t.Context()
	if _, err := l.admin.AddServer(ctx, admin.Server{Name: "left", Zone: "room 1: left"}); err != nil {
		t.Fatal(err)
	}
	l.must(l.admin.SetFaults(ctx, admin.Fault{Operation: "zone.list", Before: http.StatusForbidden, Times: 1}))
	if _, err := l.ListZones(ctx); !errors.Is(err, cloud.ErrForbidden) {
		t.Errorf("got %v", err)
	}
	l.forget()
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			zones, err := l.ListZones(ctx)
			if err != nil || len(zones) != 2 || zones[0] != "nova" || zones[1] != "room 1: left" {
				t.Errorf("zones %q, %v", zones, err)
			}
			zones[0] = "spoilt"
		})
	}
	group.Wait()
	l.cost("zone.list 1")
}

func TestAttachmentRecords(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{}, nil), t.Context()
	a, b := l.volume("pvc-1"), l.volume("pvc-2")
	server := l.cloud.ServerID("node1")
	for _, v := range []*cloud.Volume{a, b} {
		_, err := l.AttachVolume(ctx, server, v.ID)
		l.must(err)
		l.volumeIs(v.ID, cloud.VolumeInUse)
	}
	l.forget()
	records, err := l.ListAttachmentRecords(ctx, a.ID)
	l.must(err)
	l.cost("cinder-attachment.list 1")
	if len(records) != 1 || records[0].ServerID != server || records[0].VolumeID != a.ID || records[0].Status != "attached" {
		t.Fatalf("records %+v", records)
	}
	err = l.DeleteAttachmentRecord(ctx, records[0].ID)
	if !errors.Is(err, cloud.ErrConflict) || cloud.Uncertain(err) {
		t.Errorf("a record that Nova uses: %v", err)
	}
	delegated, err := openstack.Connect(ctx, readConf(t, l.cloud.CredentialConf()), openstack.Options{})
	l.must(err)
	defer delegated.Close()
	if err := delegated.DeleteAttachmentRecord(ctx, records[0].ID); !errors.Is(err, cloud.ErrUnavailable) {
		t.Errorf("with an application credential: %v", err)
	}
	if err := l.DeleteAttachmentRecord(ctx, missing); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("a record that is missing: %v", err)
	}
}

func TestAttachmentRecordsOfAnOldCinder(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{}, func(b *devcloud.Behaviour) { b.VolumeVersion = "3.26" }), t.Context()
	v := l.volume("pvc-1")
	if _, err := l.ListAttachmentRecords(ctx, v.ID); !errors.Is(err, cloud.ErrUnsupported) {
		t.Errorf("listing: %v", err)
	}
	if err := l.DeleteAttachmentRecord(ctx, missing); !errors.Is(err, cloud.ErrUnsupported) {
		t.Errorf("deleting: %v", err)
	}
}
