package node_test

import (
	"os"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/luks"
)

// Encrypted volumes are opened, grown and closed in the guest: that takes a
// kernel with device-mapper. What is refused before, is refused anywhere.

const canary = "canary in a coal mine"

// encrypted makes requests for an encrypted volume.
func (v volume) encrypted() volume {
	v.context = map[string]string{"cinder.csi.openstack.org/encrypted": "luks2"}
	v.secrets = map[string]string{"encryptionPassphrase": canary}
	return v
}

func TestAnEncryptedVolumeNeedsItsPassphraseAndABlankDisk(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(r *rig, v volume)
		ask     func(v volume) volume
		code    codes.Code
		told    []string
	}{
		{"no secret", nil, func(v volume) volume { v.secrets = nil; return v }, codes.InvalidArgument, []string{"encryptionPassphrase", "node-stage-secret-name"}},
		{"an empty passphrase", nil, func(v volume) volume {
			v.secrets = map[string]string{"encryptionPassphrase": ""}
			return v
		}, codes.InvalidArgument, []string{"encryptionPassphrase"}},
		{"another encryption", nil, func(v volume) volume {
			v.context = map[string]string{"cinder.csi.openstack.org/encrypted": "luks1"}
			return v
		}, codes.InvalidArgument, []string{"luks1", "luks2"}},
		{"a filesystem", func(r *rig, v volume) { r.mkfs(v, "ext4") }, nil, codes.FailedPrecondition, []string{"is to be encrypted, but holds ext4"}},
		{"a partition table", sfdisk, nil, codes.FailedPrecondition, []string{"is to be encrypted, but holds"}},
		{"LUKS1", func(r *rig, v volume) { r.write(v, 0, []byte("LUKS\xba\xbe\x00\x01")) }, nil, codes.FailedPrecondition, nil},
		{"LUKS without the parameter", encrypt, func(v volume) volume { v.context = nil; return v }, codes.FailedPrecondition, []string{"crypto_LUKS", "left as it is"}},
		{"a block volume that holds a filesystem", func(r *rig, v volume) { r.mkfs(v, "ext4") }, func(v volume) volume {
			v.cap = rawBlock()
			return v
		}, codes.FailedPrecondition, []string{"is to be encrypted, but holds ext4"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			v := r.attach(small, filesystemOf("ext4"))
			if tt.prepare != nil {
				tt.prepare(r, v)
			}
			v = v.encrypted()
			if tt.ask != nil {
				v = tt.ask(v)
			}
			before := r.content(v)
			for range 2 {
				wantCode(t, r.stage(v), tt.code, append(tt.told, v.id)...)
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

// encrypt puts LUKS2 on a volume.
func encrypt(r *rig, v volume) {
	r.t.Helper()
	must(r.t, luks.New(r.fs).Format(r.context(), filesystem.Device{Path: r.device(v)}, filesystem.Quick, []byte(canary)))
}

func TestAnEncryptedVolumeIsNotPublishedUnlessItIsOpen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := r.attach(small, filesystemOf("ext4")).encrypted()
	encrypt(r, v)
	wantCode(t, r.publish(v), codes.FailedPrecondition, "has to be staged first")
	v.cap = rawBlock()
	wantCode(t, r.publish(v), codes.FailedPrecondition, "has to be staged first")
	if _, err := os.Stat(v.target); err == nil {
		t.Error("the target was made")
	}
}
