package disk_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk"
)

func TestWithoutRootFilesCanBeMadeAndDevicesAreRefusedClearly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test becomes another user: run it as root")
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "disk-unprivileged-") // t.TempDir is closed to others
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program, err := os.Executable()
	must(t, err)
	content, err := os.ReadFile(program)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "program"), content, 0o700))
	for _, path := range []string{dir, filepath.Join(dir, "program")} {
		must(t, os.Chown(path, nobody, nobody))
	}
	cmd := exec.Command(filepath.Join(dir, "program"))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DISK_TEST_PROCESS=unprivileged", "DISK_TEST_DIR="+filepath.Join(dir, "store"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// unprivileged is what a process that is not root can and can not do.
func unprivileged(dir string) int {
	s, err := disk.Open(dir)
	if err != nil {
		return told(err)
	}
	id, snapshot, copied := uuid.NewString(), uuid.NewString(), uuid.NewString()
	err = errors.Join(
		s.AddServer("node-1", map[string][]byte{"a": []byte("b")}),
		s.Create(id, mib),
		s.Snapshot(snapshot, id),
		s.Copy(copied, disk.FromSnapshot(snapshot), mib),
		s.Extend(copied, 2*mib),
		s.GrowAttached(copied),
		s.DeleteVolume(copied),
	)
	if err != nil {
		return told(err)
	}
	_, attached := s.Attach("node-1", id, false)
	for what, err := range map[string]error{"Attach": attached, "Detach": s.Detach("node-1", id), "Wipe": s.Wipe()} {
		if !errors.Is(err, disk.ErrNotRoot) {
			return told(fmt.Errorf("%s: %w", what, err))
		}
	}
	return 0
}
