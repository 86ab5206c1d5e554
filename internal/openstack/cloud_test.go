package openstack_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
)

const missing = "00000000-0000-4000-8000-00000000000f"

// lab is a whole cloud over HTTP with a client connected to it.
type lab struct {
	*openstack.Client
	t     *testing.T
	cloud *devcloud.Cloud
	admin *admin.Client
}

// newLab starts a cloud and connects to it as a cloud.conf says.
func newLab(t *testing.T, opts openstack.Options, behave func(*devcloud.Behaviour)) *lab {
	t.Helper()
	cfg := devcloud.Config{
		StateDir: t.TempDir(), Disks: devcloud.DisksNone,
		Servers: []devcloud.Server{{Name: "node1", Zone: "nova"}, {Name: "node2", Zone: "nova"}},
	}
	started, err := devcloud.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := started.Close(); err != nil {
			t.Error(err)
		}
	})
	l := &lab{t: t, cloud: started, admin: started.Admin()}
	if behave != nil {
		behaviour, err := l.admin.Behaviour(t.Context())
		l.must(err)
		behave(&behaviour)
		l.must(l.admin.SetBehaviour(t.Context(), behaviour))
	}
	l.Client, err = openstack.Connect(t.Context(), readConf(t, started.CloudConf()), opts)
	l.must(err)
	t.Cleanup(l.Close)
	l.forget()
	return l
}

func readConf(t *testing.T, text string) openstack.CloudConfig {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cloud.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := openstack.ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := cfg.Cloud("")
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) forget() {
	l.t.Helper()
	l.must(l.admin.ResetRequests(l.t.Context()))
}

// cost wants exactly these requests since the last forget, as in
// "volume.create 1", and forgets them.
func (l *lab) cost(want ...string) {
	l.t.Helper()
	requests, err := l.admin.Requests(l.t.Context())
	l.must(err)
	var got []string
	for operation, n := range requests.Operations {
		if n > 0 {
			got = append(got, fmt.Sprintf("%s %d", operation, n))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		l.t.Errorf("the requests are %q, not %q", got, want)
	}
	l.forget()
}

// until waits for a state of the cloud, which nothing announces.
func (l *lab) until(what string, done func() bool) {
	l.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			l.t.Fatalf("%s: it does not happen", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
	l.forget()
}

func (l *lab) volumeIs(id string, status cloud.VolumeStatus) {
	l.t.Helper()
	l.until(fmt.Sprintf("volume %s is %s", id, status), func() bool {
		v, err := l.GetVolume(l.t.Context(), id)
		if status == "" {
			return errors.Is(err, cloud.ErrNotFound)
		}
		return err == nil && v.Status == status
	})
}

func (l *lab) volume(name string) *cloud.Volume {
	l.t.Helper()
	v, err := l.CreateVolume(l.t.Context(), cloud.VolumeRequest{Name: name, SizeGiB: 1, Metadata: map[string]string{"cluster": "c1", "name": name}})
	l.must(err)
	l.volumeIs(v.ID, cloud.VolumeAvailable)
	return v
}

func TestLifeOfAVolumeInTheFewestRequests(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{}, nil), t.Context()
	made, err := l.CreateVolume(ctx, cloud.VolumeRequest{
		Name: "pvc-1", Description: "of a test", SizeGiB: 1, Zone: "nova",
		Metadata: map[string]string{"cinder.csi.openstack.org/cluster": `it's "quoted" \ & ünïcode`},
	})
	l.must(err)
	l.cost("volume.create 1")
	l.volumeIs(made.ID, cloud.VolumeAvailable)
	got, err := l.GetVolume(ctx, made.ID)
	l.must(err)
	l.cost("volume.get 1")
	if got.Name != "pvc-1" || got.SizeGiB != 1 || got.Zone != "nova" || got.Type == "" ||
		got.CreatedAt.IsZero() || time.Since(got.CreatedAt).Abs() > time.Minute || len(got.Attachments) != 0 {
		t.Errorf("read as %+v", got)
	}

	server := l.cloud.ServerID("node1")
	attachment, err := l.AttachVolume(ctx, server, made.ID)
	l.must(err)
	l.cost("attachment.create 1")
	if attachment.VolumeID != made.ID || attachment.Device == "" {
		t.Errorf("attached as %+v", attachment)
	}
	l.volumeIs(made.ID, cloud.VolumeInUse)
	attachments, err := l.ListAttachments(ctx, server)
	l.must(err)
	l.cost("attachment.list 1")
	if len(attachments) != 1 || attachments[0] != *attachment {
		t.Errorf("listed as %+v", attachments)
	}
	if got, err = l.GetVolume(ctx, made.ID); err != nil || !got.AttachedTo(server) || got.Attachments[0].ID == "" {
		t.Errorf("read as %+v, %v", got, err)
	}

	l.forget()
	l.must(l.ExtendVolume(ctx, made.ID, 2, true))
	l.cost("volume.extend 1")
	l.volumeIs(made.ID, cloud.VolumeInUse)
	l.must(l.DetachVolume(ctx, server, made.ID))
	l.cost("attachment.delete 1")
	l.volumeIs(made.ID, cloud.VolumeAvailable)
	l.must(l.ExtendVolume(ctx, made.ID, 3, false))
	l.cost("volume.extend 1")
	l.volumeIs(made.ID, cloud.VolumeAvailable)
	if got, err = l.GetVolume(ctx, made.ID); err != nil || got.SizeGiB != 3 {
		t.Errorf("read as %+v, %v", got, err)
	}
	l.forget()
	l.must(l.DeleteVolume(ctx, made.ID))
	l.cost("volume.delete 1")
	l.volumeIs(made.ID, "")
}

func TestVolumesAreListedByWhatWasAskedFor(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{}, nil), t.Context()
	for _, name := range []string{"pvc-1", "pvc-1", "pvc-2", "pvc-10", "it's \"q\""} {
		l.volume(name)
	}
	for name, want := range map[string]int{"pvc-1": 2, "pvc-2": 1, "pvc": 0, "": 5, "it's \"q\"": 1} {
		volumes, next, err := l.ListVolumes(ctx, cloud.VolumeFilter{Name: name}, cloud.Page{})
		l.must(err)
		l.cost("volume.list 1")
		if len(volumes) != want || next != "" {
			t.Errorf("%q: %d volumes, not %d; next %q", name, len(volumes), want, next)
		}
	}
}

