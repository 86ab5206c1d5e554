package node_test

import (
	"context"
	"crypto/sha256"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/node"
	"github.com/cinder-csi/cinder-csi/internal/node/nodetest"
)

// TestStageRefusesAndTouchesNothing: whatever is on a disk that is not for this
// stage, is there byte for byte afterwards.
func TestStageRefusesAndTouchesNothing(t *testing.T) {
	readOnly := func(v volume) volume {
		return v.withMode(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)
	}
	for _, tt := range []struct {
		name    string
		prepare func(r *rig, v volume)
		ask     func(v volume) volume
		told    []string
	}{
		{"another filesystem than asked for", func(r *rig, v volume) { r.mkfs(v, "xfs") }, nil, []string{"xfs", "ext4"}},
		{"ext3 for ext4", func(r *rig, v volume) { r.mkfs(v, "ext3") }, nil, []string{"ext3", "ext4"}},
		{"a partition table", sfdisk, nil, []string{"a partition table (dos)"}},
		{"a partition table, to be read", sfdisk, readOnly, []string{"a partition table (dos)"}},
		{"a partition table and what looks like the filesystem", func(r *rig, v volume) {
			r.mkfs(v, "ext4")
			sfdisk(r, v)
		}, nil, []string{"holds"}},
		{"a torn filesystem", func(r *rig, v volume) {
			r.mkfs(v, "ext4")
			r.write(v, 0, make([]byte, 8*mib))
		}, nil, []string{"a filesystem without its primary superblock: ext"}},
		{"a torn filesystem to be read", func(r *rig, v volume) {
			r.mkfs(v, "ext4")
			r.write(v, 0, make([]byte, 8*mib))
		}, readOnly, []string{"a filesystem without its primary superblock: ext"}},
		{"data that nobody knows", func(r *rig, v volume) {
			r.write(v, 150*mib, []byte("somebody's data"))
			r.write(v, 0, []byte("somebody's data"))
		}, nil, []string{"holds", "delete the volume or zero it"}},
		{"swap", func(r *rig, v volume) { run(r.t, "mkswap", r.device(v)) }, nil, []string{"swap"}},
		{"a blank disk to be read", func(*rig, volume) {}, readOnly, []string{"blank", "read-only"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			v := r.attach(small, filesystemOf("ext4"))
			tt.prepare(r, v)
			if tt.ask != nil {
				v = tt.ask(v)
			}
			before := r.content(v)
			for range 2 {
				wantCode(t, r.stage(v), codes.FailedPrecondition, append(tt.told, v.id)...)
			}
			if r.content(v) != before {
				t.Error("the content has changed")
			}
			if m := r.mounts(); len(m) != 0 {
				t.Errorf("mounted: %+v", m)
			}
		})
	}
}

// TestADiskThatIsWrittenToAfterTheGlanceIsKept: whoever does that, the disk was
// blank when it was looked at first.
func TestADiskThatIsWrittenToAfterTheGlanceIsKept(t *testing.T) {
	for name, change := range map[string]struct {
		write func(r *rig, v volume)
		code  codes.Code
		told  string
	}{
		"data":         {func(r *rig, v volume) { r.write(v, 150*mib, []byte("precious")); r.write(v, 0, []byte("precious")) }, codes.FailedPrecondition, "holds"},
		"a filesystem": {func(r *rig, v volume) { r.mkfs(v, "ext4") }, codes.Unavailable, "is ext4 filesystem now"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			v := r.attach(small, filesystemOf("ext4"))
			var before [sha256.Size]byte
			s := node.New(nodetest.Steps(node.Config{Finder: &blockdev.Loop{DevDir: r.dev}, FS: r.fs}, func(done string) {
				if done == "probed" {
					change.write(r, v)
					before = r.content(v)
				}
			}))
			_, err := s.NodeStageVolume(r.context(), v.stageRequest())
			wantCode(t, err, change.code, change.told, v.id)
			if r.content(v) != before {
				t.Error("the content has changed")
			}
		})
	}
}

