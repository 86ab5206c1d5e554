package inspect_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/attachments"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/inspect"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/kube/kubetest"
)

// reset sets the status of the volume, as an administrator.
func (w *world) reset(status cloud.VolumeStatus) {
	w.Helper()
	cinder, _ := w.operator()
	w.must(volumes.ResetStatus(w.Context(), cinder, w.volume, volumes.ResetStatusOpts{Status: string(status)}).ExtractErr())
}

// reserve makes a record of an attachment in Cinder, of which Nova knows nothing; with
// connect it is a finished one.
func (w *world) reserve(server string, connect bool) {
	w.Helper()
	cinder, _ := w.as("demo")
	cinder.Microversion = "3.44"
	opts := attachments.CreateOpts{VolumeUUID: w.volume, InstanceUUID: server}
	if connect {
		opts.Connector = map[string]any{"host": "h"}
	}
	made, err := attachments.Create(w.Context(), cinder, opts).Extract()
	w.must(err)
	if connect {
		w.must(attachments.Complete(w.Context(), cinder, made.ID).Err)
	}
}

func (w *world) server(change func(*gophercloud.ServiceClient, string) error) {
	w.Helper()
	_, nova := w.operator()
	w.must(change(nova, w.cloud.ServerID("one")))
}

const (
	nobody = "0d5a1f2e-1111-4222-8333-00000000000a"
	later  = 11 * time.Minute
)

// disagreement is a state of the world, and the rows that have to fit.
type disagreement struct {
	name  string
	make  func(w *world)
	later time.Duration
	want  []string
	// commands have to be in the cure, with the names of what is there: VOLUME and ONE, the
	// server, are replaced.
	commands []string
}

