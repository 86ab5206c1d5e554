package blockdev

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// observed is how s looks for a disk, which tells when it has looked as often as looked
// has room.
func observed(s *System, volumeID string, looked chan struct{}) find {
	return func(ctx context.Context, _ <-chan struct{}) (Disk, error) {
		d, err := s.Find(ctx, volumeID)
		select {
		case looked <- struct{}{}:
		default:
		}
		return d, err
	}
}

func noHosts() []string { return nil }

// happen makes an event of the kernel about a disk of somebody else.
func happen(t *testing.T) {
	t.Helper()
	attach(t, t.TempDir(), "volume-"+volumeC, volumeC)
}

func TestWaitIsWokenByADiskThatComes(t *testing.T) {
	tr := newTree(t)
	s, looked := tr.system(), make(chan struct{}, 2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found := make(chan error, 1)
	go func() {
		d, err := s.wait(ctx, time.Hour, noHosts, observed(s, volumeA, looked))
		if err == nil && d.Name != "vdb" {
			err = errors.New("found " + d.Name)
		}
		found <- err
	}()
	<-looked
	<-looked // it watches before it looks for the second time
	start := time.Now()
	tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
	happen(t)
	if err := <-found; err != nil {
		t.Fatal(err)
	}
	t.Logf("after %v", time.Since(start))
}

// TestAHundredWaitersShareOneWatcherAndItsLooks: a new disk makes all of them look,
// but not each of them at all disks.
func TestAHundredWaitersShareOneWatcherAndItsLooks(t *testing.T) {
	const waiters = 100
	tr := newTree(t)
	s, looked := tr.system(), make(chan struct{}, 2*waiters)
	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	before := strings.Count(openFiles(t), "socket:")
	for range waiters {
		calls.Go(func() {
			if _, err := s.wait(ctx, time.Hour, noHosts, observed(s, volumeA, looked)); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	for range 2 * waiters {
		<-looked
	}
	// Each waiter has its call and nothing else; the watcher reads by one goroutine and
	// one socket.
	descriptors, goroutines := openFiles(t), runtime.NumGoroutine()
	if most := 2 + waiters + 5; goroutines > most {
		t.Errorf("%d goroutines, want %d at most", goroutines, most)
	}
	if n := strings.Count(descriptors, "socket:") - before; n != 1 {
		t.Errorf("%d sockets: %s", n, descriptors)
	}
	cancel()
	calls.Wait()
	if n := strings.Count(openFiles(t), "socket:") - before; n != 0 {
		t.Errorf("%d sockets are left", n)
	}
}

// openFiles lists what this process has open.
func openFiles(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			all = append(all, target)
		}
	}
	return strings.Join(all, " ")
}

func TestWaitFindsADiskWhoseDirectoriesComeLater(t *testing.T) {
	tr := newTree(t)
	tr.remove("dev")
	s, looked := tr.system(), make(chan struct{}, 2)
	found := make(chan error, 1)
	go func() {
		_, err := s.wait(t.Context(), 0, noHosts, observed(s, volumeA, looked))
		found <- err
	}()
	<-looked
	tr.dir("dev")
	tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
	if err := <-found; err != nil {
		t.Fatal(err)
	}
}

func TestWaitFindsADiskWhoseSerialComesWithoutAnEvent(t *testing.T) {
	tr := newTree(t)
	tr.disk("vdb", "252:16", nil)
	s, looked := tr.system(), make(chan struct{}, 2)
	found := make(chan error, 1)
	go func() {
		_, err := s.wait(t.Context(), time.Millisecond, noHosts, observed(s, volumeA, looked))
		found <- err
	}()
	<-looked
	tr.file("sys/block/vdb/serial", volumeA[:20])
	if err := <-found; err != nil {
		t.Fatal(err)
	}
}

// TestWaitHasTheKernelLookAgainAtADiskWithoutCapacity: the kernel asks but once.
func TestWaitHasTheKernelLookAgainAtADiskWithoutCapacity(t *testing.T) {
	tr := newTree(t)
	tr.disk("sda", "8:0", map[string]string{"device/vpd_pg80": page(0x80, volumeA), "size": "0", "device/rescan": ""})
	tr.disk("sdb", "8:16", map[string]string{"device/vpd_pg80": page(0x80, volumeC), "size": "0", "device/rescan": ""})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	type result struct {
		disk Disk
		err  error
	}
	found := make(chan result, 1)
	go func() {
		s := tr.system()
		s.Poll = 10 * time.Millisecond
		d, err := s.Wait(ctx, volumeA)
		found <- result{d, err}
	}()
	for asked := false; !asked && ctx.Err() == nil; time.Sleep(time.Millisecond) {
		got, err := os.ReadFile(tr.path("sys/block/sda/device/rescan"))
		if err != nil {
			t.Fatal(err)
		}
		asked = string(got) == "1"
	}
	tr.file("sys/block/sda/size", "2048")
	if r := <-found; r.err != nil || r.disk.Name != "sda" || r.disk.Size != 1<<20 {
		t.Errorf("found %+v, %v", r.disk, r.err)
	}
	if got, err := os.ReadFile(tr.path("sys/block/sdb/device/rescan")); err != nil || len(got) > 0 {
		t.Errorf("another disk was looked at: %q, %v", got, err)
	}
}

// TestASlowMetadataServiceDelaysNoDisk: the server has a disk of which nothing tells what
// it is, so that the service is asked, and takes long.
func TestASlowMetadataServiceDelaysNoDisk(t *testing.T) {
	tr := newTree(t)
	tr.bare("vdb", "252:16", "", nil)
	s := tr.system()
	s.Poll = time.Hour
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	s.Locate = func(context.Context, string) (Location, error) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-answer
		return Location{}, errors.New("too late")
	}
	defer close(answer)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found := make(chan error, 1)
	go func() {
		d, err := s.Wait(ctx, volumeA)
		if err == nil && d.Name != "vdc" {
			err = errors.New("found " + d.Name)
		}
		found <- err
	}()
	<-asked
	tr.disk("vdc", "252:32", map[string]string{"serial": volumeA[:20]})
	happen(t)
	select {
	case err := <-found:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the disk isn't found as long as the service doesn't answer")
	}
}

func TestWaitEndsWithItsContextAndSaysWhatItSaw(t *testing.T) {
	tr := newTree(t)
	s, looked := tr.system(), make(chan struct{}, 2)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-looked
		cancel()
	}()
	if _, err := s.wait(ctx, time.Hour, noHosts, observed(s, volumeA, looked)); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	cancelled, stop := context.WithCancel(t.Context())
	stop()
	if _, err := tr.system().Wait(cancelled, volumeA); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
}

func TestWaitDoesNotWaitForWhatIsWrong(t *testing.T) {
	tr := newTree(t)
	tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
	tr.disk("vdc", "252:32", map[string]string{"serial": volumeA[:20]})
	if _, err := tr.system().Wait(t.Context(), volumeA); !errors.Is(err, ErrUnsafe) {
		t.Errorf("%v", err)
	}
	if _, err := tr.system().Wait(t.Context(), "odd"); !errors.Is(err, ErrVolumeID) {
		t.Errorf("%v", err)
	}
}

func TestWaitFindsALoopDeviceThatComes(t *testing.T) {
	dev := t.TempDir()
	found := make(chan error, 1)
	go func() {
		_, err := (&Loop{DevDir: dev}).Wait(t.Context(), volumeA)
		found <- err
	}()
	attach(t, dev, "volume-"+volumeA, volumeA)
	if err := <-found; err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dev, "vdb")); err != nil {
		t.Fatal(err)
	}
}
