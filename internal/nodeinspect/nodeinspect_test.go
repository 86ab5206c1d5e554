package nodeinspect

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/node"
	"github.com/cinder-csi/cinder-csi/internal/registration"
)

func TestAHealthyNode(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	file, block := r.use(false), r.use(true)
	a := r.look()
	r.wantWrong(a)
	if a.Server.ServerID != serverID || a.Server.Source != "metadataService" || a.Server.Zone != "az1" || a.Server.Topology[zoneKey] != "az1" {
		t.Errorf("the server: %+v", a.Server)
	}
	if l := a.Limit; l.Announced != 18 || l.Configured != 20 || l.Reserved != 2 || l.Attached != 2 {
		t.Errorf("the limit: %+v", l)
	}
	for _, v := range []volume{file, block} {
		i := slices.IndexFunc(a.Disks, func(d Disk) bool { return d.VolumeID == v.id })
		if i < 0 {
			t.Fatalf("no disk of %s in %+v", v.id, a.Disks)
		}
		want := map[string]string{file.id: "ext4 filesystem", block.id: "blank"}[v.id]
		if d := a.Disks[i]; d.Size != small || d.Content != want || d.FoundBy != "backing_file" || !d.Counts || d.ReadOnly || len(d.Holders) > 0 {
			t.Errorf("the disk: %+v", d)
		}
	}
	places := map[string]string{}
	for _, p := range a.Places {
		places[p.Path] = fmt.Sprintf("%s staging=%t block=%t %s %s", p.VolumeID, p.Staging, p.Block, p.FSType, p.PodUID)
		if !p.Mounted || !p.Recorded || p.Condition != "" || p.Error != "" || p.Refused != "" || p.TotalBytes == 0 {
			t.Errorf("a place: %+v", p)
		}
		if p.Staging && p.Next != nothingToDo {
			t.Errorf("a stage would %s", p.Next)
		}
	}
	want := map[string]string{
		file.staging: file.id + " staging=true block=false ext4 ", file.target: file.id + " staging=false block=false ext4 " + podUID,
		block.target: block.id + " staging=false block=true  " + podUID,
	}
	if fmt.Sprint(places) != fmt.Sprint(want) {
		t.Errorf("places\n%v\nwant\n%v", places, want)
	}
}

func TestADiskThatIsGoneUnderItsMount(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.use(false)
	must(t, os.RemoveAll(filepath.Join(r.store.DeviceDir(r.name), "disk", "by-id")))
	a := r.look()
	r.wantWrong(a, v.staging+": volume "+v.id, v.target+": volume "+v.id, "none of the volume's 0 disks", "kubectl delete pod", podUID, "nodeName=worker-1")
}

func TestAFilesystemThatTheKernelHasGivenUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.use(false)
	run(t, "mount", "-o", "remount,ro", v.staging)
	a := r.look()
	r.wantWrong(a, v.staging+": volume "+v.id+": the filesystem can't be written to any more", "checks and repairs it", podUID)
	i := slices.IndexFunc(a.Places, func(p node.Place) bool { return p.Staging })
	if p := a.Places[i]; p.Condition != "given_up" || !strings.Contains(p.Refused, v.target) {
		t.Errorf("%+v", p)
	}
}

// TestADiskWithAnotherSerial: the link that udev made leads to another volume's disk.
func TestADiskWithAnotherSerial(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v, other := r.recorded(false), r.use(false)
	byID := filepath.Join(r.store.DeviceDir(r.name), "disk", "by-id")
	target, err := os.Readlink(filepath.Join(byID, "virtio-"+other.id[:20]))
	must(t, err)
	must(t, os.Symlink(target, filepath.Join(byID, "virtio-"+v.id[:20])))
	a := r.look()
	r.wantWrong(a, v.target+": volume "+v.id, "is backed by", "volume-"+other.id)
	if len(a.Disks) != 1 || a.Limit.Attached != 1 {
		t.Errorf("disks: %+v", a.Disks)
	}
}

