package volumes_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/volumes/cloudtest"
)

func TestAttachAndDetachCostOneRequestEachBesidesThePolls(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		w.cloud.Requests()
		got, err := w.service.Attach(w.Context(), v.ID, w.server)
		if err != nil || !got.AttachedTo(w.server) || got.Status != cloud.VolumeInUse {
			t.Fatalf("got %+v, %v", got, err)
		}
		if spent := w.spent("volume.get", "attachment.list"); spent != "attachment.create:1 volume.metadata.update:1" {
			t.Fatalf("requests: %s", spent)
		}
		w.attach(v.ID, w.server)
		if spent := w.spent(); spent != "attachment.create:1 volume.get:1" {
			t.Fatalf("requests when it was attached already: %s", spent)
		}
		if err := w.service.Detach(w.Context(), v.ID, w.server); err != nil {
			t.Fatal(err)
		}
		if spent := w.spent("volume.get", "attachment.list"); spent != "attachment.delete:1" {
			t.Fatalf("requests: %s", spent)
		}
		if listed, _ := w.cloud.ListAttachments(w.Context(), w.server); len(listed) > 0 {
			t.Fatal("Nova still lists the volume")
		}
		if err := w.service.Detach(w.Context(), v.ID, w.server); err != nil {
			t.Fatalf("detaching again: %v", err)
		}
	})
}

func TestTheFirstAttachmentIsPutOnRecord(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		for n, first := range []bool{true, false, false} {
			w.cloud.Requests()
			got, err := w.service.Attach(w.within(time.Minute), v.ID, w.server)
			if err != nil || got.First != first {
				t.Fatalf("attachment %d: got %+v, %v", n, got, err)
			}
			if again, err := w.service.Attach(w.within(time.Minute), v.ID, w.server); err != nil || again.First {
				t.Fatalf("attachment %d, repeated: got %+v, %v", n, again, err)
			}
			if updates := w.cloud.Requests()["volume.metadata.update"]; updates > 0 != first {
				t.Fatalf("attachment %d: %d updates of the metadata", n, updates)
			}
			if err := w.service.Detach(w.within(time.Minute), v.ID, w.server); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// What no call could put on record is no first attachment of any later call.
func TestAnAttachmentIsNotToldBeforeItIsOnRecord(t *testing.T) {
	for name, fault := range map[string]cloudtest.Fault{
		"that nobody saw":            {Op: "attachment.create", Times: 1, After: true, Err: unavailable},
		"whose record was refused":   {Op: "volume.metadata.update", Times: 1, Err: unavailable},
		"whose token was refused":    {Op: "volume.metadata.update", Times: 1, Err: cloud.ErrUnauthorized},
		"whose record has no answer": {Op: "volume.metadata.update", Times: 1, After: true, Err: unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				v := w.create(volumes.CreateRequest{Name: "pvc-1"})
				w.cloud.SetFault(fault)
				for {
					got, err := w.service.Attach(w.within(time.Minute), v.ID, w.server)
					if err == nil && got.First {
						t.Fatal("told as the first")
					}
					if err == nil {
						break
					}
					w.wantError(err, volumes.ErrUnfinished)
				}
				if v := w.get(v.ID); volumes.NeverPublished(&v) {
					t.Error("it still bears the mark")
				}
			})
		})
	}
}

// A cloud that refuses the record once is asked again. One that goes on refusing leaves
// the mark on a volume that holds data: no mark counts from then on.
func TestARecordOfTheFirstAttachmentThatIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		times       int
		err         error
		first, mark bool
	}{
		"once":                   {1, cloud.ErrForbidden, true, false},
		"for some time":          {4, cloud.ErrForbidden, false, true},
		"for ever":               {0, cloud.ErrForbidden, false, true},
		"by an old cloud":        {0, cloud.ErrUnsupported, false, true},
		"by its form":            {0, cloud.ErrInvalid, false, true},
		"as a request of nobody": {0, cloud.ErrNotFound, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				v := w.create(volumes.CreateRequest{Name: "pvc-1"})
				w.cloud.SetFault(cloudtest.Fault{Op: "volume.metadata.update", Times: test.times, Err: test.err})
				got, err := w.service.Attach(w.within(time.Minute), v.ID, w.server)
				if err != nil || got.First != test.first {
					t.Fatalf("got %+v, %v", got, err)
				}
				if now := w.get(v.ID); volumes.NeverPublished(&now) != test.mark {
					t.Errorf("marked %v", !test.mark)
				}
				if err := w.service.Detach(w.within(time.Minute), v.ID, w.server); err != nil {
					t.Fatal(err)
				}
				w.cloud.ClearFaults()
				if got, err := w.service.Attach(w.within(time.Minute), v.ID, w.server); err != nil || got.First {
					t.Fatalf("again: got %+v, %v", got, err)
				}
				if err := w.service.Detach(w.within(time.Minute), v.ID, w.server); err != nil {
					t.Fatal(err)
				}
				// A twin with such a mark may hold data, too.
				w.cloud.Set(v.ID, func(v *cloud.Volume) { v.Metadata[volumes.NeverPublishedKey] = "true" })
				older := cloud.Volume{Name: "pvc-1", SizeGiB: 1, Status: cloud.VolumeAvailable, Metadata: map[string]string{volumes.ClusterKey: cluster}}
				id := w.cloud.Add(older)
				w.cloud.Set(id, func(v *cloud.Volume) { v.CreatedAt = v.CreatedAt.Add(-time.Hour) })
				w.create(volumes.CreateRequest{Name: "pvc-1"})
				if n := len(w.cloud.Volumes()); (n == 2) != test.mark {
					t.Errorf("%d volumes are left", n)
				}
			})
		})
	}
}

