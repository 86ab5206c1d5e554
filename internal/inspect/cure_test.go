package inspect_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/attachments"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// run does what a command of the openstack client does, as far as it changes something, with
// an administrator's credentials. Commands that only show something, and those of other
// programs, do nothing here. A command that it doesn't know is an error: operators couldn't
// run it either.
func (w *world) run(line string, made *string) error {
	words := strings.Fields(line)
	if words[0] != "openstack" {
		return nil
	}
	words = words[1:]
	version := ""
	if words[0] == "--os-volume-api-version" {
		version, words = words[1], words[2:]
	}
	cinder, nova := w.operator()
	cinder.Microversion = version
	ctx, last := w.Context(), words[len(words)-1]
	is := func(verb string) bool { return strings.HasPrefix(strings.Join(words, " "), verb+" ") }
	switch {
	case is("server show"), is("server event"), is("server list"), is("volume show"), is("limits show"), is("volume message"), is("volume service"), is("volume attachment list"):
		return nil
	case is("volume attachment delete"):
		return attachments.Delete(ctx, cinder, last).ExtractErr()
	case is("volume attachment create --connect"):
		cinder, _ = w.as("demo")
		cinder.Microversion = version
		one, err := attachments.Create(ctx, cinder, attachments.CreateOpts{VolumeUUID: words[4], InstanceUUID: words[5], Connector: map[string]any{"host": "h"}}).Extract()
		if err == nil {
			*made = one.ID
		}
		return err
	case is("volume attachment complete"):
		return attachments.Complete(ctx, cinder, *made).Err
	case is("volume set --state"):
		return volumes.ResetStatus(ctx, cinder, last, volumes.ResetStatusOpts{Status: words[3]}).ExtractErr()
	case is("volume set --size"):
		size, err := strconv.Atoi(words[3])
		if err != nil {
			return err
		}
		return volumes.ExtendSize(ctx, cinder, last, volumes.ExtendSizeOpts{NewSize: size}).ExtractErr()
	case is("volume snapshot delete"):
		return w.DeleteSnapshot(ctx, last)
	case is("volume backup delete"):
		return w.DeleteBackup(ctx, last)
	case is("volume delete"):
		return volumes.Delete(ctx, cinder, last, nil).ExtractErr()
	case is("server remove volume"):
		return w.DetachVolume(ctx, words[3], words[4])
	case is("server start"):
		return servers.Start(ctx, nova, last).ExtractErr()
	case is("server unlock"):
		return servers.Unlock(ctx, nova, last).ExtractErr()
	case is("server set --state active"):
		return servers.ResetState(ctx, nova, last, servers.StateActive).ExtractErr()
	}
	return fmt.Errorf("the openstack client has no command %q", line)
}

// What is told to mend a disagreement mends it, in the order in which it is told.
func TestTheCommandsThatAreToldMendWhatTheyAreToldFor(t *testing.T) {
	cured := []string{
		"server-gone", "ghost-in-nova", "attached-without-kubernetes", "attachment-stuck", "attachment-of-nobody", "volume-in-error",
		"growth-failed", "server-off", "server-in-error", "server-locked", "smaller-than-pv",
	}
	tried := map[string]bool{}
	for _, test := range disagreements() {
		if len(test.want) == 0 || test.name == "Nova has lost it while it is used" {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			w := start(t)
			test.make(w)
			for _, f := range w.look("space/data", test.later).Findings {
				if !slices.Contains(cured, f.Kind) && f.Kind != "ghost-in-cinder" {
					continue
				}
				tried[f.Kind] = true
				w.faults()
				made := ""
				for _, line := range f.Cure {
					if strings.HasPrefix(line, "#") {
						continue
					}
					if err := w.run(line, &made); err != nil {
						t.Fatalf("%s: %v", line, err)
					}
				}
				w.settled(f.Kind, test.later)
			}
		})
	}
	for _, kind := range cured {
		if !tried[kind] {
			t.Errorf("%s was never cured", kind)
		}
	}
}

// settled waits until a disagreement is over.
func (w *world) settled(kind string, later time.Duration) {
	w.Helper()
	end := time.Now().Add(time.Minute)
	for {
		v := w.look("space/data", later)
		if !slices.Contains(kinds(v), kind) && (v.Cinder == nil || !v.Cinder.Status.Transitional() || v.Cinder.Status == cloud.VolumeReserved) {
			return
		}
		if time.Now().After(end) {
			w.Fatalf("%s is still there: %q", kind, kinds(v))
		}
		time.Sleep(10 * time.Millisecond)
	}
}
