package node_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev/looptest"
)

// TestAFilesystemThatTheKernelHasGivenUp isn't published for writing, whatever made
// the kernel do so; the workloads that have it can end; and the next stage repairs
// it, if only no workload has it.
func TestAFilesystemThatTheKernelHasGivenUp(t *testing.T) {
	for _, tt := range []struct {
		name, fsType string
		flags        []string
		giveUp       func(r *rig, v volume)
	}{
		{"ext4 with an aborted journal", "ext4", nil, func(r *rig, v volume) { run(r.t, "mount", "-o", "remount,abort", v.staging) }},
		{"ext3 with an aborted journal", "ext3", nil, func(r *rig, v volume) { run(r.t, "mount", "-o", "remount,abort", v.staging) }},
		{"ext4 after an error", "ext4", []string{"errors=remount-ro"}, func(r *rig, v volume) {
			must(r.t, os.WriteFile("/sys/fs/ext4/"+r.kernelName(v)+"/trigger_fs_error", []byte("1"), 0))
		}},
		{"ext4 made read-only by hand", "ext4", nil, func(r *rig, v volume) { run(r.t, "mount", "-o", "remount,ro", v.staging) }},
		{"xfs shut down", "xfs", nil, func(r *rig, v volume) { run(r.t, "xfs_io", "-x", "-c", "shutdown -f", v.staging) }},
		{"btrfs made read-only by hand", "btrfs", nil, func(r *rig, v volume) { run(r.t, "mount", "-o", "remount,ro", v.staging) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, v := staged(t, filesystemOf(tt.fsType, tt.flags...))
			must(t, r.publish(v))
			must(t, os.WriteFile(filepath.Join(v.target, "file"), []byte("precious"), 0o600))
			run(t, "sync", "-f", v.target)
			tt.giveUp(r, v)

			second := v.at("second")
			wantCode(t, r.publish(second), codes.Unavailable, "given the filesystem up", "repaired")
			r.wantGone(second.target)
			// Not final for the kubelet, or it would detach what is mounted.
			wantCode(t, r.publish(v), codes.Unavailable, "given the filesystem up")
			wantCode(t, r.stage(v), codes.Unavailable, "given the filesystem up", v.target)
			if n := len(r.mounts()); n != 2 {
				t.Errorf("%d mounts, want those of the workload", n)
			}
			must(t, r.unpublish(v))
			wantCode(t, r.publish(v), codes.Unavailable, "given the filesystem up")

			must(t, r.stage(v)) // by whoever comes before NodeUnstageVolume
			must(t, r.publish(v))
			if got, err := os.ReadFile(filepath.Join(v.target, "file")); err != nil || string(got) != "precious" {
				t.Errorf("read %q, %v", got, err)
			}
			r.checkAccess(v, true, false)
			must(t, r.unpublish(v))

			tt.giveUp(r, v)
			must(t, r.unstage(v))
			must(t, r.stage(v))
			must(t, r.publish(v))
			r.checkAccess(v, true, false)
			must(t, r.unpublish(v))
			must(t, r.unstage(v))
		})
	}
}

// kernelName returns what the kernel calls the disk of a volume.
func (r *rig) kernelName(v volume) string {
	r.t.Helper()
	var st unix.Stat_t
	must(r.t, unix.Stat(r.device(v), &st))
	return "loop" + strconv.Itoa(int(unix.Minor(st.Rdev)))
}

// TestAPodOnStorageThatHangsCanBeRemoved: the file behind the disk is on a
// filesystem that is frozen, so that no write to the disk ends.
func TestAPodOnStorageThatHangsCanBeRemoved(t *testing.T) {
	t.Parallel()
	for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			t.Parallel()
			base, err := filepath.EvalSymlinks(t.TempDir())
			must(t, err)
			backing := looptest.New(t, looptest.Options{Size: 2 * small})
			run(t, "mkfs.ext4", "-q", backing.Path)
			run(t, "mount", backing.Path, base)
			t.Cleanup(func() { run(t, "umount", base) })
			r := newRigAt(t, base)
			v := r.attach(small, filesystemOf(fsType))
			must(t, r.stage(v))
			must(t, r.publish(v))
			must(t, r.publish(v.at("other")))
			must(t, os.WriteFile(filepath.Join(v.target, "file"), make([]byte, 8*mib), 0o600))
			// The directories of the kubelet must not hang with the storage.
			elsewhere, err := filepath.EvalSymlinks(t.TempDir())
			must(t, err)
			hung := v
			hung.target = filepath.Join(elsewhere, "mount")
			must(t, r.publish(hung))
			run(t, "fsfreeze", "-f", base)
			thawed := false
			thaw := func() {
				if !thawed {
					thawed = true
					run(t, "fsfreeze", "-u", base)
				}
			}
			t.Cleanup(thaw)
			began := time.Now()
			must(t, r.unpublish(hung))
			if took := time.Since(began); took > time.Second {
				t.Errorf("a bind mount beside storage that hangs was taken away in %v", took)
			}
			s := r.server()
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				_, err := s.NodeUnstageVolume(ctx, v.unstageRequest())
				cancel()
				if err == nil {
					t.Fatal("unstaged, though a target is mounted")
				}
			}
			thaw()
			must(t, r.unpublish(v))
			must(t, r.unpublish(v.at("other")))
			must(t, r.unstage(v))
		})
	}
}

