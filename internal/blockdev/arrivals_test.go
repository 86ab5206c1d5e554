package blockdev

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestNewsOfDisks(t *testing.T) {
	for message, want := range map[string]bool{
		"add@/devices/virtual/block/loop0\x00ACTION=add\x00DEVPATH=/devices/virtual/block/loop0\x00SUBSYSTEM=block\x00SEQNUM=1\x00": true,
		"change@/devices/x\x00ACTION=change\x00SUBSYSTEM=block\x00":                                                                 true,
		"remove@/devices/x\x00ACTION=remove\x00SUBSYSTEM=block\x00":                                                                 false,
		"add@/devices/x\x00ACTION=add\x00SUBSYSTEM=net\x00":                                                                         false,
		"add@/devices/x\x00ACTION=add\x00SUBSYSTEM=blocks\x00":                                                                      false,
		"libudev\x00\xfe\xed\xca\xfeSUBSYSTEM=block\x00":                                                                            false,
		"add@/devices/x\x00": false,
		"@":                  false,
		"":                   false,
	} {
		if got := newsOfDisk([]byte(message)); got != want {
			t.Errorf("%q: %t", message, got)
		}
	}
}

func FuzzNewsOfDisk(f *testing.F) {
	f.Add([]byte("add@/devices/virtual/block/loop0\x00ACTION=add\x00SUBSYSTEM=block\x00"))
	f.Add([]byte("\x00@\x00=\x00SUBSYSTEM="))
	f.Fuzz(func(_ *testing.T, message []byte) { newsOfDisk(message) })
}

func TestTheKernelTellsOfADiskThatComes(t *testing.T) {
	woken := make(chan struct{}, 1)
	e := listen(func() { wake(woken) })
	defer e.close()
	if e.kernel == nil {
		t.Fatal("this process may not listen to the kernel: run the test as root, outside of a user namespace")
	}
	attach(t, t.TempDir(), "volume-"+volumeA, volumeA)
	select {
	case <-woken:
	case <-time.After(time.Minute):
		t.Error("it didn't")
	}
}

// TestWaitIsWokenByTheKernel where no directory is watched.
func TestWaitIsWokenByTheKernel(t *testing.T) {
	looked, there := make(chan struct{}, 2), make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found := make(chan error, 1)
	go func() {
		var w waiter
		_, err := w.wait(ctx, search{
			find: func(context.Context, chan struct{}) (Disk, error) {
				wake(looked)
				select {
				case <-there:
					return Disk{Name: "vdb"}, nil
				default:
					return Disk{}, ErrNotFound
				}
			},
			hosts: func() []string { return nil }, poll: time.Hour,
		})
		found <- err
	}()
	<-looked
	close(there)
	start := time.Now()
	attach(t, t.TempDir(), "volume-"+volumeA, volumeA)
	if err := <-found; err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	t.Logf("after %v", time.Since(start))
}