func disagreements() []disagreement {
	return []disagreement{
		{name: "nothing is wrong", make: func(w *world) { w.used("one") }},
		{name: "nothing is wrong and nothing uses it", make: func(*world) {}, later: later},
		{
			name: "Cinder keeps it for a server that is gone", make: func(w *world) { w.reserve(nobody, false) },
			want: []string{"server-gone"}, commands: []string{"volume attachment delete ", "openstack server show " + nobody},
		},
		{
			name: "only Kubernetes has it attached", make: func(w *world) {
				w.node("one")
				w.va("one", nil, object{"attached": true})
				w.pod("web-0", "one")
			},
			want: []string{"gone-for-all-but-kubernetes"}, commands: []string{"kubectl delete pod --namespace space web-0"},
		},
		{
			name: "only Cinder has it attached", make: func(w *world) { w.reserve(w.cloud.ServerID("one"), true) },
			want: []string{"ghost-in-cinder"}, commands: []string{"openstack --os-volume-api-version 3.27 volume attachment delete "},
		},
		{
			name: "Nova has lost it while it is used", make: func(w *world) {
				w.reserve(w.cloud.ServerID("one"), true)
				w.node("one")
				w.va("one", nil, object{"attached": true})
				w.pod("web-0", "one")
			},
			want: []string{"ghost-in-cinder"}, commands: []string{"kubectl delete pod --namespace space web-0"},
		},
		{
			name: "only Nova has it", later: later, make: func(w *world) {
				w.node("one")
				w.va("one", nil, object{"attached": false})
				w.faults(admin.Fault{Operation: "attachment.create", Async: "ghost"})
				_, err := w.AttachVolume(w.Context(), w.cloud.ServerID("one"), w.volume)
				w.must(err)
				w.until(w.volume, cloud.VolumeAvailable)
			},
			want: []string{"action-failed", "ghost-in-nova"}, commands: []string{"volume attachment create --connect VOLUME ONE", "openstack server remove volume ONE VOLUME"},
		},
		{
			name: "Nova is a moment behind", make: func(w *world) {
				w.faults(admin.Fault{Operation: "attachment.create", Async: "ghost"})
				w.node("one")
				w.va("one", nil, object{"attached": false})
				_, err := w.AttachVolume(w.Context(), w.cloud.ServerID("one"), w.volume)
				w.must(err)
				w.until(w.volume, cloud.VolumeAvailable)
			},
			want: []string{"action-failed", "just-changed"},
		},
		{
			name: "Kubernetes knows nothing of an attachment", make: func(w *world) { w.attach("one") },
			want: []string{"attached-without-kubernetes"}, commands: []string{"openstack server remove volume ONE VOLUME"},
		},
		{
			name: "it is on another server than Kubernetes wants it on", make: func(w *world) {
				w.attach("two")
				w.node("one")
				w.va("one", nil, object{"attached": true})
			},
			want: []string{"attached-without-kubernetes", "gone-for-all-but-kubernetes"},
		},
		{
			name: "the attacher doesn't know yet", make: func(w *world) {
				w.attach("one")
				w.node("one")
				w.va("one", nil, object{"attached": false})
			},
			want: []string{"not-attached-yet"},
		},
		{
			name: "a detachment never ends", later: later, make: func(w *world) {
				w.used("one")
				w.faults(admin.Fault{Operation: "attachment.delete", Stuck: true})
				w.must(w.DetachVolume(w.Context(), w.cloud.ServerID("one"), w.volume))
				w.until(w.volume, cloud.VolumeDetaching)
			},
			want: []string{"detachment-stuck"}, commands: []string{"openstack server event list ONE"},
		},
		{
			name: "an attachment never ends", later: later, make: func(w *world) { w.reserve(w.cloud.ServerID("one"), false) },
			want: []string{"attachment-stuck"}, commands: []string{"volume attachment delete "},
		},
		{
			name: "an attachment is under way", make: func(w *world) { w.reserve(w.cloud.ServerID("one"), false) },
		},
		{
			name: "the driver refuses", make: func(w *world) {
				w.node("one")
				w.va("one", nil, object{"attached": false, "attachError": object{"message": "rpc error: the node is full"}})
			},
			want: []string{"attach-error"}, commands: []string{"kubectl describe volumeattachment va-one"},
		},
		{
			name: "the driver can't detach", make: func(w *world) {
				w.used("one")
				w.va("one", object{"deletionTimestamp": "2026-01-01T00:00:00Z"}, object{"attached": true, "detachError": object{"message": "rpc error: locked"}})
			},
			want: []string{"detach-error"},
		},
		{
			name: "the driver isn't registered", make: func(w *world) {
				w.node("one")
				w.kube.Store(kube.CSINodes, "", "node-one", nil)
				w.pod("web-0", "one")
			},
			want: []string{"driver-not-registered"}, commands: []string{"--field-selector spec.nodeName=node-one"},
		},
		{
			name: "the node is gone", make: func(w *world) {
				w.used("one")
				w.kube.Delete(kube.Nodes, "", "node-one")
			},
			want: []string{"node-gone"}, commands: []string{"kubectl delete pod --force --namespace space pod-one"},
		},
		{
			name: "the server of a node is gone", make: func(w *world) {
				w.node("one")
				w.csiNode("one", nobody)
				w.silent("one")
				w.pod("web-0", "one")
			},
			want: []string{"server-of-node-gone"}, commands: []string{"kubectl delete node node-one"},
		},
		{
			name: "the server is off", make: func(w *world) {
				w.used("one")
				w.server(func(nova *gophercloud.ServiceClient, id string) error {
					return servers.Stop(w.Context(), nova, id).ExtractErr()
				})
			},
			want:     []string{"server-off"},
			commands: []string{"openstack server start ONE", "kubectl taint nodes node-one node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"},
		},
		{
			name: "the server is in error", make: func(w *world) {
				w.used("one")
				w.server(func(nova *gophercloud.ServiceClient, id string) error {
					return servers.ResetState(w.Context(), nova, id, servers.StateError).ExtractErr()
				})
			},
			want: []string{"server-in-error"}, commands: []string{"openstack server event list ONE"},
		},
		{
			name: "the server is locked", make: func(w *world) {
				w.used("one")
				w.server(func(nova *gophercloud.ServiceClient, id string) error {
					return servers.Lock(w.Context(), nova, id).ExtractErr()
				})
			},
			want: []string{"server-locked"}, commands: []string{"openstack server unlock ONE"},
		},
		{
			name: "the server is deleted and Cinder hears nothing of it", make: func(w *world) {
				w.used("one")
				w.faults(admin.Fault{Operation: "server.delete", Stuck: true})
				w.server(func(nova *gophercloud.ServiceClient, id string) error {
					return servers.Delete(w.Context(), nova, id).ExtractErr()
				})
				w.silent("one")
			},
			want: []string{"server-gone", "server-of-node-gone"}, commands: []string{"kubectl delete node node-one"},
		},
		{
			name: "a node that runs is out of service", make: func(w *world) {
				w.used("one")
				w.node("one", object{"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"})
			},
			want: []string{"out-of-service"}, commands: []string{"kubectl taint nodes node-one node.kubernetes.io/out-of-service-"},
		},
		{
			name: "an attachment failed", make: func(w *world) {
				w.node("one")
				w.va("one", nil, object{"attached": false})
				w.faults(admin.Fault{Operation: "attachment.create", Async: "vanish"})
				_, err := w.AttachVolume(w.Context(), w.cloud.ServerID("one"), w.volume)
				w.must(err)
				w.until(w.volume, cloud.VolumeAvailable)
			},
			want: []string{"action-failed"}, commands: []string{"openstack server event show ONE req-"},
		},
		{
			name: "the volume is gone", make: func(w *world) { w.storePV("pv-1", nobody, nil) },
			want: []string{"volume-gone"}, commands: []string{"openstack volume show " + nobody, "kubectl delete pvc --namespace space data"},
		},
		{
			name: "the PersistentVolume is gone", later: later, make: func(w *world) { w.kube.Delete(kube.PersistentVolumes, "", "pv-1") },
			want: []string{"claim-lost", "pv-gone"}, commands: []string{"openstack volume delete VOLUME"},
		},
		{
			name: "the volume can't be created", make: func(w *world) {
				w.kube.Delete(kube.PersistentVolumes, "", "pv-1")
				w.kube.Store(kube.Claims, "space", "data", object{"metadata": object{"uid": "u-1"}, "status": object{"phase": "Pending"}})
				w.faults(admin.Fault{Operation: "volume.create", EndIn: "error"})
				v, err := w.CreateVolume(w.Context(), cloud.VolumeRequest{Name: "pvc-u-1", SizeGiB: 1})
				w.must(err)
				w.until(v.ID, cloud.VolumeError)
			},
			want: []string{"claim-pending", "creation-failed"}, commands: []string{"kubectl describe pvc --namespace space data"},
		},
		{
			name: "the volume is in error", make: func(w *world) {
				w.used("one")
				w.reset(cloud.VolumeError)
			},
			want: []string{"volume-in-error"}, commands: []string{"openstack volume set --state in-use VOLUME"},
		},
		{
			name: "the volume is in error and nobody has it", make: func(w *world) { w.reset(cloud.VolumeError) },
			want: []string{"volume-in-error"}, commands: []string{"openstack volume set --state available VOLUME"},
		},
		{name: "it can't be deleted", make: func(w *world) { w.reset(cloud.VolumeErrorDeleting) }, want: []string{"deletion-failed"}},
		{
			name: "it can't grow", make: func(w *world) {
				w.faults(admin.Fault{Operation: "volume.extend", EndIn: "error_extending"})
				w.must(w.ExtendVolume(w.Context(), w.volume, 3, false))
				w.until(w.volume, cloud.VolumeErrorExtending)
			},
			want: []string{"growth-failed"}, commands: []string{"openstack volume set --state available VOLUME"},
		},
		{name: "it can't be restored", make: func(w *world) { w.reset(cloud.VolumeErrorRestoring) }, want: []string{"restore-failed"}},
		{
			name: "it grows for ever", later: later, make: func(w *world) {
				w.faults(admin.Fault{Operation: "volume.extend", Stuck: true})
				w.must(w.ExtendVolume(w.Context(), w.volume, 3, false))
				w.until(w.volume, cloud.VolumeExtending)
			},
			want: []string{"volume-busy"},
		},
		{
			name: "it is reserved for nobody", later: later, make: func(w *world) { w.reset(cloud.VolumeReserved) },
			want: []string{"attachment-of-nobody"}, commands: []string{"openstack volume set --state available VOLUME"},
		},
		{
			name: "the PersistentVolume can't be deleted", make: func(w *world) {
				w.kube.Store(kube.PersistentVolumes, "", "pv-1", object{
					"spec": object{"csi": object{"driver": driverName, "volumeHandle": w.volume}}, "status": object{"phase": "Failed", "message": "has snapshots"},
				})
			},
			want: []string{"pv-failed"},
		},
		{
			name: "the PersistentVolume is left of a claim", make: func(w *world) {
				w.kube.Delete(kube.Claims, "space", "data")
				w.kube.Store(kube.PersistentVolumes, "", "pv-1", object{
					"spec": object{
						"persistentVolumeReclaimPolicy": "Retain", "csi": object{"driver": driverName, "volumeHandle": w.volume},
						"claimRef": object{"namespace": "space", "name": "data"},
					}, "status": object{"phase": "Released"},
				})
			},
			want: []string{"pv-released"}, commands: []string{`kubectl patch pv pv-1 -p '{"spec":{"claimRef":{"uid":null,"resourceVersion":null}}}'`},
		},
		{
			name: "the quota is used up", make: func(w *world) {
				w.kube.Delete(kube.PersistentVolumes, "", "pv-1")
				w.must(w.DeleteVolume(w.Context(), w.volume))
				w.kube.Store(kube.Claims, "space", "data", object{"metadata": object{"uid": "u-1"}, "status": object{"phase": "Pending"}})
				w.event("rpc error: code = ResourceExhausted desc = VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota")
			},
			want: []string{"claim-pending", "quota"}, commands: []string{"openstack limits show --absolute", "cinder-csi-plugin inspect orphans"},
		},
		{
			name: "the volume has grown and the filesystem has not", make: func(w *world) {
				w.grown("3Gi", object{"conditions": []any{object{"type": "FileSystemResizePending", "status": "True", "message": "Waiting for user to (re-)start a pod"}}})
			},
			want: []string{"growth-pending-node"},
		},
		{
			name: "the volume has not grown yet", make: func(w *world) {
				w.grown("2Gi", object{"conditions": []any{object{"type": "Resizing", "status": "True"}}})
			},
			want: []string{"growth-pending"}, commands: []string{"kubectl describe pvc --namespace space data"},
		},
		{
			name: "the volume grew behind Kubernetes' back", make: func(w *world) {
				w.must(w.ExtendVolume(w.Context(), w.volume, 3, false))
				w.until(w.volume, cloud.VolumeAvailable)
			},
			want: []string{"larger-than-pv"}, commands: []string{`kubectl patch pvc --namespace space data -p '{"spec":{"resources":{"requests":{"storage":"3Gi"}}}}'`},
		},
		{
			name: "the volume is smaller than Kubernetes believes", make: func(w *world) {
				w.storePV("pv-1", w.volume, object{"capacity": object{"storage": "5Gi"}})
			},
			want: []string{"smaller-than-pv"}, commands: []string{"volume set --size 5 VOLUME"},
		},
		{
			name: "two nodes want it", make: func(w *world) {
				w.used("one")
				w.node("two")
				w.pod("pod-two", "two")
			},
			want: []string{"pods-on-several-nodes"},
		},
		{
			name: "the node refuses the disk", make: func(w *world) {
				w.used("one")
				w.waits("pod-one", `MountVolume.MountDevice failed for volume "pv-1" : rpc error: it is not blank`)
			},
			want: []string{"mount-failed"}, commands: []string{"cinder-csi-plugin inspect node"},
		},
		{
			name: "a pod waits for another volume", make: func(w *world) {
				w.used("one")
				w.waits("pod-one", `MountVolume.SetUp failed for volume "config" : configmap "c" not found`)
			},
		},
		{
			name: "a snapshot fails", make: func(w *world) {
				w.kube.Store(kube.SnapshotContents, "", "content-1", object{
					"spec":   object{"driver": driverName, "source": object{"volumeHandle": w.volume}, "volumeSnapshotRef": object{"namespace": "space", "name": "s"}},
					"status": object{"readyToUse": false, "error": object{"message": "no room"}},
				})
			},
			want: []string{"snapshot-error"},
		},
	}
}