// TestWhatBelongsToAnotherVolumeIsNotTakenAway: each by the id of the other one.
func TestWhatBelongsToAnotherVolumeIsNotTakenAway(t *testing.T) {
	for name, capability := range map[string]*csi.VolumeCapability{"filesystem": filesystemOf("ext4"), "device": rawBlock()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, v := staged(t, capability)
			must(t, r.publish(v))
			other := r.attach(small, capability)
			must(t, r.stage(other))
			other.target = v.target
			before := r.state(v)
			wantCode(t, r.unpublish(other), codes.FailedPrecondition, v.target, "not the volume's disk")
			if name == "filesystem" {
				own := other.staging
				other.staging = v.staging
				wantCode(t, r.unstage(other), codes.FailedPrecondition, v.staging, "not the volume's disk")
				must(t, r.unpublish(v))
				wantCode(t, r.unstage(other), codes.FailedPrecondition, v.staging, "not the volume's disk")
				must(t, r.publish(v))
				other.staging = own
			}
			if name == "device" && r.state(v) != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, r.state(v))
			}
			if r.mountedAt(v.target) != 1 {
				t.Error("the target was unmounted")
			}
			must(t, r.unpublish(v))
			must(t, r.unstage(v))
			must(t, r.unstage(other))
		})
	}
}

// TestAKubeletDirectoryThatIsBoundFromElsewhere is seen twice, and so is every mount
// below it.
func TestAKubeletDirectoryThatIsBoundFromElsewhere(t *testing.T) {
	for _, propagation := range []string{"shared", "slave"} {
		t.Run(propagation, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			data := r.dir + "/data"
			kubelet := r.dir + "/kubelet"
			must(t, os.MkdirAll(data+"/some/path", 0o750))
			must(t, os.MkdirAll(kubelet, 0o750))
			run(t, "mount", "--bind", data, data)
			run(t, "mount", "--make-shared", data)
			run(t, "mount", "--bind", data+"/some/path", kubelet)
			v := r.attach(small, filesystemOf("ext4"))
			v.staging, v.target = kubelet+"/globalmount", kubelet+"/pod/mount"
			if propagation == "slave" {
				run(t, "mount", "--make-slave", kubelet) // which sees the mounts of data
				v.staging, v.target = data+"/some/path/globalmount", data+"/some/path/pod/mount"
			}
			for range 2 {
				must(t, r.stage(v))
				must(t, r.publish(v.as(onePod)))
			}
			if n := len(r.mounts()); n != 2+4 {
				t.Fatalf("%d mounts, want each of the volume twice:\n%s", n, r.state(v))
			}
			wantCode(t, r.unstage(v), codes.FailedPrecondition, v.target)
			must(t, r.unpublish(v))
			must(t, r.unstage(v))
			if n := len(r.mounts()); n != 2 {
				t.Errorf("left mounted:\n%s", r.state(v))
			}
			must(t, r.store.Detach(r.name, v.id))
		})
	}
}

// TestATargetWithFilesIsNotMountedOver: they would be hidden, and the target could
// never be removed.
func TestATargetWithFilesIsNotMountedOver(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("ext4"))
	must(t, os.MkdirAll(v.target, 0o750))
	stray := filepath.Join(v.target, "stray")
	must(t, os.WriteFile(stray, []byte("somebody's"), 0o600))
	for range 2 {
		wantCode(t, r.publish(v), codes.FailedPrecondition, v.target, "remove them")
		wantCode(t, r.unpublish(v), codes.FailedPrecondition, v.target, "remove them")
	}
	if got, err := os.ReadFile(stray); err != nil || string(got) != "somebody's" {
		t.Errorf("read %q, %v", got, err)
	}
	must(t, os.Remove(stray))
	must(t, r.publish(v))
	must(t, r.unpublish(v))
	must(t, r.unstage(v))
}