// A volume that is deleted while it is attached takes no record. That says nothing about
// the marks of other volumes.
func TestARecordOfAVolumeThatIsGone(t *testing.T) {
	in(t, func(w *world) {
		v, other := w.create(volumes.CreateRequest{Name: "pvc-1"}), w.create(volumes.CreateRequest{Name: "pvc-2"})
		w.cloud.SetFault(cloudtest.Fault{Op: "volume.metadata.update", Times: 1, Delay: 2 * time.Second, Err: cloud.ErrNotFound})
		go func() {
			time.Sleep(700 * time.Millisecond)
			w.cloud.Set(v.ID, func(v *cloud.Volume) { v.Status, v.Attachments = cloud.VolumeAvailable, nil })
			_ = w.cloud.DeleteVolume(w.Context(), v.ID)
		}()
		if _, err := w.service.Attach(w.within(time.Minute), v.ID, w.server); err == nil {
			t.Error("a volume that is gone is attached")
		}
		if got, err := w.service.Attach(w.within(time.Minute), other.ID, w.server); err != nil || !got.First {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestAttachWaitsForABusyVolume(t *testing.T) {
	cases := map[string]func(w *world) string{
		"that is being created": func(w *world) string {
			v, err := w.cloud.CreateVolume(w.Context(), cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1})
			if err != nil {
				w.Fatal(err)
			}
			return v.ID
		},
		"that is being detached from another server": func(w *world) string {
			v, other := w.create(volumes.CreateRequest{Name: "pvc-1"}), w.cloud.AddServer()
			w.attach(v.ID, other)
			if err := w.cloud.DetachVolume(w.Context(), other, v.ID); err != nil {
				w.Fatal(err)
			}
			return v.ID
		},
		"that is being extended": func(w *world) string {
			v := w.create(volumes.CreateRequest{Name: "pvc-1"})
			if err := w.cloud.ExtendVolume(w.Context(), v.ID, 2, false); err != nil {
				w.Fatal(err)
			}
			return v.ID
		},
		"whose earlier attachment is under way": func(w *world) string {
			v := w.create(volumes.CreateRequest{Name: "pvc-1"})
			if _, err := w.cloud.AttachVolume(w.Context(), w.server, v.ID); err != nil {
				w.Fatal(err)
			}
			return v.ID
		},
	}
	for name, prepare := range cases {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				id := prepare(w)
				w.attach(id, w.server)
				if v := w.get(id); !v.AttachedTo(w.server) || v.Status != cloud.VolumeInUse {
					t.Fatalf("got %+v", v)
				}
			})
		})
	}
}

func TestAttachOfWhatIsElsewhereNamesTheServer(t *testing.T) {
	in(t, func(w *world) {
		v, other := w.create(volumes.CreateRequest{Name: "pvc-1"}), w.cloud.AddServer()
		w.attach(v.ID, other)
		_, err := w.service.Attach(w.Context(), v.ID, w.server)
		w.wantError(err, volumes.ErrAttachedElsewhere, other)
	})
}

