package node_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	unknown     = csi.VolumeCapability_AccessMode_UNKNOWN
	writer      = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	reader      = csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY
	readers     = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	oneWriter   = csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER
	allWriters  = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	onePod      = csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
	podsOfANode = csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER
	unheardOf   = csi.VolumeCapability_AccessMode_Mode(99)
	unset       = csi.VolumeCapability_AccessMode_Mode(-1)
)

// as returns the volume as it is asked for with that mode.
func (v volume) as(mode csi.VolumeCapability_AccessMode_Mode) volume {
	if mode != unset {
		return v.withMode(mode)
	}
	v.cap = &csi.VolumeCapability{AccessType: v.cap.GetAccessType()}
	return v
}

// diskReadOnly tells whether the disk of a volume refuses to be written to.
func (r *rig) diskReadOnly(v volume) bool {
	r.t.Helper()
	fd, err := unix.Open(r.device(v), unix.O_RDONLY, 0)
	must(r.t, err)
	flag, err := unix.IoctlGetInt(fd, unix.BLKROGET)
	must(r.t, err)
	must(r.t, unix.Close(fd))
	return flag != 0
}

// state is all that a workload could notice of a volume on the node.
func (r *rig) state(v volume) string {
	r.t.Helper()
	var mounts []string
	for _, m := range r.mounts() {
		mounts = append(mounts, fmt.Sprint(m.ID, m.Mountpoint, m.Options, m.VFSOptions))
	}
	return fmt.Sprint(strings.Join(mounts, "\n"), "\nread-only disk: ", r.diskReadOnly(v))
}

// TestEveryAccessMode asks for every mode, as a filesystem and as a device: on a
// node where nothing is staged, and on one where the volume is staged and published
// already for a writer or for readers, as after a restart of the kubelet.
func TestEveryAccessMode(t *testing.T) {
	const ok, invalid, exists, refused = codes.OK, codes.InvalidArgument, codes.AlreadyExists, codes.FailedPrecondition
	for _, tt := range []struct {
		mode       csi.VolumeCapability_AccessMode_Mode
		filesystem bool
		readOnly   bool
		fresh      codes.Code // nothing is staged
		// Staged for a writer and published to it; then for readers.
		stageWriter, publishWriter, stageReaders, publishReaders codes.Code
	}{
		{unset, true, false, invalid, invalid, invalid, invalid, invalid},
		{unset, false, false, invalid, invalid, invalid, invalid, invalid},
		{unknown, true, false, invalid, invalid, invalid, invalid, invalid},
		{unknown, false, false, invalid, invalid, invalid, invalid, invalid},
		{unheardOf, true, false, invalid, invalid, invalid, invalid, invalid},
		{unheardOf, false, false, invalid, invalid, invalid, invalid, invalid},
		{oneWriter, true, false, invalid, invalid, invalid, invalid, invalid},
		{allWriters, true, false, invalid, invalid, invalid, invalid, invalid},
		{oneWriter, false, false, ok, ok, ok, exists, refused},
		{allWriters, false, false, ok, ok, ok, exists, refused},
		{writer, true, false, ok, ok, ok, exists, refused},
		{writer, false, false, ok, ok, ok, exists, refused},
		{podsOfANode, true, false, ok, ok, ok, exists, refused},
		{podsOfANode, false, false, ok, ok, ok, exists, refused},
		{onePod, true, false, ok, ok, refused, exists, refused},
		{onePod, false, false, ok, ok, refused, exists, refused},
		{reader, true, true, ok, exists, ok, ok, ok},
		{reader, false, true, ok, exists, refused, ok, ok},
		{readers, true, true, ok, exists, refused, ok, ok},
		{readers, false, true, ok, exists, refused, ok, ok},
	} {
		kind, capability := "device", rawBlock()
		if tt.filesystem {
			kind, capability = "filesystem", filesystemOf("ext4")
		}
		t.Run(fmt.Sprint(tt.mode, " ", kind), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			v := r.attach(small, capability)
			r.mkfs(v, "ext4")
			asked := v.as(tt.mode)
			wantCode(t, r.stage(asked), tt.fresh)
			if tt.fresh == ok {
				must(t, r.publish(asked))
				r.checkAccess(asked, tt.filesystem, tt.readOnly)
				must(t, r.unpublish(asked))
			} else {
				wantCode(t, r.publish(asked), invalid)
			}
			must(t, r.unstage(asked))

			for first, want := range map[csi.VolumeCapability_AccessMode_Mode][2]codes.Code{
				writer:  {tt.stageWriter, tt.publishWriter},
				readers: {tt.stageReaders, tt.publishReaders},
			} {
				must(t, r.stage(v.as(first)))
				must(t, r.publish(v.as(first)))
				before := r.state(v)
				wantCode(t, r.stage(asked), want[0])
				if after := r.state(v); after != before {
					t.Errorf("staged as %v, then as %v, before:\n%s\nafter:\n%s", first, tt.mode, before, after)
				}
				second := asked.at("second")
				wantCode(t, r.publish(second), want[1])
				if want[1] == ok {
					r.checkAccess(second, tt.filesystem, tt.readOnly)
				}
				must(t, r.unpublish(second))
				if after := r.state(v); after != before {
					t.Errorf("published as %v, then as %v, before:\n%s\nafter:\n%s", first, tt.mode, before, after)
				}
				must(t, r.unpublish(v))
				must(t, r.unstage(v))
			}
		})
	}
}

