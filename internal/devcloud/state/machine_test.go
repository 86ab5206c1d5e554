package state

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/fault"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of the tests.
const patience = 10 * time.Second

// lab is a cloud that writes down every status that anything passes through.
type lab struct {
	*Cloud
	t    *testing.T
	call Call
	path string

	mu      sync.Mutex
	seen    map[string][]string
	changed chan struct{}
}

func newLab(t *testing.T, opts Options) *lab {
	t.Helper()
	return openLab(t, filepath.Join(t.TempDir(), "cloud.db"), opts)
}

func openLab(t *testing.T, path string, opts Options) *lab {
	t.Helper()
	c, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	user, _ := c.Accounts().User(DemoUser)
	l := &lab{
		Cloud: c, t: t, path: path, seen: map[string][]string{}, changed: make(chan struct{}),
		call: Call{RequestID: "req-test", UserID: user.ID, ProjectID: user.ProjectID},
	}
	c.volumes.OnChange(func(id string, _, v *Volume) {
		if v == nil {
			l.note(id, "gone")
			return
		}
		l.note(id, fmt.Sprintf("%s/%d", v.Status, len(v.Attached())))
	})
	c.snapshots.OnChange(func(id string, _, s *Snapshot) {
		if s == nil {
			l.note(id, "gone")
			return
		}
		l.note(id, s.Status)
	})
	c.backups.OnChange(func(id string, _, b *Backup) {
		if b == nil {
			l.note(id, "gone")
			return
		}
		l.note(id, b.Status)
	})
	c.Run()
	t.Cleanup(func() { _ = c.Close() })
	return l
}