func TestAttachOfAMultiattachVolumeToSeveralServers(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1", Type: "multiattach"})
		other := w.cloud.AddServer()
		w.attach(v.ID, w.server)
		w.attach(v.ID, other)
		if got := w.get(v.ID); len(got.Attachments) != 2 {
			t.Fatalf("attachments: %v", got.Attachments)
		}
		if err := w.service.Detach(w.Context(), v.ID, w.server); err != nil {
			t.Fatal(err)
		}
		if got := w.get(v.ID); !got.AttachedTo(other) || got.AttachedTo(w.server) {
			t.Fatalf("attachments: %v", got.Attachments)
		}
		w.attach(v.ID, w.server)
		if err := w.service.Detach(w.Context(), v.ID, ""); err != nil {
			t.Fatal(err)
		}
		if got := w.get(v.ID); len(got.Attachments) != 0 {
			t.Fatalf("attachments: %v", got.Attachments)
		}
	})
}

func TestAttachOfWhatDoesNotExist(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		cases := map[string][2]string{
			"no such volume":    {uuid.NewString(), w.server},
			"no such server":    {v.ID, uuid.NewString()},
			"neither":           {uuid.NewString(), uuid.NewString()},
			"an odd volume id":  {"odd", w.server},
			"an odd server id":  {v.ID, "../servers"},
			"an even older one": {v.ID, "node-1"},
		}
		for name, ids := range cases {
			_, err := w.service.Attach(w.Context(), ids[0], ids[1])
			t.Log(name)
			w.wantError(err, cloud.ErrNotFound)
			if err := w.service.Detach(w.Context(), ids[0], ids[1]); err != nil {
				t.Fatalf("detaching, %s: %v", name, err)
			}
		}
	})
}

func TestAttachThatTheCloudGivesUpAsksToBeRepeated(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		w.cloud.SetFault(cloudtest.Fault{Op: "attachment.create", Times: 1, Outcome: "fails"})
		start := time.Now()
		_, err := w.service.Attach(w.Context(), v.ID, w.server)
		w.wantError(err, volumes.ErrUnfinished, "went back to status available")
		if took := time.Since(start); took > 3*time.Second {
			t.Fatalf("noticed after %v", took)
		}
		w.attach(v.ID, w.server)
	})
}

func TestAttachWithoutAnAnswer(t *testing.T) {
	for name, acted := range map[string]bool{"when Nova has acted": true, "when Nova has not acted": false} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				v := w.create(volumes.CreateRequest{Name: "pvc-1"})
				w.cloud.SetFault(cloudtest.Fault{Op: "attachment.create", Times: 1, After: acted, Err: unavailable})
				_, err := w.service.Attach(w.within(time.Minute), v.ID, w.server)
				if !acted {
					w.wantError(err, volumes.ErrUnfinished)
					_, err = w.service.Attach(w.within(time.Minute), v.ID, w.server)
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := w.get(v.ID); len(got.Attachments) != 1 {
					t.Fatalf("attachments: %v", got.Attachments)
				}
			})
		})
	}
}

func TestAttachPastTheLimitOfTheServer(t *testing.T) {
	in(t, func(w *world) {
		w.cloud.AttachLimit = 1
		first, second := w.create(volumes.CreateRequest{Name: "pvc-1"}), w.create(volumes.CreateRequest{Name: "pvc-2"})
		w.attach(first.ID, w.server)
		_, err := w.service.Attach(w.Context(), second.ID, w.server)
		w.wantError(err, cloud.ErrAttachLimit)
	})
}

func TestAttachToABusyServerWaitsUntilTheDeadline(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		w.cloud.SetServer(w.server, func(s *cloud.Server) { s.Status = "REBOOT" })
		_, err := w.service.Attach(w.within(5*time.Second), v.ID, w.server)
		w.wantError(err, context.DeadlineExceeded)
		time.AfterFunc(5*time.Second, func() {
			w.cloud.SetServer(w.server, func(s *cloud.Server) { s.Status = "ACTIVE" })
		})
		w.attach(v.ID, w.server)
	})
}

func TestAttachIsNotDoneBeforeBothNovaAndCinderSaySo(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		w.attach(v.ID, w.server)
		// Nova has forgotten it, Cinder has not.
		w.cloud.Forget(v.ID, w.server, false)
		_, err := w.service.Attach(w.within(time.Minute), v.ID, w.server)
		w.wantError(err, volumes.ErrUnfinished, "Nova does not list it")
		// Cinder has forgotten it, Nova has not.
		second := w.create(volumes.CreateRequest{Name: "pvc-2"})
		w.attach(second.ID, w.server)
		w.cloud.Forget(second.ID, w.server, true)
		_, err = w.service.Attach(w.within(time.Minute), second.ID, w.server)
		w.wantError(err, volumes.ErrState, "Nova lists it")
	})
}

