package loop_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/loop"
)

// bind binds a new file of one MiB; the device is free again after the test.
func bind(t *testing.T, label string, readOnly bool) (loop.Opener, loop.Device) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test uses loop devices: run it as root")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	opener := loop.NewOpener(dir)
	path := filepath.Join(dir, "file")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Truncate(path, 1<<20))
	d, err := opener.Bind(path, label, readOnly)
	must(t, err)
	t.Cleanup(func() {
		if err := opener.Unbind(d, nothing); err != nil {
			t.Error(err)
		}
	})
	return opener, d
}

func nothing() error { return nil }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// node makes a device node for d.
func node(t *testing.T, d loop.Device) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), d.Name())
	must(t, unix.Mknod(path, unix.S_IFBLK|0o600, int(d.Rdev)))
	return path
}

func TestABoundDeviceTellsItsFileAndLabel(t *testing.T) {
	label := strings.Repeat("l", loop.MaxLabel)
	opener, d := bind(t, label, true)
	if filepath.Base(d.File) != "file" || d.Deleted {
		t.Errorf("device %+v", d)
	}
	status, err := opener.Status(d)
	if want := (loop.Status{Label: label, ReadOnly: true}); err != nil || status != want {
		t.Errorf("status %+v, %v, want %+v", status, err, want)
	}
	all, err := loop.List()
	if err != nil || !slices.Contains(all, d) {
		t.Errorf("%+v is not listed: %v", d, err)
	}
	if _, err := opener.Bind(d.File, label+"l", false); err == nil {
		t.Error("a label that is too long is accepted")
	}
}

func TestAFileThatLostItsNameIsRecognised(t *testing.T) {
	_, d := bind(t, "", false)
	must(t, os.Remove(d.File))
	all, err := loop.List()
	must(t, err)
	i := slices.IndexFunc(all, func(o loop.Device) bool { return o.Number == d.Number })
	if i < 0 || all[i].File != d.File || !all[i].Deleted {
		t.Errorf("listed as %+v", all)
	}
}

func TestADeviceThatIsBoundAgainIsAnotherOne(t *testing.T) {
	opener, d := bind(t, "first", false)
	must(t, opener.Unbind(d, nothing))
	if _, err := opener.Status(d); !errors.Is(err, loop.ErrGone) {
		t.Errorf("status of a device that is free: %v", err)
	}
	again, err := opener.Bind(d.File, "second", false)
	must(t, err)
	if bound, err := loop.Bound(d); err != nil || bound {
		t.Errorf("the old device is bound: %t, %v", bound, err)
	}
	must(t, opener.Unbind(d, nothing)) // must leave the new one alone
	if status, err := opener.Status(again); err != nil || status.Label != "second" {
		t.Errorf("the new device: %+v, %v", status, err)
	}
	must(t, opener.Unbind(again, nothing))
}

func TestAnUnbindThatFindsAnOpenerTooLateIsTakenBack(t *testing.T) {
	opener, d := bind(t, "", false)
	path := node(t, d)
	var late *os.File
	err := opener.Unbind(d, func() (err error) {
		if late == nil {
			late, err = os.Open(path)
		}
		return err
	})
	if !errors.Is(err, loop.ErrBusy) {
		t.Fatalf("error %v", err)
	}
	if status, err := opener.Status(d); err != nil || status.AutoClear {
		t.Errorf("status %+v, %v", status, err)
	}
	must(t, late.Close())
	if bound, err := loop.Bound(d); err != nil || !bound {
		t.Errorf("the device went with its last user: %t, %v", bound, err)
	}
}

func TestAnUnbindThatIsCalledOffLeavesTheDevice(t *testing.T) {
	opener, d := bind(t, "", false)
	reason := errors.New("called off")
	if err := opener.Unbind(d, func() error { return reason }); !errors.Is(err, reason) {
		t.Errorf("error %v", err)
	}
	if bound, err := loop.Bound(d); err != nil || !bound {
		t.Errorf("bound: %t, %v", bound, err)
	}
}

func TestManyBindAtOnceWithoutSharingADevice(t *testing.T) {
	opener, d := bind(t, "", false)
	const parallel = 16
	devices, errs := make([]loop.Device, parallel), make([]error, parallel)
	var wg sync.WaitGroup
	for i := range parallel {
		wg.Go(func() { devices[i], errs[i] = opener.Bind(d.File, "", true) })
	}
	wg.Wait()
	seen := map[int]bool{}
	for i, bound := range devices {
		if errs[i] != nil {
			t.Error(errs[i])
			continue
		}
		if seen[bound.Number] {
			t.Errorf("%s was given twice", bound.Name())
		}
		seen[bound.Number] = true
		if err := opener.Unbind(bound, nothing); err != nil {
			t.Error(err)
		}
	}
}
