package inspect_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/inspect"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// careful is a state in which a command that fits another would lose data, or do nothing.
type careful struct {
	name  string
	make  func(w *world)
	later time.Duration
	// has and lacks are parts of the answer, with the names as in disagreement.
	has, lacks []string
}

// migrating is a cloud in which a server has a second attachment, for the host that it moves to.
type migrating struct {
	cloud.Inspector
	server string
}

func (c migrating) ListAttachmentRecords(ctx context.Context, volumeID string) ([]cloud.AttachmentRecord, error) {
	records, err := c.Inspector.ListAttachmentRecords(ctx, volumeID)
	return append(records, cloud.AttachmentRecord{ID: nobody, VolumeID: volumeID, ServerID: c.server, Status: "reserved"}), err
}

func TestNoCommandIsToldByWhichDataAreLost(t *testing.T) {
	for _, test := range []careful{
		{
			name: "it is in error, and Nova doesn't tell who has it", make: func(w *world) {
				w.reset(cloud.VolumeError)
				w.node("one")
				w.pod("pod-one", "one")
				w.faults(admin.Fault{Operation: "attachment.list", Before: 503})
			},
			has: []string{"volume-in-error"}, lacks: []string{"--state available"},
		},
		{
			name: "it is in error, and Cinder has it on a server that Nova doesn't", make: func(w *world) {
				w.reserve(w.cloud.ServerID("one"), true)
				w.reset(cloud.VolumeError)
			},
			has: []string{"--state in-use VOLUME"}, lacks: []string{"--state available VOLUME"},
		},
		{
			name: "somebody deleted it in Cinder although a claim has it", make: func(w *world) { w.reset(cloud.VolumeErrorDeleting) },
			has: []string{"deletion-failed", "--state available VOLUME", "don't delete it again"}, lacks: []string{"openstack volume delete"},
		},
		{
			name: "the deletion that its claim asked for failed", make: func(w *world) {
				w.kube.Delete(kube.Claims, "space", "data")
				w.kube.Store(kube.PersistentVolumes, "", "pv-1", object{
					"spec": object{
						"csi": object{"driver": driverName, "volumeHandle": w.volume}, "persistentVolumeReclaimPolicy": "Delete",
						"claimRef": object{"namespace": "space", "name": "data"},
					}, "status": object{"phase": "Failed"},
				})
				w.reset(cloud.VolumeErrorDeleting)
			},
			has: []string{"openstack volume delete VOLUME"},
		},
		{
			name: "it is in error, and Kubernetes can't be asked", make: func(w *world) {
				w.reset(cloud.VolumeError)
				w.from.Kubernetes, w.from.KubernetesErr = nil, errors.New("no kubeconfig")
			},
			has: []string{"volume-in-error"}, lacks: []string{"makes another one", "--state available"},
		},
		{
			name: "only Nova has it, on a server that is no node here", later: later, make: func(w *world) {
				w.faults(admin.Fault{Operation: "attachment.create", Async: "ghost"})
				_, err := w.AttachVolume(w.Context(), w.cloud.ServerID("one"), w.volume)
				w.must(err)
				w.until(w.volume, cloud.VolumeAvailable)
				w.csiNode("one", w.cloud.ServerID("one"))
				w.pod("pod-one", "one")
			},
			has: []string{"# If nothing on the server uses it", "openstack server remove volume ONE VOLUME"},
		},
		{
			name: "its cloud may be another", make: func(w *world) { w.storePV("pv-1", nobody, nil) },
			has: []string{`kubectl patch pv pv-1 -p '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}'` + "\n      kubectl delete pvc"},
		},
		{
			name: "its server moves to another host", later: later, make: func(w *world) {
				w.used("one")
				w.from.Clouds[0].Client = migrating{w.Client, w.cloud.ServerID("one")}
			},
			lacks: []string{"attachment-stuck", "volume attachment delete"},
		},
		{
			name: "its server sleeps", make: func(w *world) {
				w.used("one")
				w.server(func(nova *gophercloud.ServiceClient, id string) error {
					return servers.Suspend(w.Context(), nova, id).ExtractErr()
				})
			},
			has: []string{"openstack server resume ONE"}, lacks: []string{"server start"},
		},
		{
			name: "a node that Nova doesn't know runs somewhere", make: func(w *world) {
				w.reserve(nobody, true)
				w.node("one")
				w.csiNode("one", nobody)
				w.va("one", nil, object{"attached": true})
			},
			has: []string{"server-of-node-gone", "the node is ready"}, lacks: []string{"kubectl delete node", "attachment delete"},
		},
		{
			name: "a node that doesn't answer is in another cloud", make: func(w *world) {
				other := start(w.T)
				w.from.Clouds = append(w.from.Clouds, inspect.Cloud{Name: "b", Client: other.Client})
				w.node("one")
				w.csiNode("one", other.cloud.ServerID("two"))
				w.silent("one")
				w.pod("pod-one", "one")
			},
			lacks: []string{"server-of-node-gone", "kubectl delete node"},
		},
		{
			name: "a node may be in a cloud that doesn't answer", make: func(w *world) {
				w.from.Clouds = append(w.from.Clouds, inspect.Cloud{Name: "b", Err: errors.New("connection refused")})
				w.node("one")
				w.csiNode("one", nobody)
				w.silent("one")
				w.pod("pod-one", "one")
			},
			has: []string{"connection refused"}, lacks: []string{"server-of-node-gone", "kubectl delete node"},
		},
		{
			name: "a node calls itself what a shell or a terminal would obey", make: func(w *world) {
				w.node("one")
				w.csiNode("one", "$(touch /tmp/x)\x1b[2J\u202e'; rm -rf /")
				w.pod("pod-one", "one")
			},
			has: []string{"server"}, lacks: []string{"\x1b", "\u202e", "server show $("},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := start(t)
			test.make(w)
			asked := "space/data"
			if w.from.Kubernetes == nil {
				asked = w.volume
			}
			v, err := inspect.LookAtVolume(t.Context(), w.from, asked, time.Now().Add(test.later))
			w.must(err)
			var out bytes.Buffer
			w.must(v.Print(&out))
			text := strings.Join(kinds(v), " ") + "\n" + out.String()
			names := strings.NewReplacer("VOLUME", w.volume, "ONE", w.cloud.ServerID("one"))
			for _, part := range test.has {
				if !strings.Contains(text, names.Replace(part)) {
					t.Errorf("no %q", part)
				}
			}
			for _, part := range test.lacks {
				if strings.Contains(text, names.Replace(part)) {
					t.Errorf("has %q", part)
				}
			}
			if t.Failed() {
				t.Log("\n" + text)
			}
		})
	}
}

