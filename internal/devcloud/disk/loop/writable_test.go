package loop_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestADeviceIsWritableWhateverWasDoneToItBefore(t *testing.T) {
	// Another process may take the device between its two uses here: then with
	// the next one.
	for range 20 {
		opener, d := bind(t, "first", false)
		path := node(t, d)
		setReadOnly(t, path)
		must(t, opener.Unbind(d, nothing))
		again, err := opener.Bind(d.File, "second", false)
		must(t, err)
		readOnly := isReadOnly(t, node(t, again))
		must(t, opener.Unbind(again, nothing))
		if readOnly {
			t.Errorf("%s is read-only after it was bound again", again.Name())
		}
		if again.Number == d.Number {
			return
		}
	}
	t.Error("the device was taken by others 20 times")
}

func setReadOnly(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	must(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, 1))
}

func isReadOnly(t *testing.T, path string) bool {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	flag, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET)
	must(t, err)
	return flag != 0
}