// checkAccess writes to what is published, which must succeed or fail.
func (r *rig) checkAccess(v volume, filesystem, readOnly bool) {
	r.t.Helper()
	var err error
	if filesystem {
		err = os.WriteFile(filepath.Join(v.target, "file"), nil, 0o600)
	} else {
		err = writeDevice(v.target)
	}
	if (err != nil) != readOnly {
		r.t.Errorf("written: %v, want read-only %t", err, readOnly)
	}
}

// writeDevice writes back what is at the end of a device.
func writeDevice(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteAt(make([]byte, 4096), small-4096); err != nil {
		return err
	}
	return f.Sync()
}

// TestReadersGetADiskThatCannotBeWrittenTo: whoever staged the volume, and whether
// anybody did.
func TestReadersGetADiskThatCannotBeWrittenTo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.attach(small, filesystemOf("ext4")).as(readers)
	r.mkfs(v, "ext4")
	must(t, os.MkdirAll(v.staging, 0o750))
	must(t, r.fs.Mount(r.context(), r.device(v), v.staging, typed("ext4"), []string{"ro"})) // by another driver
	must(t, r.publish(v))
	if !r.diskReadOnly(v) {
		t.Error("published for readers on a disk that can be written to")
	}
	must(t, r.unpublish(v))
	must(t, r.unstage(v))
	must(t, r.stage(v.as(writer)))
	if r.diskReadOnly(v) {
		t.Error("staged for a writer on a read-only disk")
	}
	wantCode(t, r.publish(v), codes.FailedPrecondition, "staged writable")
	must(t, r.unstage(v))

	b := r.attach(small, rawBlock()).as(readers)
	must(t, r.publish(b)) // was never staged
	if !r.diskReadOnly(b) {
		t.Error("a device is published for readers that can be written to")
	}
	wantCode(t, r.publish(b.as(writer).at("second")), codes.FailedPrecondition, "read-only")
	must(t, r.unpublish(b))
	must(t, r.unstage(b))
	must(t, r.stage(b.as(writer)))
	must(t, r.publish(b.as(writer)))
	wantCode(t, r.publish(b.at("second")), codes.FailedPrecondition, "for writers")
	wantCode(t, r.publish(b), codes.AlreadyExists, "for writers")
	if err := writeDevice(b.target); err != nil {
		t.Errorf("the writer can't write any more: %v", err)
	}
}