func TestPagesHoldEverythingOnce(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{}, nil), t.Context()
	for i := range 7 {
		l.volume(fmt.Sprintf("pvc-%d", i))
	}
	l.forget()
	seen, page := map[string]bool{}, cloud.Page{Limit: 3}
	for {
		volumes, next, err := l.ListVolumes(ctx, cloud.VolumeFilter{}, page)
		l.must(err)
		for _, v := range volumes {
			if seen[v.ID] {
				t.Errorf("%s twice", v.Name)
			}
			seen[v.ID] = true
		}
		if page.Marker = next; next == "" {
			break
		}
	}
	l.cost("volume.list 3")
	if len(seen) != 7 {
		t.Errorf("%d volumes", len(seen))
	}
	_, _, err := l.ListVolumes(ctx, cloud.VolumeFilter{}, cloud.Page{Marker: missing})
	if !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("a marker that is gone: %v", err)
	}
}

func TestSnapshotsAndTheVolumesFromThem(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{}, nil), t.Context()
	v := l.volume("pvc-1")
	_, err := l.AttachVolume(ctx, l.cloud.ServerID("node1"), v.ID)
	l.must(err)
	l.volumeIs(v.ID, cloud.VolumeInUse)
	s, err := l.CreateSnapshot(ctx, cloud.SnapshotRequest{VolumeID: v.ID, Name: "snap-1", Description: "d", Metadata: map[string]string{"a": "b"}})
	l.must(err)
	l.cost("snapshot.create 1")
	l.until("the snapshot is available", func() bool {
		got, err := l.GetSnapshot(ctx, s.ID)
		return err == nil && got.Status == cloud.SnapshotAvailable && got.VolumeID == v.ID && got.SizeGiB == 1 && got.Metadata["a"] == "b" && !got.CreatedAt.IsZero()
	})
	for filter, want := range map[cloud.SnapshotFilter]int{
		{}: 1, {Name: "snap-1"}: 1, {Name: "snap"}: 0, {VolumeID: v.ID}: 1, {VolumeID: missing}: 0,
		{Name: "snap-1", VolumeID: v.ID}: 1, {Name: "snap-1", VolumeID: missing}: 0,
	} {
		snapshots, next, err := l.ListSnapshots(ctx, filter, cloud.Page{Limit: 10})
		l.must(err)
		l.cost("snapshot.list 1")
		if len(snapshots) != want || next != "" {
			t.Errorf("%+v: %d snapshots, next %q", filter, len(snapshots), next)
		}
	}
	restored, err := l.CreateVolume(ctx, cloud.VolumeRequest{Name: "pvc-2", SizeGiB: 1, SnapshotID: s.ID})
	l.must(err)
	l.cost("volume.create 1")
	if restored.SnapshotID != s.ID {
		t.Errorf("made as %+v", restored)
	}
	l.volumeIs(restored.ID, cloud.VolumeAvailable)
	clone, err := l.CreateVolume(ctx, cloud.VolumeRequest{Name: "pvc-3", SizeGiB: 1, SourceVolumeID: restored.ID, SameHost: []string{restored.ID}})
	l.must(err)
	l.volumeIs(clone.ID, cloud.VolumeAvailable)
	if got, err := l.GetVolume(ctx, clone.ID); err != nil || got.SourceVolumeID != restored.ID {
		t.Errorf("read as %+v, %v", got, err)
	}
	l.forget()
	l.must(l.DeleteSnapshot(ctx, s.ID))
	l.cost("snapshot.delete 1")
	l.until("the snapshot is gone", func() bool {
		_, err := l.GetSnapshot(ctx, s.ID)
		return errors.Is(err, cloud.ErrNotFound)
	})
}

