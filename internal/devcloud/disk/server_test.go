package disk_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/configdrive"
)

func TestAServerFindsItsConfigDriveByLabel(t *testing.T) {
	s, dir := newStore(t)
	for _, uuid := range []string{`{"uuid":"1"}`, `{"uuid":"2"}`} { // the second replaces the first
		must(t, s.AddServer("node-1", configdrive.Files(configdrive.Documents{Meta: []byte(uuid)})))
		drive := filepath.Join(s.DeviceDir("node-1"), "disk/by-label/config-2")
		out, err := exec.Command("isoinfo", "-R", "-i", drive, "-x", "/openstack/latest/meta_data.json").Output()
		if err != nil || string(out) != uuid {
			t.Errorf("meta_data.json is %q, %v, want %q", out, err, uuid)
		}
	}
	s = reopen(t, s, dir)
	if names := s.Servers(); !slices.Equal(names, []string{"node-1", "node-2"}) {
		t.Errorf("servers %q", names)
	}
	must(t, s.AddServer("node-1", nil))
	if _, err := os.Lstat(filepath.Join(s.DeviceDir("node-1"), "disk/by-label/config-2")); !os.IsNotExist(err) {
		t.Errorf("the config drive stayed: %v", err)
	}
	wantError(t, s.AddServer(".node", nil), disk.ErrInvalid)
}

func TestARemovedServerHasNothingAttached(t *testing.T) {
	s, dir := newStore(t)
	free, busy := newVolume(t, s, mib), newVolume(t, s, mib)
	attach(t, s, "node-1", free)
	f, err := os.Open(attach(t, s, "node-1", busy))
	must(t, err)
	wantError(t, s.RemoveServer("node-1"), disk.ErrInUse, busy)
	if all := s.Attachments(); len(all) != 1 || all[0].VolumeID != busy {
		t.Errorf("attached: %+v", all)
	}
	must(t, f.Close())
	for range 2 {
		must(t, s.RemoveServer("node-1"))
	}
	if names := s.Servers(); !slices.Equal(names, []string{"node-2"}) {
		t.Errorf("servers %q", names)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "servers")); err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
	_, err = s.Attach("node-1", free, false)
	wantError(t, err, disk.ErrNotFound, "node-1")
	assertNothingAttached(t, s, dir)
}

func TestWipeTakesAwayEverythingButWhatIsInUse(t *testing.T) {
	s, dir := newStore(t)
	must(t, s.AddServer("node-1", configdrive.Files(configdrive.Documents{Meta: []byte("{}")})))
	free, busy := newVolume(t, s, mib), newVolume(t, s, 64*mib)
	attach(t, s, "node-2", free)
	node := attach(t, s, "node-1", busy)
	run(t, "mkfs.ext4", "-q", node)
	target := mount(t, node, "ext4")

	wantError(t, s.Wipe(), disk.ErrInUse, busy, target)
	if all := s.Attachments(); len(all) != 1 || all[0].VolumeID != busy {
		t.Errorf("attached: %+v", all)
	}
	if ids, err := s.List(disk.KindVolume); err != nil || len(ids) != 2 {
		t.Errorf("volumes left: %q, %v", ids, err)
	}
	unmount(t, target)
	must(t, os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600))
	must(t, s.Wipe())
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "mine" {
		t.Errorf("left: %v, %v, want only what was not the store's", entries, err)
	}
	must(t, os.Remove(filepath.Join(dir, "mine")))
	s = reopen(t, s, dir)
	must(t, s.Wipe())
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory stayed: %v", err)
	}
	must(t, os.Mkdir(dir, 0o700)) // for the end of the test
}

func TestWipeNeverRemovesWhatIsMountedBelowTheStore(t *testing.T) {
	s, dir := newStore(t)
	mine := t.TempDir()
	must(t, os.WriteFile(filepath.Join(mine, "file"), []byte("precious"), 0o600))
	target := filepath.Join(dir, "servers/node-1/dev/disk")
	must(t, unix.Mount(mine, target, "", unix.MS_BIND, ""))
	wantError(t, s.Wipe(), disk.ErrInUse, target)
	wantError(t, s.RemoveServer("node-1"), disk.ErrInUse, target)
	must(t, unix.Unmount(target, 0))
	if content, err := os.ReadFile(filepath.Join(mine, "file")); !bytes.Equal(content, []byte("precious")) {
		t.Errorf("it is %q, %v", content, err)
	}
	must(t, s.Wipe())
	must(t, os.MkdirAll(dir, 0o700)) // for the end of the test
}

func TestADirectoryWithOthersFilesIsNotTakenForAStore(t *testing.T) {
	dir := newDir(t)
	must(t, os.MkdirAll(filepath.Join(dir, "servers/mine"), 0o700))
	_, err := disk.Open(dir)
	wantError(t, err, disk.ErrInvalid, dir, "servers")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the directory now holds %v, %v", entries, err)
	}
}

func TestAStoreCanBeAMountOfItsOwn(t *testing.T) {
	dir := newDir(t)
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"))
	s := openStore(t, dir)
	must(t, s.AddServer("node-1", nil))
	attach(t, s, "node-1", newVolume(t, s, mib))
	must(t, s.Wipe())
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
	must(t, s.Close())
}