func sfdisk(r *rig, v volume) {
	// 16 bytes of a partition entry and the mark at the end of the sector.
	r.write(v, 446, []byte{0, 0, 2, 0, 0x83, 0, 2, 0, 0, 8, 0, 0, 0, 0, 8, 0})
	r.write(v, 510, []byte{0x55, 0xaa})
}

func (r *rig) write(v volume, offset int64, data []byte) {
	r.t.Helper()
	f, err := os.OpenFile(r.device(v), os.O_RDWR, 0)
	must(r.t, err)
	defer func() { must(r.t, f.Close()) }()
	_, err = f.WriteAt(data, offset)
	must(r.t, err)
	must(r.t, f.Sync())
}

func TestStageWaitsForADiskAndTellsWhenItDoesNotCome(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.unattached(small, filesystemOf("ext4"))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // of which a tenth is for the answer
	defer cancel()
	_, err := r.server().NodeStageVolume(ctx, v.stageRequest())
	wantCode(t, err, codes.Unavailable, "not appeared", v.id)
	if ctx.Err() != nil {
		t.Error("the answer came after the deadline, so that nobody reads it")
	}

	staged := make(chan error, 1)
	go func() { staged <- r.stage(v) }()
	r.plug(v)
	must(t, <-staged)
	if n := r.mountedAt(v.staging); n != 1 {
		t.Fatalf("%d mounts", n)
	}
}

func TestStageRefusesAPathThatHoldsAnotherVolume(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first, second := r.attach(small, filesystemOf("ext4")), r.attach(small, filesystemOf("ext4"))
	must(t, r.stage(first))
	second.staging = first.staging
	before := r.content(second)
	wantCode(t, r.stage(second), codes.FailedPrecondition, first.staging)
	if r.content(second) != before {
		t.Error("the second volume was written to")
	}
	wantCode(t, r.publish(second), codes.FailedPrecondition, first.staging)
}

func TestStageRefusesAVolumeThatIsMountedElsewhere(t *testing.T) {
	for _, fsType := range []string{"ext4", "ext3", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			v := r.attach(small, filesystemOf(fsType))
			refuses := func() {
				other := v
				other.staging += "-2"
				wantCode(t, r.stage(other), codes.FailedPrecondition, v.staging)
				other.cap = rawBlock()
				wantCode(t, r.stage(other), codes.FailedPrecondition, v.staging)
				wantCode(t, r.publish(other), codes.FailedPrecondition, v.staging)
			}
			must(t, r.stage(v))
			refuses()
			must(t, r.unstage(v))
			must(t, os.MkdirAll(v.staging, 0o750))

			// Mounted to be read, it doesn't change by itself; the disk can be written to.
			must(t, r.fs.Mount(r.context(), r.device(v), v.staging, typed(fsType), []string{"ro"}))
			before := r.content(v)
			refuses()
			if r.content(v) != before {
				t.Error("the content has changed")
			}
		})
	}
}

func TestStageRefusesAVolumeThatIsPublishedAsABlockDevice(t *testing.T) {
	t.Parallel()
	r, b := staged(t, rawBlock())
	must(t, r.publish(b))
	before := r.content(b)
	v := b
	v.cap = filesystemOf("ext4")
	wantCode(t, r.stage(v), codes.FailedPrecondition, b.target)
	if r.content(b) != before {
		t.Error("the content has changed")
	}
}

// TestStageWaitsForWhoeverWorksOnTheDisk: a mkfs outlives the call that began
// it, and the process too.
func TestStageWaitsForWhoeverWorksOnTheDisk(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.attach(small, filesystemOf("ext4"))
	holder := hold(t, r.device(v), os.O_RDONLY|os.O_EXCL) // as mkfs does
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := r.server().NodeStageVolume(ctx, v.stageRequest())
	wantCode(t, err, codes.Unavailable, "mkfs")
	staged := make(chan error, 1)
	go func() { staged <- r.stage(v) }()
	must(t, holder.Close())
	must(t, <-staged)
}