func TestBackupsAndTheVolumesFromThem(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{}, nil), t.Context()
	v := l.volume("pvc-1")
	b, err := l.CreateBackup(ctx, cloud.BackupRequest{VolumeID: v.ID, Name: "backup-1", Metadata: map[string]string{"a": "b"}})
	l.must(err)
	l.cost("backup.create 1")
	if b.VolumeID != v.ID || b.Status != cloud.BackupCreating {
		t.Errorf("made as %+v", b)
	}
	l.until("the backup is available", func() bool {
		got, err := l.GetBackup(ctx, b.ID)
		return err == nil && got.Status == cloud.BackupAvailable && got.SizeGiB == 1 && got.Metadata["a"] == "b" && got.VolumeID == v.ID
	})
	for filter, want := range map[cloud.BackupFilter]int{
		{}: 1, {Name: "backup-1", VolumeID: v.ID}: 1, {Name: "backup"}: 0, {VolumeID: missing}: 0,
	} {
		backups, _, err := l.ListBackups(ctx, filter, cloud.Page{})
		l.must(err)
		l.cost("backup.list 1")
		if len(backups) != want {
			t.Errorf("%+v: %d backups", filter, len(backups))
		}
	}
	restored, err := l.CreateVolume(ctx, cloud.VolumeRequest{Name: "pvc-2", SizeGiB: 1, BackupID: b.ID})
	l.must(err)
	l.volumeIs(restored.ID, cloud.VolumeAvailable)
	if got, err := l.GetVolume(ctx, restored.ID); err != nil || got.BackupID != b.ID {
		t.Errorf("read as %+v, %v", got, err)
	}
	l.forget()
	l.must(l.DeleteBackup(ctx, b.ID))
	l.cost("backup.delete 1")
}

func TestServersAreRead(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{}, nil), t.Context()
	s, err := l.GetServer(ctx, l.cloud.ServerID("node1"))
	l.must(err)
	l.cost("server.get 1")
	if s.Status != "ACTIVE" || s.ID != l.cloud.ServerID("node1") {
		t.Errorf("read as %+v", s)
	}
	attachments, err := l.ListAttachments(ctx, s.ID)
	if err != nil || attachments == nil || len(attachments) != 0 {
		t.Errorf("%v, %v", attachments, err)
	}
}