// note writes down a status that differs from the last one.
func (l *lab) note(id, status string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if list := l.seen[id]; len(list) == 0 || list[len(list)-1] != status {
		l.seen[id] = append(list, status)
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// passes waits until a thing has come to the last of the statuses and checks
// that it passed through all of them, and no other, since the last check.
func (l *lab) passes(id string, want ...string) {
	l.t.Helper()
	timeout := time.After(patience)
	for {
		l.mu.Lock()
		got, changed := slices.Clone(l.seen[id]), l.changed
		l.mu.Unlock()
		if len(got) >= len(want) && got[len(got)-1] == want[len(want)-1] {
			if !slices.Equal(got, want) {
				l.t.Errorf("passed %v, want %v", got, want)
			}
			l.mu.Lock()
			l.seen[id] = nil
			l.mu.Unlock()
			return
		}
		select {
		case <-changed:
		case <-timeout:
			l.t.Fatalf("came to %v, want %v", got, want)
		}
	}
}

func (l *lab) volume(spec VolumeSpec) string {
	l.t.Helper()
	if spec.Size == 0 && spec.SnapshotID == "" && spec.SourceID == "" && spec.BackupID == "" {
		spec.Size = 1
	}
	v, err := l.CreateVolume(l.call, spec)
	if err != nil {
		l.t.Fatal(err)
	}
	l.passes(v.ID, "creating/0", "available/0")
	return v.ID
}

func (l *lab) server(name string) string {
	l.t.Helper()
	s, err := l.CreateServer(l.call, ServerSpec{Name: name, Zone: "nova", Active: true})
	if err != nil {
		l.t.Fatal(err)
	}
	return s.ID
}

// with is the caller whose request was hit by a fault.
func (l *lab) with(f fault.Fault) Call {
	l.Faults().Set([]fault.Fault{f})
	call := l.call
	call.Fault = l.Faults().Match("any", func() []string { return nil })
	return call
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// drained waits until no task is left.
func (l *lab) drained() {
	l.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		left := 0
		l.view(func() { left = l.tasks.Len() })
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("%d tasks are left", left)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAVolumePassesTheRecordedStatuses(t *testing.T) {
	l := newLab(t, Options{})
	server := l.server("node1")
	v := l.volume(VolumeSpec{})

	_, err := l.Attach(l.call, AttachSpec{ServerID: server, VolumeID: v})
	l.must(err)
	l.passes(v, "reserved/0", "attaching/0", "in-use/1")

	l.must(l.ExtendVolume(l.call, v, 2, true))
	l.passes(v, "extending/1", "in-use/1")

	b, err := l.CreateBackup(l.call, BackupSpec{VolumeID: v, Force: true})
	l.must(err)
	l.passes(b.ID, "creating", "available")
	l.passes(v, "backing-up/1", "in-use/1")

	l.must(l.Detach(l.call, server, v))
	l.passes(v, "detaching/1", "available/0")

	l.must(l.ExtendVolume(l.call, v, 3, false))
	l.passes(v, "extending/0", "available/0")

	s, err := l.CreateSnapshot(l.call, SnapshotSpec{VolumeID: v})
	l.must(err)
	l.passes(s.ID, "creating", "available")
	clone := l.volume(VolumeSpec{SnapshotID: s.ID})
	l.must(l.DeleteSnapshot(l.call, s.ID))
	l.passes(s.ID, "deleting", "gone")

	restored, err := l.RestoreBackup(l.call, b.ID, "", "")
	l.must(err)
	l.passes(restored.ID, "restoring-backup/0", "available/0")
	l.passes(b.ID, "restoring", "available")
	l.must(l.DeleteBackup(l.call, b.ID))
	l.passes(b.ID, "deleting", "gone")

	for _, id := range []string{v, clone, restored.ID} {
		l.must(l.DeleteVolume(l.call, id, false))
		l.passes(id, "deleting/0", "gone")
	}
	l.drained()
}

func TestAMultiattachVolumePassesTheRecordedStatuses(t *testing.T) {
	l := newLab(t, Options{})
	one, two := l.server("node1"), l.server("node2")
	v := l.volume(VolumeSpec{Type: "multiattach"})
	for i, server := range []string{one, two} {
		_, err := l.Attach(l.call, AttachSpec{ServerID: server, VolumeID: v, Multiattach: true})
		l.must(err)
		l.passes(v, fmt.Sprintf("reserved/%d", i), fmt.Sprintf("attaching/%d", i), fmt.Sprintf("in-use/%d", i+1))
	}
	l.must(l.ExtendVolume(l.call, v, 2, true))
	l.passes(v, "extending/2", "in-use/2")
	l.must(l.Detach(l.call, one, v))
	l.passes(v, "detaching/2", "in-use/1")
	l.must(l.Detach(l.call, two, v))
	l.passes(v, "detaching/1", "available/0")
	l.drained()
}

func TestAServersVolumesAreFreeWhenItIsDeleted(t *testing.T) {
	l := newLab(t, Options{})
	server := l.server("node1")
	v := l.volume(VolumeSpec{})
	_, err := l.Attach(l.call, AttachSpec{ServerID: server, VolumeID: v})
	l.must(err)
	l.passes(v, "reserved/0", "attaching/0", "in-use/1")
	l.must(l.DeleteServer(l.call, server))
	if _, err := l.Server(l.call, server); err == nil {
		t.Error("the server is still there")
	}
	l.passes(v, "available/0")
}

func TestAsynchronousFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		fault  fault.Fault
		act    func(l *lab, call Call, v, server string) error
		before bool // the volume is attached first
		want   []string
		listed bool // Nova lists the volume in the end
	}{
		"an attachment vanishes": {
			fault: fault.Fault{Async: fault.Vanish}, act: attachIt, want: []string{"reserved/0", "available/0"},
		},
		"an attachment becomes a ghost": {
			fault: fault.Fault{Async: fault.Ghost}, act: attachIt, want: []string{"reserved/0", "available/0"}, listed: true,
		},
		"an attachment leaves the volume in error": {
			fault: fault.Fault{EndIn: "error"}, act: attachIt, want: []string{"reserved/0", "error/0"},
		},
		"an attachment leaves the volume reserved": {
			fault: fault.Fault{EndIn: "reserved"}, act: attachIt, want: []string{"reserved/0"},
		},
		"a detachment is given up": {
			fault: fault.Fault{Async: fault.Vanish}, act: detachIt, before: true, want: []string{"detaching/1", "in-use/1"}, listed: true,
		},
		"an extension fails": {
			fault: fault.Fault{EndIn: "error_extending"}, before: true, listed: true, want: []string{"extending/1", "error_extending/1"},
			act: func(l *lab, call Call, v, _ string) error { return l.ExtendVolume(call, v, 2, true) },
		},
		"a deletion fails": {
			fault: fault.Fault{EndIn: "error_deleting"}, want: []string{"deleting/0", "error_deleting/0"},
			act: func(l *lab, call Call, v, _ string) error { return l.DeleteVolume(call, v, false) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, Options{})
			server := l.server("node1")
			v := l.volume(VolumeSpec{})
			if tc.before {
				l.must(attachIt(l, l.call, v, server))
				l.passes(v, "reserved/0", "attaching/0", "in-use/1")
			}
			l.must(tc.act(l, l.with(tc.fault), v, server))
			l.passes(v, tc.want...)
			l.drained()
			s, err := l.Server(l.call, server)
			l.must(err)
			if _, listed := s.Disk(v); listed != tc.listed {
				t.Errorf("Nova lists the volume: %v, want %v", listed, tc.listed)
			}
		})
	}
}

func attachIt(l *lab, call Call, v, server string) error {
	_, err := l.Attach(call, AttachSpec{ServerID: server, VolumeID: v})
	return err
}

func detachIt(l *lab, call Call, v, server string) error { return l.Detach(call, server, v) }

func TestAFailureIsToldInAMessageOrAnAction(t *testing.T) {
	l := newLab(t, Options{})
	server := l.server("node1")
	v, err := l.CreateVolume(l.call, VolumeSpec{Size: 1, Type: "nobackend"})
	l.must(err)
	l.passes(v.ID, "creating/0", "error/0")
	messages := l.Messages(l.call, func(m *Message) bool { return m.ResourceID == v.ID })
	if len(messages) != 1 || messages[0].EventID != "VOLUME_VOLUME_001_003" ||
		messages[0].Text != "schedule allocate volume:Could not find any available weighted backend." {
		t.Errorf("messages: %+v", messages)
	}
	ok := l.volume(VolumeSpec{})
	l.must(attachIt(l, l.with(fault.Fault{Async: fault.Vanish}), ok, server))
	l.drained()
	actions, err := l.Actions(l.call, server)
	l.must(err)
	if len(actions) != 1 || actions[0].Name != "attach_volume" || !actions[0].Failed {
		t.Errorf("actions: %+v", actions)
	}
	if m := l.Messages(l.call, func(m *Message) bool { return m.ResourceID == ok }); len(m) != 0 {
		t.Errorf("a vanished attachment leaves no message, got %+v", m)
	}
}

func TestASnapshotWithACloneComesBackWhereTheBackendHoldsIt(t *testing.T) {
	behaviour := DefaultBehaviour()
	behaviour.ClonesHoldSnapshots = true
	l := newLab(t, Options{Behaviour: &behaviour})
	v := l.volume(VolumeSpec{})
	s, err := l.CreateSnapshot(l.call, SnapshotSpec{VolumeID: v})
	l.must(err)
	l.passes(s.ID, "creating", "available")
	clone := l.volume(VolumeSpec{SnapshotID: s.ID})
	l.must(l.DeleteSnapshot(l.call, s.ID))
	l.passes(s.ID, "deleting", "available")
	messages := l.Messages(l.call, func(m *Message) bool { return m.ResourceID == s.ID })
	if len(messages) != 1 || messages[0].EventID != "VOLUME_VOLUME_SNAPSHOT_010_015" || messages[0].Text != "delete snapshot:Snapshot is busy." {
		t.Errorf("messages: %+v", messages)
	}
	l.must(l.DeleteVolume(l.call, clone, false))
	l.passes(clone, "deleting/0", "gone")
	l.must(l.DeleteSnapshot(l.call, s.ID))
	l.passes(s.ID, "deleting", "gone")
}

func TestAVolumeWithoutABackendYetIsGoneAtOnceAndLeavesAnOrphan(t *testing.T) {
	plane := &memory{files: map[string]bool{}}
	l := newLab(t, Options{Plane: plane, Latency: latency.Model{Steps: map[string]latency.Distribution{
		"volume.scheduling": {Min: 50 * time.Millisecond, Median: 50 * time.Millisecond},
	}}})
	v, err := l.CreateVolume(l.call, VolumeSpec{Size: 1})
	l.must(err)
	l.must(l.DeleteVolume(l.call, v.ID, false))
	l.passes(v.ID, "creating/0", "gone")
	l.drained()
	l.must(waitFor(func() bool { return plane.has(v.ID) }))

	behaviour := DefaultBehaviour()
	behaviour.RefuseDeleteWhileCreating = true
	l.must(l.SetBehaviour(behaviour))
	v, err = l.CreateVolume(l.call, VolumeSpec{Size: 1})
	l.must(err)
	if err := l.DeleteVolume(l.call, v.ID, false); err == nil {
		t.Error("a volume that is being created was deleted")
	}
}

func waitFor(done func() bool) error {
	for deadline := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("waited for %v", patience)
		}
	}
	return nil
}