// TestAMountOfSomethingElseIsLeftAlone: a tmpfs has no disk that could be gone.
func TestAMountOfSomethingElseIsLeftAlone(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("ext4"))
	other := r.attach(small, filesystemOf("ext4"))
	for _, path := range []string{other.staging, v.target} {
		must(t, os.MkdirAll(path, 0o750))
		run(t, "mount", "-t", "tmpfs", "tmpfs", path)
		must(t, os.WriteFile(path+"/file", nil, 0o600))
	}
	wantCode(t, r.stage(other), codes.FailedPrecondition, other.staging, "tmpfs")
	wantCode(t, r.publish(other), codes.FailedPrecondition, other.staging, "tmpfs")
	wantCode(t, r.publish(v), codes.AlreadyExists, v.target, "tmpfs")
	for _, path := range []string{other.staging, v.target} {
		if _, err := os.Stat(path + "/file"); err != nil {
			t.Error(err)
		}
	}
}

func TestARepeatedStageMustAskForTheSame(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.attach(small, filesystemOf("xfs"))
	must(t, r.stage(v))
	other := v
	other.cap = filesystemOf("ext4")
	wantCode(t, r.stage(other), codes.AlreadyExists, "xfs", "ext4")
	wantCode(t, r.stage(v.withMode(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)), codes.AlreadyExists, "read-only")
	other.cap = filesystemOf("xfs", "nosuid", "nodev")
	wantCode(t, r.stage(other), codes.AlreadyExists, "it lacks nosuid")
	must(t, r.unstage(v))
	must(t, r.stage(other))
	must(t, r.stage(other))
	must(t, r.unstage(v))
	other.cap = filesystemOf("xfs", "users") // mount(8) makes noexec, nosuid and nodev of it
	must(t, r.stage(other))
	must(t, r.stage(other))
}

func TestAVolumeThatIsReadIsNotWrittenTo(t *testing.T) {
	for _, fsType := range []string{"ext4", "ext3", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			v := r.attach(small, filesystemOf(fsType))
			r.mkfs(v, fsType)
			if fsType == "ext4" || fsType == "ext3" {
				r.leaveOrphan(v)
			}
			r.grow(v, 2*small) // and it isn't grown either
			before := r.content(v)
			v = v.withMode(csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY)
			for range 2 {
				must(t, r.stage(v))
				must(t, r.publish(v))
			}
			if err := os.WriteFile(v.target+"/file", nil, 0o600); err == nil {
				t.Error("it can be written to")
			}
			writer := v.withMode(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER).at("writer")
			wantCode(t, r.publish(writer), codes.FailedPrecondition, "read-only")
			must(t, r.unpublish(v))
			must(t, r.unstage(v))
			if r.content(v) != before {
				t.Error("the content has changed")
			}
		})
	}
}

// leaveOrphan makes a file on an ext filesystem that was deleted while it was
// open: whoever mounts the filesystem first deletes it for good.
func (r *rig) leaveOrphan(v volume) {
	r.t.Helper()
	device := r.device(v)
	const inode = "12" // the first that a file can have, after lost+found
	for _, request := range []string{
		"write /proc/self/status f", "unlink f", "sif <" + inode + "> links_count 0", "ssv last_orphan " + inode,
	} {
		run(r.t, "debugfs", "-w", "-R", request, device)
	}
	if state := run(r.t, "debugfs", "-R", "show_super_stats -h", device); !strings.Contains(state, "First orphan inode:       "+inode) {
		r.t.Fatalf("there is no orphan:\n%s", state)
	}
}

func TestVolumesThatAreNotThere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, id := range []string{uuid.NewString(), "x", "not-a-volume-id", "../../etc/passwd"} {
		v := r.named(uuid.NewString(), filesystemOf("ext4"))
		v.id = id
		must(t, r.unpublish(v))
		must(t, r.unstage(v))
		_, err := r.expand(v, small)
		wantCode(t, err, codes.NotFound)
		_, err = r.server().NodeGetVolumeStats(r.context(), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: v.target})
		wantCode(t, err, codes.NotFound)
	}
}