func TestWhatIsMissingIsNotFound(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{}, nil), t.Context()
	server := l.cloud.ServerID("node1")
	v := l.volume("pvc-1")
	calls := map[string]func(id string) error{
		"get volume":       func(id string) error { _, err := l.GetVolume(ctx, id); return err },
		"extend volume":    func(id string) error { return l.ExtendVolume(ctx, id, 2, true) },
		"delete volume":    func(id string) error { return l.DeleteVolume(ctx, id) },
		"get snapshot":     func(id string) error { _, err := l.GetSnapshot(ctx, id); return err },
		"delete snapshot":  func(id string) error { return l.DeleteSnapshot(ctx, id) },
		"get backup":       func(id string) error { _, err := l.GetBackup(ctx, id); return err },
		"delete backup":    func(id string) error { return l.DeleteBackup(ctx, id) },
		"get server":       func(id string) error { _, err := l.GetServer(ctx, id); return err },
		"list attachments": func(id string) error { _, err := l.ListAttachments(ctx, id); return err },
		"attach to":        func(id string) error { _, err := l.AttachVolume(ctx, id, v.ID); return err },
		"attach":           func(id string) error { _, err := l.AttachVolume(ctx, server, id); return err },
		"detach from":      func(id string) error { return l.DetachVolume(ctx, id, v.ID) },
		"detach":           func(id string) error { return l.DetachVolume(ctx, server, id) },
	}
	for name, try := range calls {
		for _, id := range []string{missing, "", "abc", "../" + missing, missing[:35] + "/", "{" + missing[1:35] + "}", strings.ReplaceAll(missing, "-", "")} {
			l.forget()
			err := try(id)
			if !errors.Is(err, cloud.ErrNotFound) || cloud.Uncertain(err) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s %q: %v", name, id, err)
			}
			requests, err := l.admin.Requests(ctx)
			l.must(err)
			if want := map[bool]int64{true: 1}[id == missing]; requests.Total != want {
				t.Errorf("%s %q: %d requests", name, id, requests.Total)
			}
		}
	}
	if err := l.DetachVolume(ctx, server, v.ID); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("a volume that is not attached: %v", err)
	}
}

func TestRefusalsHaveTheirKind(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{}, func(b *devcloud.Behaviour) { b.MaxDisks = 2 }), t.Context()
	server := l.cloud.ServerID("node1")
	a, b := l.volume("pvc-1"), l.volume("pvc-2")
	_, err := l.AttachVolume(ctx, server, a.ID)
	l.must(err)
	l.volumeIs(a.ID, cloud.VolumeInUse)
	check := func(what string, err, kind error) {
		t.Helper()
		var e *cloud.Error
		if !errors.Is(err, kind) || cloud.Uncertain(err) || !errors.As(err, &e) || e.Message == "" || e.RequestID == "" || strings.Contains(e.Message, "{\"") {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = l.AttachVolume(ctx, server, b.ID)
	check("one disk too many", err, cloud.ErrAttachLimit)
	_, err = l.AttachVolume(ctx, l.cloud.ServerID("node2"), a.ID)
	check("a volume that is attached elsewhere", err, cloud.ErrInvalid)
	check("deleting what is attached", l.DeleteVolume(ctx, a.ID), cloud.ErrInvalid)
	check("growing to the same size", l.ExtendVolume(ctx, b.ID, 1, false), cloud.ErrInvalid)
	l.must(l.admin.SetQuotas(ctx, map[string]int64{"gigabytes": 10}))
	check("growing past the quota", l.ExtendVolume(ctx, b.ID, 1<<20, false), cloud.ErrQuota)
	_, err = l.CreateVolume(ctx, cloud.VolumeRequest{Name: "x", SizeGiB: 1, Type: "nope"})
	check("an unknown type", err, cloud.ErrNotFound)
	_, err = l.CreateVolume(ctx, cloud.VolumeRequest{Name: "x", SizeGiB: 1, Zone: "mars"})
	check("an unknown zone", err, cloud.ErrInvalid)
	_, err = l.CreateVolume(ctx, cloud.VolumeRequest{Name: "x", SizeGiB: 1 << 20})
	check("a volume past the quota", err, cloud.ErrQuota)
}

func TestTheCauseOfAFailureIsRead(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{}, nil), t.Context()
	l.must(l.admin.SetFaults(ctx, admin.Fault{Operation: "volume.create", EndIn: "error", Times: 1}))
	v, err := l.CreateVolume(ctx, cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1})
	l.must(err)
	l.volumeIs(v.ID, cloud.VolumeError)
	text, err := l.VolumeFault(ctx, v.ID)
	l.must(err)
	l.cost("message.list 1")
	if text.Text == "" || !text.Creation {
		t.Errorf("the cause is %+v", text)
	}
	for _, id := range []string{l.volume("pvc-2").ID, missing} {
		for _, fault := range []func() (cloud.Fault, error){
			func() (cloud.Fault, error) { return l.VolumeFault(ctx, id) },
			func() (cloud.Fault, error) { return l.SnapshotFault(ctx, id) },
		} {
			if text, err := fault(); err != nil || text != (cloud.Fault{}) {
				t.Errorf("%q, %v", text, err)
			}
		}
	}
}

