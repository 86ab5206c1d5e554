package node_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
)

// staged returns a rig with a volume that is staged.
func staged(t *testing.T, capability *csi.VolumeCapability) (*rig, volume) {
	t.Helper()
	r := newRig(t)
	v := r.attach(small, capability)
	must(t, r.stage(v))
	return r, v
}

func TestPublishNeedsAStagingPathThatIsAMountOfTheVolume(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.attach(small, filesystemOf("ext4"))
	wantCode(t, r.publish(v), codes.FailedPrecondition, v.staging)
	must(t, os.MkdirAll(v.staging, 0o750))
	wantCode(t, r.publish(v), codes.FailedPrecondition, "nothing is mounted", v.staging)
	r.wantGone(v.target)
	if m := r.mounts(); len(m) != 0 {
		t.Errorf("mounted: %+v", m)
	}

	// A directory within the staged filesystem is on the right device, but no
	// mount of it.
	must(t, r.stage(v))
	inside := v
	inside.staging = filepath.Join(v.staging, "lost+found")
	wantCode(t, r.publish(inside), codes.FailedPrecondition, "nothing is mounted")

	// Another kind of use than it was staged for.
	block := v
	block.cap = rawBlock()
	wantCode(t, r.publish(block), codes.FailedPrecondition, v.staging)
	wrongType := v
	wrongType.cap = filesystemOf("xfs")
	wantCode(t, r.publish(wrongType), codes.FailedPrecondition, "ext4", "xfs")
}

func TestPublishTellsWhatIsAtTheTarget(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("ext4"))
	must(t, r.publish(v))

	readOnly := v
	readOnly.readonly = true
	wantCode(t, r.publish(readOnly), codes.AlreadyExists, v.target, "writable")
	flags := v
	flags.cap = filesystemOf("ext4", "noexec")
	wantCode(t, r.publish(flags), codes.AlreadyExists, v.target, "noexec")

	second := r.attach(small, filesystemOf("ext4"))
	must(t, r.stage(second))
	second.target = v.target
	wantCode(t, r.publish(second), codes.AlreadyExists, v.target)
	if n := r.mountedAt(v.target); n != 1 {
		t.Errorf("%d mounts at the target, want the first", n)
	}

	readOnly = readOnly.at("read-only")
	for range 2 {
		must(t, r.publish(readOnly))
	}
	if err := os.WriteFile(filepath.Join(readOnly.target, "file"), nil, 0o600); err == nil {
		t.Error("what is published read-only can be written to")
	}
	wantCode(t, r.publish(v.at("read-only")), codes.AlreadyExists, "read-only")
	flags = flags.at("flags")
	for range 2 {
		must(t, r.publish(flags))
	}
	wantCode(t, r.publish(v.at("flags")), codes.AlreadyExists, "noexec")
}

func TestMountFlagsReachTheTarget(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("ext4", "noexec,nosuid", "noatime"))
	must(t, r.publish(v))
	for _, m := range r.mounts() {
		options := strings.Split(m.Options, ",")
		for _, want := range []string{"noexec", "nosuid", "noatime"} {
			if !slices.Contains(options, want) {
				t.Errorf("%s has %v, without %s", m.Mountpoint, options, want)
			}
		}
	}
}

func TestASingleWriterIsPublishedOnce(t *testing.T) {
	const singleWriter = csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
	for name, capability := range map[string]*csi.VolumeCapability{"filesystem": filesystemOf("ext4"), "block": rawBlock()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, v := staged(t, capability)
			single := v.withMode(singleWriter)
			for range 2 {
				must(t, r.publish(single))
			}
			wantCode(t, r.publish(single.at("second")), codes.FailedPrecondition, "single writer", single.target)
			must(t, r.publish(v.at("second"))) // as many writers as there may be
			must(t, r.unpublish(v.at("second")))
			must(t, r.unpublish(single))
			must(t, r.publish(single.at("second")))
			must(t, r.unpublish(single.at("second")))
			must(t, r.unstage(v))
		})
	}
}