func TestARecordWithoutAMount(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.use(false)
	run(t, "umount", v.target)
	r.wantWrong(r.look(), v.target+": volume "+v.id+": nothing is mounted at this target path", podUID)
	run(t, "umount", v.staging)
	must(t, os.RemoveAll(filepath.Dir(v.target)))
	a := r.look() // as after a reboot
	r.wantWrong(a)
	if len(a.Findings) != 1 || !strings.Contains(a.Findings[0].Text, "nothing is mounted") {
		t.Errorf("%+v", a.Findings)
	}
	must(t, os.RemoveAll(r.kubelet))
	a = r.look() // as of a volume that something else than Kubernetes has attached
	r.wantWrong(a)
	if len(a.Findings) != 1 || !strings.Contains(a.Findings[0].Text, "nothing on this node uses it") {
		t.Errorf("%+v", a.Findings)
	}
}

func TestAMountWithoutARecord(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.use(false)
	must(t, os.Remove(filepath.Join(filepath.Dir(v.staging), "vol_data.json")))
	r.wantWrong(r.look(), v.staging+": volume "+v.id+" is mounted, but the kubelet has no record", "umount "+v.staging)
	// A part of a volume that a container has is the kubelet's own.
	sub := filepath.Join(r.kubelet, "pods", podUID, "volume-subpaths", "pvc", "container", "0")
	must(t, os.MkdirAll(sub, 0o750))
	run(t, "mount", "--bind", filepath.Join(v.target, "lost+found"), sub)
	if n := len(r.look().Places); n != 2 {
		t.Errorf("%d places", n)
	}
}

// TestStorageThatHangs: no write to the disk ends.
func TestStorageThatHangs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.use(false)
	must(t, os.WriteFile(filepath.Join(v.target, "file"), make([]byte, 8<<20), 0o600))
	run(t, "fsfreeze", "-f", v.staging)
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(filepath.Join(v.target, "other"), []byte("x"), 0o600) }()
	a := r.look()
	run(t, "fsfreeze", "-u", v.staging)
	must(t, <-written)
	if len(a.Places) != 2 || len(a.Disks) != 1 {
		t.Errorf("%+v", a)
	}
}

func TestNothingAtAll(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dead := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(dead.Close)
	r.with(&blockdev.System{SysDir: t.TempDir(), ProcDir: t.TempDir(), DevDir: t.TempDir()}, dead.URL)
	r.opts.Plugin, r.opts.KubeletDir = "", filepath.Join(t.TempDir(), "none")
	r.opts.RegistrationSocket, r.opts.MetricsURL = filepath.Join(t.TempDir(), "none.sock"), dead.URL
	a := r.look()
	r.wantWrong(a, "NodeGetInfo fails", "disks: they can't be listed", "none.sock isn't answered")
	if a.Server.ServerID != "" || a.Registration.Registered != "unknown" || a.Registration.MetricsError == "" || a.Limit.Announced != 18 {
		t.Errorf("%+v", a)
	}
}

// machine is a made-up /dev, /sys and /proc.
func machine(t *testing.T, disks map[string]map[string]string) *blockdev.System {
	t.Helper()
	root := t.TempDir()
	write := func(name, text string) {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o750))
		must(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o600))
	}
	write("proc/self/mountinfo", "22 1 252:1 / / rw,relatime - ext4 /dev/vda1 rw\n")
	for _, dir := range []string{"dev", "sys/block"} {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o750))
	}
	for name, attributes := range disks {
		write("sys/block/"+name+"/size", "2097152")
		write("sys/block/"+name+"/diskseq", "7")
		if !strings.HasPrefix(name, "md") {
			write("sys/block/"+name+"/device/x", "")
		}
		must(t, os.MkdirAll(filepath.Join(root, "sys/block", name, "holders"), 0o750))
		for attribute, text := range attributes {
			if text == "hangs" {
				path := filepath.Join(root, "sys/block", name, attribute)
				must(t, unix.Mkfifo(path, 0o600))
				t.Cleanup(func() { // whoever reads goes on
					if fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
						_ = unix.Close(fd)
					}
				})
				continue
			}
			write("sys/block/"+name+"/"+attribute, text)
		}
	}
	return &blockdev.System{SysDir: filepath.Join(root, "sys"), ProcDir: filepath.Join(root, "proc"), DevDir: filepath.Join(root, "dev")}
}

