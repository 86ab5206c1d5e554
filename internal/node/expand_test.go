package node_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk"
)

func TestAFilesystemGrowsWhileItIsUsed(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			t.Parallel()
			r, v := staged(t, filesystemOf(fsType))
			must(t, r.publish(v))
			must(t, os.WriteFile(v.target+"/file", []byte("precious"), 0o600))
			size, err := r.expand(v, small)
			must(t, err)
			if size != small {
				t.Errorf("capacity %d of a volume that hasn't grown, want %d", size, small)
			}
			r.grow(v, 2*small)
			if fsType == "ext4" && !typed(fsType).GrowsOnline() {
				_, err := r.expand(v, 2*small)
				wantCode(t, err, codes.FailedPrecondition, "staged next")
				r.checkUsage(v, small)
				must(t, r.unpublish(v))
				must(t, r.unstage(v))
				must(t, r.stage(v))
				must(t, r.publish(v))
			}
			for range 2 {
				size, err := r.expand(v, 2*small)
				must(t, err)
				if size != 2*small {
					t.Errorf("capacity %d, want %d", size, 2*small)
				}
			}
			r.checkUsage(v, 2*small)

			// By the staging path, while the workload may only read.
			must(t, r.unpublish(v))
			v.readonly = true
			must(t, r.publish(v))
			if fsType != "ext4" || typed(fsType).GrowsOnline() {
				r.grow(v, 3*small)
				_, err := r.expand(v, 3*small)
				must(t, err)
				r.checkUsage(v, 3*small)
			}
			if got, err := os.ReadFile(v.target + "/file"); err != nil || string(got) != "precious" {
				t.Errorf("read %q, %v", got, err)
			}
			must(t, r.unpublish(v))
			must(t, r.unstage(v))
		})
	}
}

// TestACopyInALargerVolumeFillsIt restores every filesystem into a larger
// volume, beside its origin on the same node; a btrfs when its origin has been
// unstaged, where the kernel can't mount both.
func TestACopyInALargerVolumeFillsIt(t *testing.T) {
	for _, fsType := range []string{"ext4", "ext3", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			t.Parallel()
			r, v := staged(t, filesystemOf(fsType))
			must(t, r.publish(v))
			must(t, os.WriteFile(v.target+"/file", []byte("precious"), 0o600))
			run(t, "sync", "-f", v.target)
			snapshot := uuid.NewString()
			must(t, r.store.Snapshot(snapshot, v.id))
			restored := r.named(uuid.NewString(), v.cap)
			must(t, r.store.Copy(restored.id, disk.FromSnapshot(snapshot), 2*small))
			r.plug(restored)
			if fsType == "btrfs" && !mountsClonedBtrfs(t) {
				must(t, r.unpublish(v))
				must(t, r.unstage(v))
			}
			for range 2 {
				must(t, r.stage(restored))
				must(t, r.publish(restored))
			}
			r.checkUsage(restored, 2*small)
			if got, err := os.ReadFile(restored.target + "/file"); err != nil || string(got) != "precious" {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

// mountsClonedBtrfs tells whether the kernel, from 6.7 on, mounts two btrfs with
// the same UUID.
func mountsClonedBtrfs(t *testing.T) bool {
	t.Helper()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	must(t, err)
	var major, minor int
	_, err = fmt.Sscanf(string(release), "%d.%d", &major, &minor)
	must(t, err)
	return major > 6 || major == 6 && minor >= 7
}

func TestExpandProvesWhatIsAtThePath(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("xfs"))
	other := r.attach(small, filesystemOf("xfs"))
	must(t, r.stage(other))
	must(t, r.publish(v))
	must(t, os.Mkdir(v.target+"/dir", 0o750))
	for name, path := range map[string]string{
		"a directory inside of the volume":  v.target + "/dir",
		"a directory of the node":           filepath.Dir(v.target),
		"another volume":                    other.staging,
		"nothing":                           filepath.Join(r.dir, "nothing"),
		"a relative path":                   "some/path",
		"a file":                            r.store.Path(disk.FromVolume(v.id)),
		"the disk itself of another volume": r.device(other),
	} {
		wrong := v
		wrong.target = path
		if _, err := r.expand(wrong, small); err == nil {
			t.Errorf("%s was expanded", name)
		} else {
			wantCode(t, err, codes.NotFound)
		}
		_, err := r.server().NodeGetVolumeStats(r.context(), &csi.NodeGetVolumeStatsRequest{VolumeId: v.id, VolumePath: path})
		wantCode(t, err, codes.NotFound)
	}
}

// TestAVolumeOfWhichTheServerSeesLessGrows: Nova keeps the header of a volume that
// it encrypts to itself.
func TestAVolumeOfWhichTheServerSeesLessGrows(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("xfs"))
	v.target = v.staging
	r.grow(v, 2*small-16*mib)
	if size, err := r.expand(v, 2*small); err != nil || size != 2*small-16*mib {
		t.Errorf("capacity %d, %v", size, err)
	}
	r.checkUsage(v, 2*small-16*mib)
}

func TestExpandSaysWhenTheDiskHasNotGrownYet(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("xfs"))
	_, err := r.expand(v, 2*small) // the path doesn't exist: never published
	wantCode(t, err, codes.NotFound)
	v.target = v.staging
	_, err = r.expand(v, 2*small)
	wantCode(t, err, codes.Unavailable, "doesn't see the growth yet")

	// It comes while the call waits.
	grown := make(chan error, 1)
	go func() {
		_, err := r.expand(v, 2*small)
		grown <- err
	}()
	r.grow(v, 2*small)
	must(t, <-grown)
}