func TestWhatIsInTheWayOfATargetIsLeftThere(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("ext4"))
	_, b := r, r.attach(small, rawBlock())
	parent := filepath.Dir(v.target)
	must(t, os.MkdirAll(parent, 0o750))
	must(t, os.WriteFile(filepath.Join(parent, "file"), []byte("data"), 0o600))
	must(t, os.Symlink(t.TempDir(), filepath.Join(parent, "link")))
	must(t, os.Mkdir(filepath.Join(parent, "dir"), 0o750))
	for _, target := range []string{"file", "link"} {
		wantCode(t, r.publish(v.at(target)), codes.FailedPrecondition, target)
	}
	b.target = v.target
	for _, target := range []string{"file", "link", "dir"} {
		wantCode(t, r.publish(b.at(target)), codes.FailedPrecondition, target)
	}
	for _, target := range []string{"file", "link"} {
		wantCode(t, r.unpublish(v.at(target)), codes.FailedPrecondition, target)
	}
	if data, err := os.ReadFile(filepath.Join(parent, "file")); err != nil || string(data) != "data" {
		t.Errorf("the file holds %q, %v", data, err)
	}
	must(t, r.publish(v.at("dir")))
	must(t, r.unpublish(v.at("dir")))

	// Written while nothing was mounted: the only copy of somebody's data.
	must(t, os.Mkdir(filepath.Join(parent, "full"), 0o750))
	must(t, os.WriteFile(filepath.Join(parent, "full", "data"), nil, 0o600))
	wantCode(t, r.unpublish(v.at("full")), codes.FailedPrecondition, "full", "node's own disk")
}

func TestATargetMayLieBehindALink(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("ext4"))
	link := filepath.Join(r.dir, "link")
	must(t, os.Symlink(filepath.Dir(filepath.Dir(v.target)), link))
	straight := v.target
	v.target = filepath.Join(link, "pod", "mount")
	for range 2 {
		must(t, r.publish(v))
	}
	if n := r.mountedAt(straight); n != 1 {
		t.Fatalf("%d mounts, want 1", n)
	}
	r.checkUsage(v, small)
	must(t, r.unpublish(v))
	r.wantGone(straight)
	must(t, r.unstage(v))
}

func TestAStackOfMountsIsTakenDown(t *testing.T) {
	t.Parallel()
	r, b := staged(t, rawBlock())
	must(t, r.publish(b))
	device, err := (&blockdev.Loop{DevDir: r.dev}).Find(r.context(), b.id)
	must(t, err)
	run(t, "mount", "--bind", device.Path, b.target) // as the reference did with each repetition
	run(t, "mount", "--bind", device.Path, b.target)
	if n := r.mountedAt(b.target); n != 3 {
		t.Fatalf("%d mounts, want 3", n)
	}
	must(t, r.publish(b))
	must(t, r.unpublish(b))
	must(t, r.unstage(b))
	if m := r.mounts(); len(m) != 0 {
		t.Errorf("left mounted: %+v", m)
	}
}

func TestABlockVolumePublishedReadOnlyLeavesTheDeviceAsItIs(t *testing.T) {
	t.Parallel()
	r, v := staged(t, rawBlock())
	writer := v.at("writer")
	must(t, r.publish(writer))
	reader := v.at("reader")
	reader.readonly = true
	for range 2 {
		must(t, r.publish(reader))
	}
	for _, m := range r.mounts() {
		readOnly := strings.HasPrefix(m.Options, "ro")
		if want := filepath.Base(m.Mountpoint) == "reader"; readOnly != want {
			t.Errorf("%s has the options %s", m.Mountpoint, m.Options)
		}
	}
	device := hold(t, writer.target, os.O_RDWR)
	flag, err := unix.IoctlGetInt(int(device.Fd()), unix.BLKROGET)
	must(t, err)
	if flag != 0 {
		t.Error("the device, which others write to, has become read-only")
	}
	if n, err := device.WriteAt([]byte("data"), 0); n != 4 {
		t.Errorf("the writer can't write: %v", err)
	}
	must(t, device.Close())
	wantCode(t, r.publish(v.at("reader")), codes.AlreadyExists, "read-only")
	must(t, r.unpublish(reader))
	must(t, r.unpublish(writer))
	must(t, r.unstage(v))
}