// TestARepeatedCallChangesNothing repeats the stage and the publication of a volume
// that is in use with everything that can differ.
func TestARepeatedCallChangesNothing(t *testing.T) {
	with := func(c *csi.VolumeCapability) func(volume) volume {
		return func(v volume) volume { v.cap = c; return v }
	}
	mode := func(m csi.VolumeCapability_AccessMode_Mode) func(volume) volume {
		return func(v volume) volume { return v.as(m) }
	}
	readOnly := func(v volume) volume { v.readonly = true; return v }
	for _, tt := range []struct {
		name           string
		first          *csi.VolumeCapability
		firstMode      csi.VolumeCapability_AccessMode_Mode
		change         func(volume) volume
		stage, publish codes.Code
	}{
		{"the same", filesystemOf("ext4", "noatime", "nosuid"), writer, with(filesystemOf("ext4", "noatime", "nosuid")), codes.OK, codes.OK},
		{"any filesystem", filesystemOf("ext4"), writer, with(filesystemOf("")), codes.OK, codes.OK},
		{"another filesystem", filesystemOf("ext4"), writer, with(filesystemOf("xfs")), codes.AlreadyExists, codes.AlreadyExists},
		{"readers of a writer's", filesystemOf("ext4"), writer, mode(readers), codes.AlreadyExists, codes.AlreadyExists},
		{"a reader of a writer's", filesystemOf("ext4"), writer, mode(reader), codes.AlreadyExists, codes.AlreadyExists},
		{"a writer of the readers'", filesystemOf("ext4"), readers, mode(writer), codes.AlreadyExists, codes.AlreadyExists},
		{"the flag ro", filesystemOf("ext4"), writer, with(filesystemOf("ext4", "ro")), codes.AlreadyExists, codes.AlreadyExists},
		{"for reading", filesystemOf("ext4"), writer, readOnly, codes.OK, codes.AlreadyExists},
		{"one flag more", filesystemOf("ext4"), writer, with(filesystemOf("ext4", "nodev")), codes.AlreadyExists, codes.AlreadyExists},
		{"one flag less", filesystemOf("ext4", "noexec"), writer, with(filesystemOf("ext4")), codes.AlreadyExists, codes.OK}, // inherited
		{"other times", filesystemOf("ext4"), writer, with(filesystemOf("ext4", "noatime")), codes.AlreadyExists, codes.AlreadyExists},
		{"another journal", filesystemOf("ext4"), writer, with(filesystemOf("ext4", "data=journal")), codes.AlreadyExists, codes.OK},
		{"no other journal", filesystemOf("ext4", "data=journal"), writer, with(filesystemOf("ext4", "data=ordered")), codes.AlreadyExists, codes.OK},
		{"the same in other words", filesystemOf("ext4", "data=ordered", "discard", "nodiscard"), writer, with(filesystemOf("ext4", "async")), codes.OK, codes.OK},
		{"with discard", filesystemOf("ext4"), writer, with(filesystemOf("ext4", "discard")), codes.AlreadyExists, codes.OK},
		{"without discard", filesystemOf("ext4", "discard", "sync"), writer, with(filesystemOf("ext4", "sync")), codes.AlreadyExists, codes.OK},
		{"encrypted", filesystemOf("ext4"), writer, func(v volume) volume {
			v.context = map[string]string{contextPrefix + "encrypted": "luks2"}
			v.secrets = map[string]string{"encryptionPassphrase": canary}
			return v
		}, codes.AlreadyExists, codes.FailedPrecondition},
		{"as a device", filesystemOf("ext4"), writer, with(rawBlock()), codes.AlreadyExists, codes.AlreadyExists},
		{"for several nodes", filesystemOf("ext4"), writer, mode(allWriters), codes.InvalidArgument, codes.InvalidArgument},
		{"a device the same", rawBlock(), writer, mode(podsOfANode), codes.OK, codes.OK},
		{"a device for readers", rawBlock(), writer, mode(readers), codes.AlreadyExists, codes.AlreadyExists},
		{"a device for a reader", rawBlock(), writer, mode(reader), codes.AlreadyExists, codes.AlreadyExists},
		{"a device for reading", rawBlock(), writer, readOnly, codes.OK, codes.AlreadyExists},
		{"a reader's device for a writer", rawBlock(), reader, mode(writer), codes.AlreadyExists, codes.AlreadyExists},
		{"a device as a filesystem", rawBlock(), writer, with(filesystemOf("ext4")), codes.FailedPrecondition, codes.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			v := r.attach(small, tt.first).as(tt.firstMode)
			r.mkfs(v, "ext4")
			must(t, r.stage(v))
			must(t, r.publish(v))
			before := r.state(v)
			for range 2 {
				wantCode(t, r.stage(tt.change(v)), tt.stage)
				wantCode(t, r.publish(tt.change(v)), tt.publish)
			}
			if after := r.state(v); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			must(t, r.stage(v))
			must(t, r.publish(v))
		})
	}
}

// TestADeviceKeepsItsWriter: the workload has the device open, and its next write
// succeeds whatever is asked for meanwhile.
func TestADeviceKeepsItsWriter(t *testing.T) {
	t.Parallel()
	r, v := staged(t, rawBlock())
	must(t, r.publish(v))
	f, err := os.OpenFile(v.target, os.O_RDWR|unix.O_SYNC, 0)
	must(t, err)
	defer func() { _ = f.Close() }()
	for _, mode := range []csi.VolumeCapability_AccessMode_Mode{reader, readers} {
		if got := status.Code(r.stage(v.as(mode))); got != codes.AlreadyExists {
			t.Errorf("staged again as %v: %v", mode, got)
		}
		if _, err := f.WriteAt([]byte("data"), 0); err != nil {
			t.Errorf("after %v the writer can't write: %v", mode, err)
		}
	}
}