func TestPlainWorkOnACloudWithoutMicroversions(t *testing.T) {
	old := func(b *devcloud.Behaviour) { b.VolumeVersion, b.ComputeVersion = "3.0", "2.1" }
	l, ctx := newLab(t, openstack.Options{}, old), t.Context()
	v := l.volume("pvc-1")
	volumes, _, err := l.ListVolumes(ctx, cloud.VolumeFilter{Name: "pvc-1"}, cloud.Page{})
	if err != nil || len(volumes) != 1 {
		t.Fatalf("%d volumes, %v", len(volumes), err)
	}
	server := l.cloud.ServerID("node1")
	_, err = l.AttachVolume(ctx, server, v.ID)
	l.must(err)
	l.volumeIs(v.ID, cloud.VolumeInUse)
	s, err := l.CreateSnapshot(ctx, cloud.SnapshotRequest{VolumeID: v.ID, Name: "snap-1"})
	l.must(err)
	l.until("the snapshot is available", func() bool {
		got, err := l.GetSnapshot(ctx, s.ID)
		return err == nil && got.Status == cloud.SnapshotAvailable
	})
	for what, err := range map[string]error{
		"3.42": l.ExtendVolume(ctx, v.ID, 2, true),
		"3.47": second(l.CreateVolume(ctx, cloud.VolumeRequest{Name: "x", SizeGiB: 1, BackupID: missing})),
		// Without it a backup could not be told from those of others.
		"3.43": second(l.CreateBackup(ctx, cloud.BackupRequest{VolumeID: v.ID, Metadata: map[string]string{"a": "b"}})),
		"3.51": second(l.CreateBackup(ctx, cloud.BackupRequest{VolumeID: v.ID, Zone: "nova"})),
	} {
		if !errors.Is(err, cloud.ErrUnsupported) || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "3.0 to 3.0") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if text, err := l.VolumeFault(ctx, v.ID); text != (cloud.Fault{}) || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	l.cost()
	l.must(l.DetachVolume(ctx, server, v.ID))
	l.volumeIs(v.ID, cloud.VolumeAvailable)
}

func TestIgnoredMicroversionsAreStillUsedWhereNeeded(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{IgnoreVolumeMicroversion: true}, nil), t.Context()
	v := l.volume("pvc-1")
	_, err := l.AttachVolume(ctx, l.cloud.ServerID("node1"), v.ID)
	l.must(err)
	l.volumeIs(v.ID, cloud.VolumeInUse)
	l.must(l.ExtendVolume(ctx, v.ID, 2, true))
	l.volumeIs(v.ID, cloud.VolumeInUse)
	if _, err := l.CreateSnapshot(ctx, cloud.SnapshotRequest{VolumeID: v.ID, Name: "s"}); err != nil {
		t.Error(err)
	}
}

func TestNewestNovaIsUnderstood(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{}, func(b *devcloud.Behaviour) { b.ComputeVersion = "2.101" }), t.Context()
	v := l.volume("pvc-1")
	if _, err := l.AttachVolume(ctx, l.cloud.ServerID("node1"), v.ID); err != nil {
		t.Error(err)
	}
}

func TestTokensThatEndInTheMiddle(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{}, nil), t.Context()
	v := l.volume("pvc-1")
	for range 3 {
		l.must(l.admin.ExpireTokens(ctx))
		l.forget()
		errs := make(chan error)
		for range 20 {
			go func() {
				_, err := l.GetVolume(ctx, v.ID)
				errs <- err
			}()
		}
		for range 20 {
			l.must(<-errs)
		}
		requests, err := l.admin.Requests(ctx)
		l.must(err)
		if n := requests.Count("token.create"); n != 1 {
			t.Errorf("%d new tokens for 20 callers", n)
		}
	}
	l.must(l.admin.ExpireTokens(ctx))
	l.forget()
	l.must(l.DeleteVolume(ctx, v.ID))
	l.cost("volume.delete 2", "token.create 1")
}