// memory is a data plane that knows which volumes it has and which devices are open.
type memory struct {
	NoPlane
	mu    sync.Mutex
	files map[string]bool
	open  map[string]bool
	grown map[string]time.Time
}

func (m *memory) CreateVolume(id string, _ int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[id] = true
	return nil
}

func (m *memory) has(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.files[id]
}

func (m *memory) Detach(_, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[id] {
		return fmt.Errorf("volume %s: %w", id, ErrDeviceBusy)
	}
	return nil
}

func (m *memory) hold(id string, open bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open = map[string]bool{id: open}
}

func (m *memory) GrowAttached(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.grown = map[string]time.Time{id: time.Now()}
	return nil
}

func (m *memory) grewAt(id string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.grown[id]
}

func TestADeviceThatIsOpenIsNotTaken(t *testing.T) {
	t.Run("the detachment is given up after a while", func(t *testing.T) {
		plane := &memory{files: map[string]bool{}}
		l := newLab(t, Options{Plane: plane, Latency: latency.Model{Steps: map[string]latency.Distribution{
			latency.BusyDetach: {Min: time.Millisecond, Median: time.Millisecond},
		}}})
		server := l.server("node1")
		v := l.volume(VolumeSpec{})
		l.must(attachIt(l, l.call, v, server))
		l.passes(v, "reserved/0", "attaching/0", "in-use/1")
		plane.hold(v, true)
		l.must(l.Detach(l.call, server, v))
		l.passes(v, "detaching/1", "in-use/1")
		actions, err := l.Actions(l.call, server)
		l.must(err)
		if actions[0].Name != "detach_volume" || !actions[0].Failed {
			t.Errorf("newest action: %+v", actions[0])
		}
		plane.hold(v, false)
		l.must(l.Detach(l.call, server, v))
		l.passes(v, "detaching/1", "available/0")
	})
	t.Run("the detachment hangs until the device is let go of", func(t *testing.T) {
		plane := &memory{files: map[string]bool{}}
		behaviour := DefaultBehaviour()
		behaviour.HangBusyDetach = true
		l := newLab(t, Options{Plane: plane, Behaviour: &behaviour, Latency: latency.Model{Steps: map[string]latency.Distribution{
			latency.BusyDetach: {Min: time.Millisecond, Median: time.Millisecond},
		}}})
		server := l.server("node1")
		v := l.volume(VolumeSpec{})
		l.must(attachIt(l, l.call, v, server))
		l.passes(v, "reserved/0", "attaching/0", "in-use/1")
		plane.hold(v, true)
		l.must(l.Detach(l.call, server, v))
		time.Sleep(3 * retryEvery) // long enough to be tried again
		if got, _ := l.Volume(l.call, v); got.Status != "detaching" {
			t.Errorf("the volume is %s", got.Status)
		}
		plane.hold(v, false)
		l.passes(v, "detaching/1", "available/0")
	})
}

func TestTheGuestSeesGrowthAfterCinderSaysDone(t *testing.T) {
	plane := &memory{files: map[string]bool{}}
	const lag = 50 * time.Millisecond
	l := newLab(t, Options{Plane: plane, Latency: latency.Model{Steps: map[string]latency.Distribution{
		latency.GuestGrowth: {Min: lag, Median: lag},
	}}})
	server := l.server("node1")
	v := l.volume(VolumeSpec{})
	l.must(attachIt(l, l.call, v, server))
	l.passes(v, "reserved/0", "attaching/0", "in-use/1")
	l.must(l.ExtendVolume(l.call, v, 2, true))
	l.passes(v, "extending/1", "in-use/1")
	done := time.Now()
	if got, _ := l.Volume(l.call, v); got.Size != 2 {
		t.Errorf("size %d", got.Size)
	}
	l.must(waitFor(func() bool { return !plane.grewAt(v).IsZero() }))
	if grown := plane.grewAt(v); grown.Sub(done) < lag/2 {
		t.Errorf("the guest grew %v after Cinder said done", grown.Sub(done))
	}
}