// grown stores a claim that asks for 3 GiB, with a volume of a size in Cinder.
func (w *world) grown(size string, status object) {
	w.Helper()
	if size == "3Gi" {
		w.must(w.ExtendVolume(w.Context(), w.volume, 3, false))
		w.until(w.volume, cloud.VolumeAvailable)
	}
	w.kube.Store(kube.Claims, "space", "data", object{
		"metadata": object{"uid": "u-1"}, "spec": object{"volumeName": "pv-1", "resources": object{"requests": object{"storage": "3Gi"}}},
		"status": merged(object{"phase": "Bound", "capacity": object{"storage": "2Gi"}}, status),
	})
}

// unnamed is a word in braces that no name has replaced.
var unnamed = regexp.MustCompile(`\{[a-zA-Z]+\}`)

func TestDisagreementsAreFoundWithWhatMendsThem(t *testing.T) {
	for _, test := range disagreements() {
		t.Run(test.name, func(t *testing.T) {
			w := start(t)
			test.make(w)
			v := w.look("space/data", test.later)
			if got := kinds(v); !slices.Equal(got, test.want) {
				t.Errorf("found %q, want %q", got, test.want)
			}
			var out bytes.Buffer
			if err := v.Print(&out); err != nil {
				t.Fatal(err)
			}
			for _, command := range test.commands {
				command = strings.NewReplacer("VOLUME", w.volume, "ONE", w.cloud.ServerID("one")).Replace(command)
				if !strings.Contains(out.String(), command) {
					t.Errorf("the cure lacks %q", command)
				}
			}
			if found := unnamed.FindString(strings.ReplaceAll(out.String(), `{"storage"`, "")); found != "" {
				t.Errorf("%s has no name", found)
			}
			for line := range strings.Lines(out.String()) {
				if !strings.HasPrefix(line, "      ") && len(line) > 121 {
					t.Errorf("a line of %d columns: %s", len(line), line)
				}
			}
			if t.Failed() {
				t.Log("\n" + out.String())
			}
		})
	}
}

