package state

import (
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/fault"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
)

// slow never gets anywhere while a test runs.
func slow() latency.Model {
	return latency.Model{DefaultStep: latency.Distribution{Min: time.Hour, Median: time.Hour}}
}

func TestWhatWasUnderWayIsFinishedAfterARestart(t *testing.T) {
	l := newLab(t, Options{})
	server := l.server("node1")
	attached, spare, doomed := l.volume(VolumeSpec{}), l.volume(VolumeSpec{}), l.volume(VolumeSpec{})
	l.must(attachIt(l, l.call, attached, server))
	l.passes(attached, "reserved/0", "attaching/0", "in-use/1")
	source := l.volume(VolumeSpec{})
	snapshot, err := l.CreateSnapshot(l.call, SnapshotSpec{VolumeID: source})
	l.must(err)
	l.passes(snapshot.ID, "creating", "available")
	l.drained()

	l.SetLatency(slow())
	created, err := l.CreateVolume(l.call, VolumeSpec{Size: 1})
	l.must(err)
	l.must(attachIt(l, l.call, spare, server))
	l.must(l.Detach(l.call, server, attached))
	l.must(l.DeleteVolume(l.call, doomed, false))
	l.must(l.ExtendVolume(l.call, source, 5, false))
	l.must(l.DeleteSnapshot(l.call, snapshot.ID))
	l.must(l.Close())

	again := openLab(t, l.path, Options{})
	again.passes(created.ID, "creating/0", "available/0")
	again.passes(spare, "attaching/0", "in-use/1")
	again.passes(attached, "available/0")
	again.passes(doomed, "gone")
	again.passes(source, "available/0")
	again.passes(snapshot.ID, "gone")
	again.drained()
	if v, err := again.Volume(again.call, source); err != nil || v.Size != 5 {
		t.Errorf("extended volume: %+v %v", v, err)
	}
	if s, err := again.Server(again.call, server); err != nil || len(s.Disks) != 1 || s.Disks[0].VolumeID != spare {
		t.Errorf("server: %+v %v", s, err)
	}
}

func TestWhatWasStuckIsStuckAfterARestartUntilTheFaultIsCleared(t *testing.T) {
	l := newLab(t, Options{})
	server := l.server("node1")
	v := l.volume(VolumeSpec{})
	l.must(attachIt(l, l.with(fault.Fault{ID: "jam", Stuck: true}), v, server))
	l.must(l.Close())

	again := openLab(t, l.path, Options{})
	if list := again.Faults().List(); len(list) != 1 || list[0].ID != "jam" {
		t.Fatalf("fault plan: %+v", list)
	}
	if got, _ := again.Volume(again.call, v); got.Status != "reserved" {
		t.Errorf("the volume is %s", got.Status)
	}
	again.Faults().Set(nil)
	again.passes(v, "attaching/0", "in-use/1")
}

func TestIdentitiesQuotasAndBehaviourSurviveARestart(t *testing.T) {
	l := newLab(t, Options{})
	accounts, server := l.Accounts(), l.server("node1")
	behaviour := DefaultBehaviour()
	behaviour.MaxDisks = 7
	l.must(l.SetBehaviour(behaviour))
	l.must(l.SetQuotas(l.call.ProjectID, Quotas{"volumes": 3}))
	v := l.volume(VolumeSpec{Size: 4})
	l.must(l.Close())

	again := openLab(t, l.path, Options{})
	if again.Accounts().Users[0].Password != accounts.Users[0].Password {
		t.Error("the accounts changed")
	}
	if s, ok := again.ServerByKey("node1"); !ok || s.ID != server {
		t.Errorf("server: %+v", s)
	}
	if again.Behaviour().MaxDisks != 7 {
		t.Errorf("behaviour: %+v", again.Behaviour())
	}
	for _, line := range again.QuotaReport(again.call.ProjectID) {
		want := map[string]QuotaLine{"volumes": {"volumes", 3, 1}, "gigabytes": {"gigabytes", 10000000, 4}}[line.Name]
		if want.Name != "" && line != want {
			t.Errorf("quota %+v, want %+v", line, want)
		}
	}
	if got, err := again.Volume(again.call, v); err != nil || got.Status != "available" {
		t.Errorf("volume: %+v %v", got, err)
	}
}

func TestClearBreaksOffWhatIsUnderWay(t *testing.T) {
	l := newLab(t, Options{})
	server := l.server("node1")
	v := l.volume(VolumeSpec{})
	l.must(attachIt(l, l.with(fault.Fault{Stuck: true}), v, server))
	l.must(l.Clear())
	d, err := l.Dump()
	l.must(err)
	if len(d.Volumes)+len(d.Tasks)+len(l.Faults().List()) != 0 || len(d.Servers) != 1 || len(d.Servers[0].Disks) != 0 {
		t.Errorf("left: %+v", d)
	}
	l.volume(VolumeSpec{}) // and it works on
}