func TestABlockVolumeGrowsWithItsDisk(t *testing.T) {
	t.Parallel()
	r, b := staged(t, rawBlock())
	must(t, r.publish(b))
	r.grow(b, 2*small)
	link := filepath.Join(r.dir, "link")
	must(t, os.Symlink(b.target, link))
	for _, path := range []string{b.target, link, b.staging} {
		for _, capability := range []*csi.VolumeCapability{b.cap, nil} {
			if path == b.staging && capability == nil {
				continue
			}
			must(t, os.MkdirAll(b.staging, 0o750))
			asked := b
			asked.target, asked.cap = path, capability
			size, err := r.expand(asked, 2*small)
			must(t, err)
			if size != 2*small {
				t.Errorf("capacity %d at %s, want %d", size, path, 2*small)
			}
		}
	}
	must(t, os.Remove(link))
}

func TestAVolumeThatIsOnlyReadDoesNotGrow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.attach(small, filesystemOf("xfs"))
	r.mkfs(v, "xfs")
	v = v.withMode(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)
	must(t, r.stage(v))
	must(t, r.publish(v))
	r.grow(v, 2*small)
	_, err := r.expand(v, 2*small)
	wantCode(t, err, codes.FailedPrecondition, "read-only")
	must(t, r.unpublish(v))
	must(t, r.unstage(v))
}

func TestAVolumeIsNotGrownBeyondTheLimit(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("ext4"))
	must(t, r.publish(v))
	r.grow(v, 2*small)
	for _, asked := range []*csi.CapacityRange{
		{LimitBytes: small},
		{RequiredBytes: 2 * small, LimitBytes: small},
	} {
		req := v.expandRequest(0)
		req.CapacityRange = asked
		_, err := r.server().NodeExpandVolume(r.context(), req)
		wantCode(t, err, codes.OutOfRange, "limit_bytes", v.id)
	}
	req := v.expandRequest(0)
	req.CapacityRange = &csi.CapacityRange{LimitBytes: -1}
	_, err := r.server().NodeExpandVolume(r.context(), req)
	wantCode(t, err, codes.InvalidArgument, "limit_bytes")
	r.checkUsage(v, small)
}