// Odd names are one word of a command each.
func TestOddNamesAreWordsOfACommand(t *testing.T) {
	w := start(t)
	const odd = "'; touch x; '"
	w.reserve(nobody, false)
	w.storePV("pv-1", odd, nil)
	v, err := inspect.LookAtVolume(t.Context(), w.from, "pv-1", time.Now())
	w.must(err)
	cure := ""
	for _, f := range v.Findings {
		cure += strings.Join(f.Cure, "\n") + "\n"
	}
	if want := `openstack volume show ''\''; touch x; '\'''`; !strings.Contains(cure, want) {
		t.Errorf("no %s in %s", want, cure)
	}
}

// A claim that waits for a long copy has no PersistentVolume until it is finished.
func TestAVolumeThatAClaimWaitsForIsNotToBeDeleted(t *testing.T) {
	w := start(t)
	const uid = "0d5a1f2e-2222-4222-8333-00000000000a"
	id := w.create("pvc-" + uid)
	w.kube.Store(kube.Claims, "space", "waits", object{"metadata": object{"uid": uid}, "status": object{"phase": "Pending"}})
	for _, asked := range []string{id, "space/waits"} {
		if v := w.look(asked, later); slices.Contains(kinds(v), "pv-gone") || v.Claim == nil || v.Claim.Name != "waits" {
			t.Errorf("%s: %q", asked, kinds(v))
		}
	}
}

func TestASnapshotIsNoOrphanWhileItIsBackedUp(t *testing.T) {
	for _, status := range []string{"creating", "available"} {
		lists := volumes.Lists{
			Snapshots: volumes.Listing{Own: []volumes.Listed{{ID: "s", VolumeID: "v", Temporary: true, CreatedAt: time.Unix(1, 0)}}},
			Backups:   volumes.Listing{Own: []volumes.Listed{{ID: "b", VolumeID: "v", Status: status, CreatedAt: time.Now()}}},
		}
		found := inspect.Compare(lists, &inspect.Known{Snapshots: true}, time.Now().Add(-day))
		if want := status == "available"; (len(found) == 1) != want {
			t.Errorf("%s: %+v", status, found)
		}
	}
}

// Another cluster whose driver has the same name is known by its servers.
func TestAVolumeOnAServerOfAnotherClusterIsNoReasonToDelete(t *testing.T) {
	w := start(t)
	w.used("one")
	unused := w.create("pvc-unused")
	theirs := w.create("pvc-theirs")
	_, err := w.AttachVolume(t.Context(), w.cloud.ServerID("two"), theirs)
	w.must(err)
	w.until(theirs, cloud.VolumeInUse)
	o := w.wantOrphans("volume "+unused, "volume "+theirs, "attachment "+theirs)
	var out bytes.Buffer
	if err := o.Print(&out); err != nil || !strings.Contains(o.Doubt, w.cloud.ServerID("two")) || strings.Contains(out.String(), "openstack volume delete") {
		t.Errorf("%s, %v", out.String(), err)
	}
	// A server of this cluster's is another matter.
	w.node("two")
	if o := w.orphans(); o.Doubt != "" || len(o.Orphans[0].Cure) == 0 {
		t.Errorf("%+v", o)
	}
}

func TestTheCloudOfASecretIsToldAsUnseen(t *testing.T) {
	w := start(t)
	w.storePV("pv-3", nobody, object{"csi": object{
		"driver": driverName, "volumeHandle": nobody, "controllerPublishSecretRef": object{"namespace": "a", "name": "b"},
	}})
	if o := w.orphans(); len(o.Unseen) != 1 || !strings.Contains(o.Unseen[0], "a/b") {
		t.Errorf("%q", o.Unseen)
	}
	w.storePV("pv-3", w.volume, object{"csi": object{
		"driver": driverName, "volumeHandle": w.volume, "controllerPublishSecretRef": object{"namespace": "a", "name": "b"},
	}})
	if o := w.orphans(); len(o.Unseen) > 0 {
		t.Errorf("%q", o.Unseen)
	}
}

func TestSnapshotsThatABackupToolMayKeepAreToldSo(t *testing.T) {
	w := start(t)
	s, err := w.CreateSnapshot(t.Context(), cloud.SnapshotRequest{VolumeID: w.volume, Name: "velero", Metadata: map[string]string{volumes.ClusterKey: cluster}})
	w.must(err)
	if o := w.wantOrphans("snapshot " + s.ID); !strings.Contains(strings.Join(o.Orphans[0].Cure, "\n"), "Velero") {
		t.Errorf("%+v", o.Orphans)
	}
}