func TestTwoDisksOfOneSerial(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := uuid.NewString()
	r.with(machine(t, map[string]map[string]string{
		"sda": {"dev": "8:0", "device/vpd_pg80": string([]byte{0, 0x80, 0, 36}) + id},
		"sdb": {"dev": "8:16", "device/vpd_pg80": string([]byte{0, 0x80, 0, 36}) + id},
	}), "http://127.0.0.1:1")
	a := r.look()
	r.wantWrong(a, "volume "+id+" has 2 disks", "sda, ", "sdb", "device/delete")
	if n := strings.Count(fmt.Sprint(a.Findings), "has 2 disks"); n != 1 {
		t.Errorf("it is told %d times", n)
	}
}

// TestADiskThatDoesNotAnswer when it is asked for its serial is told, and keeps nobody waiting.
func TestADiskThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.with(machine(t, map[string]map[string]string{"vdb": {"dev": "252:16", "serial": "hangs"}}), "http://127.0.0.1:1")
	a := r.look()
	r.wantWrong(a, "vdb: it doesn't tell its serial", "dmesg")
	if d := a.Disks[0]; !d.Unanswered || !d.Counts || d.Content != "" {
		t.Errorf("%+v", d)
	}
}

// TestADiskThatSomethingElseHolds is told with who does.
func TestADiskThatSomethingElseHolds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := uuid.NewString()
	m := machine(t, map[string]map[string]string{
		"sda": {"dev": "240:7", "device/vpd_pg80": string([]byte{0, 0x80, 0, 36}) + id, "holders/md0/x": ""}, // a number for experiments
		"md0": {"dev": "9:0", "md/array_state": "active"},
	})
	must(t, unix.Mknod(filepath.Join(m.DevDir, "sda"), unix.S_IFBLK|0o600, int(unix.Mkdev(240, 7))))
	r.with(m, "http://127.0.0.1:1")
	a := r.look()
	r.wantWrong(a, "sda is used by [md0, an MD array in state active]")
	if len(a.Disks) != 1 || !strings.Contains(fmt.Sprint(a.Disks[0].words()), "held by md0") {
		t.Errorf("%+v", a.Disks)
	}
}

func TestWhatTheKubeletKnows(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	cfg := registration.Config{Driver: driverName, Endpoint: "/csi.sock", Dir: t.TempDir(), Logger: zap.NewNop()}
	go func() { stopped <- registration.Serve(ctx, cfg) }()
	t.Cleanup(func() { cancel(); must(t, <-stopped) })
	registered := "1"
	metrics := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "# HELP x y\ncinder_csi_node_registered %s\ncinder_csi_node_refusals_total{reason=\"held\"} 0\ncinder_csi_node_refusals_total{reason=\"not_blank\"} 3\n", registered)
	}))
	t.Cleanup(metrics.Close)
	r.opts.RegistrationSocket, r.opts.MetricsURL = cfg.Path(), metrics.URL
	var a *Answer
	for range 100 { // until it serves
		if a = r.look(); a.Registration.Served {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	r.wantWrong(a)
	if got := a.Registration; !got.Served || got.Registered != "yes" || fmt.Sprint(got.Refusals) != "map[not_blank:3]" {
		t.Errorf("%+v", got)
	}
	registered = "0"
	r.wantWrong(r.look(), "the kubelet has not registered the driver", "kubectl logs")
}

// TestADiskThatIsKnownToHangIsNotReadToo: otherwise a node on which all hang isn't told in time.
func TestADiskThatIsKnownToHangIsNotReadToo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.use(false)
	found, _, failure := disks(t.Context(), r.parts, []node.Place{{VolumeID: v.id, Condition: "hangs", Error: "it didn't answer"}})
	if len(found) != 1 || !found[0].Hangs || found[0].ContentError != "it didn't answer" || found[0].Content != "" || failure != "" {
		t.Errorf("%+v, %s", found, failure)
	}
}