func TestAVolumeIsFoundByAllItsNames(t *testing.T) {
	w := start(t)
	w.used("one")
	for _, asked := range []string{"space/data", "pv-1", w.volume, strings.ToUpper(w.volume)} {
		v := w.look(asked, 0)
		if v.ID != w.volume || v.Claim == nil || v.PersistentVolume == nil || v.Cinder == nil || len(v.Servers) != 1 || len(v.Pods) != 1 || v.Wrong() {
			t.Errorf("%s: %+v", asked, v)
		}
	}
	// By its name in the cloud, when its PersistentVolume is gone.
	w.kube.Delete(kube.PersistentVolumes, "", "pv-1")
	if v := w.look("pv-1", later); v.ID != w.volume || !v.Wrong() {
		t.Errorf("%+v", v)
	}
	for _, asked := range []string{"nothing", "space/nothing", nobody, "pv\x1b[2J"} {
		_, err := inspect.LookAtVolume(t.Context(), w.from, asked, time.Now())
		if !errors.Is(err, inspect.ErrUnknown) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: %v", asked, err)
		}
	}
	for _, asked := range []string{"/", "a/", "/b", "a/b/c"} {
		if _, err := inspect.LookAtVolume(t.Context(), w.from, asked, time.Now()); err == nil {
			t.Errorf("%q is accepted", asked)
		}
	}
}

