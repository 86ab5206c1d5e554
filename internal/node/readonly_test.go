package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
)

// readersContext is the publish context of a volume that was published for reading.
func readersContext() map[string]string {
	return map[string]string{"DevicePath": "/dev/vdb", "cinder.csi.openstack.org/readOnly": "true"}
}

// write tries to write to the device at path.
func write(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = unix.Pwrite(fd, []byte("data"), 0)
	return errors.Join(err, unix.Fsync(fd), unix.Close(fd))
}

func TestABlockVolumeThatIsPublishedForReadingCannotBeWrittenTo(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*volume, *csi.NodeStageVolumeRequest, *csi.NodePublishVolumeRequest){
		"by the controller": func(_ *volume, stage *csi.NodeStageVolumeRequest, publish *csi.NodePublishVolumeRequest) {
			stage.PublishContext, publish.PublishContext = readersContext(), readersContext()
		},
		"by its access mode": func(v *volume, stage *csi.NodeStageVolumeRequest, publish *csi.NodePublishVolumeRequest) {
			*v = v.withMode(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)
			stage.VolumeCapability, publish.VolumeCapability = v.cap, v.cap
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			v := r.attach(small, rawBlock())
			stage, publish := v.stageRequest(), v.publishRequest()
			change(&v, stage, publish)
			server := r.server()
			for range 2 {
				if _, err := server.NodeStageVolume(t.Context(), stage); err != nil {
					t.Fatal(err)
				}
				if _, err := server.NodePublishVolume(t.Context(), publish); err != nil {
					t.Fatal(err)
				}
			}
			if err := write(v.target); err == nil {
				t.Error("the device can be written to")
			}
			must(t, r.unpublish(v))
			must(t, r.unstage(v))
			// It is for this one use: the next may be a writer.
			v = v.withMode(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER)
			must(t, r.stage(v))
			must(t, r.publish(v))
			if err := write(v.target); err != nil {
				t.Errorf("a writer can't write: %v", err)
			}
			must(t, r.unpublish(v))
			must(t, r.unstage(v))
		})
	}
}

func TestAFilesystemThatIsPublishedForReadingIsMountedForReading(t *testing.T) {
	t.Parallel()
	r, v := staged(t, filesystemOf("ext4"))
	must(t, r.unstage(v))
	server := r.server()
	stage, publish := v.stageRequest(), v.publishRequest()
	stage.PublishContext, publish.PublishContext = readersContext(), readersContext()
	for range 2 {
		if _, err := server.NodeStageVolume(t.Context(), stage); err != nil {
			t.Fatal(err)
		}
		if _, err := server.NodePublishVolume(t.Context(), publish); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range r.mounts() {
		if !strings.HasPrefix(m.Options, "ro") {
			t.Errorf("%s has the options %s", m.Mountpoint, m.Options)
		}
	}
	if err := os.WriteFile(filepath.Join(v.target, "file"), nil, 0o600); err == nil {
		t.Error("it can be written to")
	}
	writer := v.at("writer").publishRequest()
	_, err := server.NodePublishVolume(t.Context(), writer)
	wantCode(t, err, codes.FailedPrecondition, "read-only")
	must(t, r.unpublish(v))
	must(t, r.unstage(v))
}

func TestABlankVolumeThatIsPublishedForReadingIsNotFormatted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.attach(small, filesystemOf("ext4"))
	stage := v.stageRequest()
	stage.PublishContext = readersContext()
	_, err := r.server().NodeStageVolume(t.Context(), stage)
	wantCode(t, err, codes.FailedPrecondition, "blank")
}