func TestLostAnswersAreUncertain(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{}, nil), t.Context()
	server := l.cloud.ServerID("node1")
	faults := map[string]admin.Fault{
		"the connection breaks before acting": {DropBefore: true}, "the answer is lost": {Drop: true},
		"the answer is cut": {Truncate: true}, "500 before acting": {Before: 500}, "504 after acting": {After: 504},
	}
	for name, fault := range faults {
		for operation, try := range map[string]func(v *cloud.Volume) error{
			"volume.create": func(*cloud.Volume) error {
				return second(l.CreateVolume(ctx, cloud.VolumeRequest{Name: "x", SizeGiB: 1}))
			},
			"snapshot.create": func(v *cloud.Volume) error {
				return second(l.CreateSnapshot(ctx, cloud.SnapshotRequest{VolumeID: v.ID, Name: "x"}))
			},
			"attachment.create": func(v *cloud.Volume) error { return second(l.AttachVolume(ctx, server, v.ID)) },
		} {
			v := l.volume("pvc-1")
			fault.Operation = operation
			l.must(l.admin.SetFaults(ctx, fault))
			l.forget()
			err := try(v)
			if !errors.Is(err, cloud.ErrUnavailable) || !cloud.Uncertain(err) {
				t.Errorf("%s, %s: %v", operation, name, err)
			}
			l.cost(operation + " 1")
			l.must(l.admin.ClearFaults(ctx))
			l.must(l.admin.Wipe(ctx))
		}
		v := l.volume("pvc-1")
		fault.Operation, fault.Times = "volume.get", 2
		l.must(l.admin.SetFaults(ctx, fault))
		if _, err := l.GetVolume(ctx, v.ID); err != nil {
			t.Errorf("volume.get, %s twice: %v", name, err)
		}
		l.must(l.admin.ClearFaults(ctx))
		l.must(l.admin.Wipe(ctx))
	}
}

func TestThrottledWritesAreSentAgain(t *testing.T) {
	l, ctx := newLab(t, openstack.Options{}, nil), t.Context()
	for _, status := range []int{413, 429} {
		l.must(l.admin.SetFaults(ctx, admin.Fault{Operation: "volume.create", Before: status, RetryAfter: time.Second, Times: 1}))
		l.forget()
		start := time.Now()
		if _, err := l.CreateVolume(ctx, cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1}); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took < time.Second {
			t.Errorf("after %s already", took)
		}
		l.cost("volume.create 2")
	}
}

func TestApplicationCredential(t *testing.T) {
	l := newLab(t, openstack.Options{}, nil)
	client, err := openstack.Connect(t.Context(), readConf(t, l.cloud.CredentialConf()), openstack.Options{})
	l.must(err)
	defer client.Close()
	l.cost("token.create 1", "application_credential.get 1", "version.get 2")
	if _, _, err := client.ListVolumes(t.Context(), cloud.VolumeFilter{}, cloud.Page{}); err != nil {
		t.Error(err)
	}
}

func TestMetricsKeepTheirNames(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	l, ctx := newLab(t, openstack.Options{Registerer: registry}, nil), t.Context()
	other, err := openstack.Connect(ctx, readConf(t, l.cloud.CloudConf()), openstack.Options{Registerer: registry, Cloud: "other"})
	l.must(err)
	defer other.Close()
	v := l.volume("pvc-1")
	if _, err := other.GetVolume(ctx, missing); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	l.must(l.DeleteVolume(ctx, v.ID))
	l.fault(admin.Fault{Operation: "volume.get", Before: 400, Times: 1})
	if _, err := other.GetVolume(ctx, missing); !errors.Is(err, cloud.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	// That a thing is not there is an answer, and no error.
	l.families(registry, `
# HELP openstack_api_request_errors_total Total number of errors for an OpenStack API call
# TYPE openstack_api_request_errors_total counter
openstack_api_request_errors_total{request="volume_get"} 1
`, "openstack_api_request_errors_total")
	families, err := registry.Gather()
	l.must(err)
	seen := map[string]bool{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			seen[family.GetName()+" "+m.GetLabel()[0].GetName()+"="+m.GetLabel()[0].GetValue()] = true
		}
	}
	for _, name := range []string{"openstack_api_request_duration_seconds", "openstack_api_requests_total"} {
		for _, request := range []string{"volume_create", "volume_get", "volume_delete"} {
			if !seen[name+" request="+request] {
				t.Errorf("%s has no %s", name, request)
			}
		}
	}
}

// second drops what a call returns beside its error.
func second[T any](_ T, err error) error { return err }
