package controller_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
)

// A hypervisor asks a guest to let go of a disk again and again, for about three
// minutes; the volume is being detached for that long. Then it gives up, and the
// volume is in use as before. Both are longer than a sidecar waits.
func TestAGuestThatIgnoresTheUnplug(t *testing.T) {
	for name, c := range map[string]struct {
		hang   bool
		rounds int
		// refusals are the codes with which the volume is kept from others.
		refusals []codes.Code
	}{
		"the volume is being detached all the time": {true, 3, again},
		"the volume goes back to being in use":      {false, 1, []codes.Code{codes.FailedPrecondition}},
	} {
		t.Run(name, func(t *testing.T) {
			w := withDisks(t, c.hang)
			v := w.create(request("pvc-1", 1)).GetVolumeId()
			w.publish(v, "one")
			letGo := w.hold(v, "one")
			for range c.rounds {
				w.answers("unpublish", again, func(ctx context.Context) error {
					_, err := w.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: v, NodeId: w.server("one")})
					return err
				})
				if !c.hang {
					w.until(v, "in-use")
				}
				w.answers("publish to another node", c.refusals, func(ctx context.Context) error {
					_, err := w.ControllerPublishVolume(ctx, publishRequest(v, w.server("two")))
					return err
				})
				w.answers("delete", c.refusals, func(ctx context.Context) error {
					_, err := w.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v})
					return err
				})
				w.onlyOn(v, "one")
			}
			letGo()
			w.unpublish(v, "one")
			w.publish(v, "two")
			w.onlyOn(v, "two")
			w.unpublish(v, "two")
			w.remove(v)
		})
	}
}

// withDisks is a world in which volumes are devices. A device that is open is
// not taken from its server: that hangs, or is given up soon.
func withDisks(t *testing.T, hang bool) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("loop devices need root: run the tests as root")
	}
	return newWorld(t, devcloud.Fast(), func(c *devcloud.Config, _ *controller.Config) {
		behaviour := devcloud.Behaviour{HangBusyDetach: hang}
		c.Disks, c.Behaviour = devcloud.DisksLoop, &behaviour
		c.Latency.Steps = maps.Clone(c.Latency.Steps)
		c.Latency.Steps[latency.BusyDetach] = latency.Distribution{Min: 200 * time.Millisecond, Median: 200 * time.Millisecond}
	})
}

// hold keeps a volume's device open on its server until it is let go of.
func (w *world) hold(volumeID, server string) (letGo func()) {
	w.Helper()
	f, err := os.Open(filepath.Join(w.cloud.DeviceDir(server), "disk/by-id", "virtio-"+volumeID[:20]))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = f.Close() }) // for a test that ends early
	return func() {
		if err := f.Close(); err != nil {
			w.Fatal(err)
		}
	}
}

// until waits for a volume's status.
func (w *world) until(volumeID, status string) {
	w.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		for _, v := range w.dump().Volumes {
			if v.ID == volumeID && v.Status == status {
				return
			}
		}
		if time.Now().After(deadline) {
			w.Fatalf("volume %s does not become %s", volumeID, status)
		}
	}
}

// answers makes a call with little time until it ends with one of the codes, or
// with one that doesn't ask for it again. It has to end when its time is over.
func (w *world) answers(what string, want []codes.Code, call func(context.Context) error) {
	w.Helper()
	const limit, late, patience = 500 * time.Millisecond, 10 * time.Second, 30 * time.Second
	for deadline := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(w.Context(), limit)
		start := time.Now()
		err := call(ctx)
		cancel()
		if took := time.Since(start); took > limit+late {
			w.Fatalf("%s took %v of its %v", what, took, limit)
		}
		if slices.Contains(want, status.Code(err)) {
			return
		}
		if !slices.Contains(again, status.Code(err)) || time.Now().After(deadline) {
			w.Fatalf("%s: got %v, want one of %v", what, err, want)
		}
	}
}

// onlyOn checks that Cinder and Nova have the volume on one server and no other.
func (w *world) onlyOn(volumeID, server string) {
	w.Helper()
	d := w.dump()
	for _, v := range d.Volumes {
		if on := v.Attached(); v.ID == volumeID && (len(on) != 1 || on[0].ServerID != w.server(server)) {
			w.Fatalf("status %s, attached to %v", v.Status, on)
		}
	}
	for _, s := range d.Servers {
		var has bool
		for _, disk := range s.Disks {
			has = has || disk.VolumeID == volumeID
		}
		if has != (s.Name == server) {
			w.Fatalf("server %s has the volume: %t", s.Name, has)
		}
	}
}
