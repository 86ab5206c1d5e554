package node_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/node"
)

const contextPrefix = "cinder.csi.openstack.org/"

// stageWith stages a volume with a volume context, whose keys have no prefix.
func (r *rig) stageWith(v volume, volumeContext map[string]string) error {
	req := v.stageRequest()
	req.VolumeContext = make(map[string]string)
	for key, value := range volumeContext {
		req.VolumeContext[contextPrefix+key] = value
	}
	_, err := r.server().NodeStageVolume(r.context(), req)
	return err
}

func TestTheVolumeContextShapesANewFilesystem(t *testing.T) {
	for _, tt := range []struct {
		name    string
		fsType  string
		context map[string]string
		tool    []string // shows the filesystem; its device or mount is added
		mounted bool
		want    []string
	}{
		{
			"the sizes of an ext4", "ext4", map[string]string{"blockSize": "1024", "inodeSize": "512", "bytesPerInode": "65536"},
			[]string{"dumpe2fs", "-h"}, false, []string{"Block size:               1024", "Inode size:	          512", "Inode count:              5120"},
		},
		{
			"free options of an ext4", "ext4", map[string]string{"mkfs-options": " -E stride=4,nodiscard  -m 3 "},
			[]string{"dumpe2fs", "-h"}, false, []string{"RAID stride:              4", "Reserved block count:     9830"},
		},
		{
			"both kinds", "ext3", map[string]string{"blockSize": "2048", "mkfs-options": "-L data"},
			[]string{"dumpe2fs", "-h"}, false, []string{"Block size:               2048", "Filesystem volume name:   data"},
		},
		{
			"the sizes of an xfs", "xfs", map[string]string{"blockSize": "1024", "inodeSize": "512"},
			[]string{"xfs_info"}, true, []string{"isize=512", "bsize=1024"},
		},
		{
			"free options of a btrfs", "btrfs", map[string]string{"mkfs-options": "--nodesize 32768"},
			[]string{"btrfs", "inspect-internal", "dump-super"}, false, []string{"nodesize\t\t32768"},
		},
		{"keys that mean nothing here", "ext4", map[string]string{"resizeRequired": "true"}, []string{"true"}, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			v := r.attach(small, filesystemOf(tt.fsType))
			must(t, r.stageWith(v, tt.context))
			at := r.device(v)
			if tt.mounted {
				at = v.staging
			}
			shown := run(t, tt.tool[0], append(tt.tool[1:], at)...)
			for _, want := range tt.want {
				if !strings.Contains(shown, want) {
					t.Errorf("%s doesn't say %q:\n%s", tt.tool[0], want, shown)
				}
			}
			// What a filesystem that exists was made with doesn't matter.
			must(t, r.unstage(v))
			must(t, r.stageWith(v, map[string]string{"blockSize": "7", "mkfs-options": "-F"}))
			must(t, r.unstage(v))
		})
	}
}

func TestOptionsThatCanNotBeAreRefusedAndNothingIsWritten(t *testing.T) {
	r := newRig(t)
	ext, xfs, btrfs := r.attach(small, filesystemOf("ext4")), r.attach(small, filesystemOf("xfs")), r.attach(small, filesystemOf("btrfs"))
	for _, tt := range []struct {
		v          volume
		key, value string
	}{
		{ext, "blockSize", "1000"},
		{ext, "blockSize", "0"},
		{ext, "blockSize", ""},
		{ext, "blockSize", "-4096"},
		{ext, "blockSize", "4k"},
		{ext, "blockSize", "131072"},
		{ext, "inodeSize", "64"},
		{ext, "inodeSize", "300"},
		{ext, "bytesPerInode", "1"},
		{ext, "bytesPerInode", "18446744073709551617"},
		{xfs, "bytesPerInode", "16384"},
		{btrfs, "blockSize", "4096"},
		{btrfs, "inodeSize", "256"},
		{ext, "mkfs-options", "-n"},
		{ext, "mkfs-options", "-E offset=4096"},
		{ext, "mkfs-options", "-b 4096;reboot"},
		{ext, "mkfs-options", "-b 1024 -b 2048"},
		{ext, "mkfs-options", "/dev/vda"},
		{ext, "mkfs-options", "-b $(id)"},
		{xfs, "mkfs-options", "-N"},
		{xfs, "mkfs-options", "-d name=/etc/passwd"},
		{btrfs, "mkfs-options", "--rootdir /"},
	} {
		before := r.content(tt.v)
		wantCode(t, r.stageWith(tt.v, map[string]string{tt.key: tt.value}), codes.InvalidArgument)
		if r.content(tt.v) != before {
			t.Errorf("%s=%q: something was written", tt.key, tt.value)
		}
	}
	wantCode(t, r.stageWith(ext, map[string]string{"mkfs-options": "-b 1024", "blockSize": "1024"}), codes.InvalidArgument, "twice")
	if m := r.mounts(); len(m) != 0 {
		t.Errorf("mounted: %+v", m)
	}
}

func TestFlagsAreSplitAtCommasButNotWithinQuotes(t *testing.T) {
	for group, want := range map[string]string{
		"":                               "",
		"noatime":                        "noatime",
		"noatime,,nodev,":                "noatime|nodev",
		`context="u:r:t:s0:c1,c2",nodev`: `context="u:r:t:s0:c1,c2"|nodev`,
		`context="u:r:t:s0:c1,c2`:        `context="u:r:t:s0:c1,c2`,
	} {
		if got := strings.Join(node.SplitFlags(group), "|"); got != want {
			t.Errorf("%s: %s, want %s", group, got, want)
		}
	}
}