func TestAttachOfABrokenVolumeSaysSo(t *testing.T) {
	in(t, func(w *world) {
		id := w.cloud.Add(cloud.Volume{Name: "broken", SizeGiB: 1, Status: cloud.VolumeError})
		_, err := w.service.Attach(w.Context(), id, w.server)
		w.wantError(err, volumes.ErrState, "status error")
	})
}

func TestDetachWhenTheServerIsGone(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		w.attach(v.ID, w.server)
		w.cloud.DeleteServer(w.server, false)
		if err := w.service.Detach(w.Context(), v.ID, w.server); err != nil {
			t.Fatal(err)
		}
		stale, other := w.create(volumes.CreateRequest{Name: "pvc-2"}), w.cloud.AddServer()
		w.attach(stale.ID, other)
		w.cloud.DeleteServer(other, true)
		w.cloud.SetFault(cloudtest.Fault{Op: "cinder-attachment.delete", Times: 1, Err: cloud.ErrConflict})
		err := w.service.Detach(w.within(time.Minute), stale.ID, other)
		w.wantError(err, volumes.ErrState, "Cinder keeps attachment", "openstack server remove volume")
		time.Sleep(time.Second) // as the attacher does
		if err := w.service.Detach(w.within(time.Minute), stale.ID, other); err != nil {
			t.Fatal(err)
		}
		if got := w.get(stale.ID); len(got.Attachments) != 0 || got.Status != cloud.VolumeAvailable {
			t.Fatalf("got %+v", got)
		}
	})
}

// Cinder attaches volumes to hosts as well, which Nova knows nothing of.
func TestDetachFromAllServersLeavesOthersAlone(t *testing.T) {
	in(t, func(w *world) {
		id := w.cloud.Add(cloud.Volume{SizeGiB: 1, Status: cloud.VolumeInUse, Multiattach: true, Attachments: []cloud.Attachment{{ServerID: ""}, {ServerID: w.server}}})
		if err := w.service.Detach(w.within(time.Minute), id, ""); err != nil {
			t.Fatal(err)
		}
		if v := w.get(id); len(v.Attachments) != 1 || v.AttachedTo(w.server) {
			t.Errorf("got %+v", v.Attachments)
		}
	})
}

func TestDetachThatTheServerRefusesAsksToBeRepeated(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		w.attach(v.ID, w.server)
		w.cloud.SetFault(cloudtest.Fault{Op: "attachment.delete", Times: 1, Outcome: "fails"})
		err := w.service.Detach(w.within(time.Minute), v.ID, w.server)
		w.wantError(err, volumes.ErrUnfinished, "did not let go")
		if err := w.service.Detach(w.within(time.Minute), v.ID, w.server); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDetachWithoutAnAnswer(t *testing.T) {
	for name, acted := range map[string]bool{"when Nova has acted": true, "when Nova has not acted": false} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				v := w.create(volumes.CreateRequest{Name: "pvc-1"})
				w.attach(v.ID, w.server)
				w.cloud.SetFault(cloudtest.Fault{Op: "attachment.delete", Times: 1, After: acted, Err: unavailable})
				err := w.service.Detach(w.within(time.Minute), v.ID, w.server)
				if !acted {
					w.wantError(err, volumes.ErrUnfinished)
					err = w.service.Detach(w.within(time.Minute), v.ID, w.server)
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := w.get(v.ID); len(got.Attachments) != 0 || got.Status != cloud.VolumeAvailable {
					t.Fatalf("got %+v", got)
				}
			})
		})
	}
}

func TestDetachWhileTheVolumeIsBeingAttachedWaits(t *testing.T) {
	in(t, func(w *world) {
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		if _, err := w.cloud.AttachVolume(w.Context(), w.server, v.ID); err != nil {
			t.Fatal(err)
		}
		if err := w.service.Detach(w.within(time.Minute), v.ID, w.server); err != nil {
			t.Fatal(err)
		}
		if got := w.get(v.ID); len(got.Attachments) != 0 || got.Status != cloud.VolumeAvailable {
			t.Fatalf("got %+v", got)
		}
	})
}

func TestOperationsOnOneVolumeDoNotOverlap(t *testing.T) {
	in(t, func(w *world) {
		w.cloud.Latency.Attach = 5 * time.Second
		v := w.create(volumes.CreateRequest{Name: "pvc-1"})
		done := make(chan error)
		go func() {
			_, err := w.service.Attach(w.Context(), v.ID, w.server)
			done <- err
		}()
		time.Sleep(time.Second)
		start := time.Now()
		err := w.service.Delete(w.Context(), v.ID)
		w.wantError(err, volumes.ErrBusy)
		if waited := time.Since(start); waited != 2*time.Second {
			t.Fatalf("waited %v", waited)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