func TestVolumesOfTheInTreeDriverAreFoundAndOthersRefused(t *testing.T) {
	w := start(t)
	w.kube.Store(kube.PersistentVolumes, "", "old", object{"spec": object{"cinder": object{"volumeID": w.volume}, "capacity": object{"storage": "2Gi"}}})
	if v := w.look("old", 0); v.ID != w.volume || v.PersistentVolume.Driver != "in-tree cinder" {
		t.Errorf("%+v", v)
	}
	w.kube.Store(kube.PersistentVolumes, "", "other", object{"spec": object{"csi": object{"driver": "nfs.csi.k8s.io", "volumeHandle": w.volume}}})
	if _, err := inspect.LookAtVolume(t.Context(), w.from, "other", time.Now()); err == nil || !strings.Contains(err.Error(), "no volume of "+driverName) {
		t.Errorf("got %v", err)
	}
}

func TestWhatOneSideKnowsIsToldWhenAnotherCantBeAsked(t *testing.T) {
	w := start(t)
	w.used("one")
	t.Run("the cloud", func(t *testing.T) {
		from := w.from
		from.Clouds = []inspect.Cloud{{Name: "default", Err: errors.New("connection refused")}}
		v, err := inspect.LookAtVolume(t.Context(), from, "space/data", time.Now())
		if err != nil || v.PersistentVolume == nil || len(v.Attachments) != 1 || v.Cinder != nil || len(v.Unseen) != 1 || v.Unseen.Err() == nil || v.Wrong() {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("one of two clouds", func(t *testing.T) {
		from := w.from
		from.Clouds = append([]inspect.Cloud{{Name: "down", Err: errors.New("connection refused")}}, from.Clouds...)
		v, err := inspect.LookAtVolume(t.Context(), from, "space/data", time.Now())
		if err != nil || v.Cinder == nil || v.Cinder.Cloud != "default" || len(v.Unseen) != 1 {
			t.Errorf("%+v, %v", v, err)
		}
		// What the one that is down may have is not gone.
		w.storePV("pv-2", nobody, nil)
		v, err = inspect.LookAtVolume(t.Context(), from, "pv-2", time.Now())
		if err != nil || v.Cinder != nil || slices.Contains(kinds(v), "volume-gone") {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("Kubernetes", func(t *testing.T) {
		from := w.from
		from.Kubernetes, from.KubernetesErr = nil, errors.New("no kubeconfig")
		for _, asked := range []string{w.volume, "pv-1"} {
			v, err := inspect.LookAtVolume(t.Context(), from, asked, time.Now().Add(later))
			if err != nil || v.ID != w.volume || len(v.Servers) != 1 || len(v.Unseen) != 1 || v.Wrong() {
				t.Errorf("%+v, %v", v, err)
			}
		}
	})
	t.Run("a part of Kubernetes", func(t *testing.T) {
		w.kube.Instead(func(rw http.ResponseWriter, req *http.Request) {
			kubetest.Status(rw, 403, "Forbidden", "no", "x")
		})
		defer w.kube.Instead(nil)
		v, err := inspect.LookAtVolume(t.Context(), w.from, w.volume, time.Now().Add(later))
		if err != nil || v.Cinder == nil || len(v.Unseen) == 0 || v.Wrong() {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("the cloud of a secret", func(t *testing.T) {
		w.storePV("pv-3", nobody, object{"csi": object{
			"driver": driverName, "volumeHandle": nobody, "controllerPublishSecretRef": object{"namespace": "a", "name": "b"},
		}})
		v, err := inspect.LookAtVolume(t.Context(), w.from, "pv-3", time.Now())
		if err != nil || len(v.Unseen) != 1 || !strings.Contains(v.Unseen[0], "a/b") || slices.Contains(kinds(v), "volume-gone") {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

func TestTheAnswerIsJSONWithKeysInLowerCamel(t *testing.T) {
	w := start(t)
	w.used("one")
	encoded, err := json.Marshal(w.look("space/data", 0))
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal(encoded, &back); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"volumeID", "claim", "persistentVolume", "volumeAttachments", "cinder", "servers", "findings", "unseen"} {
		if back[key] == nil {
			t.Errorf("no %s in %s", key, encoded)
		}
	}
	if keys := regexp.MustCompile(`"([A-Z][a-zA-Z]*|[a-z]+_[a-z]+)":`).FindString(string(encoded)); keys != "" {
		t.Errorf("key %s", keys)
	}
}

// What is read of a volume before and after it is detached doesn't belong together.
func TestAVolumeThatChangesMeanwhileIsLookedAtAgain(t *testing.T) {
	w := start(t)
	w.used("one")
	once := sync.Once{}
	pass := w.kube.Config.Handler
	w.kube.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/volumeattachments") {
			once.Do(func() {
				w.kube.Delete(kube.Attachments, "", "va-one")
				w.kube.Delete(kube.Pods, "space", "pod-one")
				w.must(w.DetachVolume(w.Context(), w.cloud.ServerID("one"), w.volume))
				w.until(w.volume, cloud.VolumeAvailable)
			})
		}
		pass.ServeHTTP(rw, req)
	})
	if v := w.look("space/data", later); v.Wrong() || v.Cinder.Status != cloud.VolumeAvailable {
		t.Errorf("%q, %+v", kinds(v), v.Cinder)
	}
}

// Whatever a cloud or a cluster has for a name does nothing to a terminal.
func TestNamesDoNothingToATerminal(t *testing.T) {
	w := start(t)
	w.event("quota \x1b[31m\nred")
	w.kube.Store(kube.Claims, "space", "data", object{"metadata": object{"uid": "u-1"}, "status": object{"phase": "Pending"}})
	id := w.create("evil\x1b]0;title")
	v := w.look(id, 0)
	var out bytes.Buffer
	if err := v.Print(&out); err != nil || strings.ContainsAny(out.String(), "\x1b\x07") {
		t.Errorf("%q, %v", out.String(), err)
	}
	out.Reset()
	if err := w.look("space/data", 0).Print(&out); err != nil || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// Attempts that came to the same are one warning, the latest.
func TestWarningsThatDifferByTheRequestAreOne(t *testing.T) {
	w := start(t)
	w.used("one")
	for i, message := range []string{
		"volume is taken [req-5f0c1b1e-4e8b-4f0e-9d4c-1d3c9a2f7e66]", "volume is taken [req-6f0c1b1e-4e8b-4f0e-9d4c-1d3c9a2f7e66]", "volume is gone",
	} {
		w.kube.Store(kube.Events, "space", fmt.Sprint("event-", i), object{
			"involvedObject": object{"kind": "Pod", "name": "pod-one"}, "type": "Warning", "reason": "FailedAttachVolume", "message": message,
			"lastTimestamp": fmt.Sprintf("2026-01-01T00:0%d:00Z", i),
		})
	}
	w.kube.Store(kube.Events, "space", "event-of-the-scheduler", object{
		"involvedObject": object{"kind": "Pod", "name": "pod-one"}, "type": "Warning", "reason": "FailedScheduling", "message": "no volume is free",
		"lastTimestamp": nil, "eventTime": "2026-01-01T00:01:30.000000Z", "series": nil,
	})
	var told []string
	for _, e := range w.look("space/data", 0).Events {
		told = append(told, e.Message)
	}
	if want := []string{"volume is gone", "no volume is free", "volume is taken [req-6f0c1b1e-4e8b-4f0e-9d4c-1d3c9a2f7e66]"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
