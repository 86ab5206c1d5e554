package inside

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
)

// TestADiskWithReadErrorsIsNeverFormatted has a disk with data whose head can't
// be read, which must not pass for a blank one.
func TestADiskWithReadErrorsIsNeverFormatted(t *testing.T) {
	for _, bus := range []wire.Bus{wire.VirtioBlk, wire.VirtioSCSI} {
		t.Run(string(bus), func(t *testing.T) {
			v := newVolume(t, bus, 64*mib, filesystemOf("ext4"))
			v.attach(t)
			v.use(t)
			content := v.write(t)
			v.release(t)
			v.detach(t)

			v.disk.BadBytes = 64 << 10
			v.wantUnreadable(t)
			v.detach(t)

			v.disk.BadBytes = 0
			v.attach(t)
			v.use(t)
			v.wantContent(t, content)
			v.release(t)
		})
	}
}

// TestABlankDiskWithReadErrorsIsNeverFormatted reads as blank but for its end,
// where something may be.
func TestABlankDiskWithReadErrorsIsNeverFormatted(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			v := newVolume(t, wire.VirtioBlk, small, filesystemOf(fsType))
			v.disk.BadFrom, v.disk.BadBytes = small-4<<10, 4<<10
			v.wantUnreadable(t)
		})
	}
}

// wantUnreadable attaches a disk that has read errors and checks that nothing
// happens to it but to be refused.
func (v *volume) wantUnreadable(t testing.TB) {
	t.Helper()
	disk := v.attach(t)
	v.wantUntouched(t, func() {
		found, err := filesystem.New(filesystem.Options{}).Probe(patient(t), filesystem.Device{Path: disk.Path})
		if err == nil {
			t.Errorf("probed as %v", found)
		} else if !errors.Is(err, unix.EIO) {
			t.Errorf("probe: %v, want an I/O error", err)
		}
		for range 2 {
			wantCode(t, v.stage(patient(t)), codes.Internal, "input/output error")
		}
	})
}

// TestADiskThatHangsKeepsNoOtherWaiting has a disk whose queue is full of reads
// that are not answered, so that it can't even be asked for its serial.
func TestADiskThatHangsKeepsNoOtherWaiting(t *testing.T) {
	hung := newVolume(t, wire.VirtioBlk, 64*mib, rawBlock())
	hung.disk.CanHang = true
	disk := hung.attach(t)
	quick := newVolume(t, wire.VirtioBlk, 64*mib, rawBlock())
	quick.attach(t)
	known := &blockdev.System{}
	if _, err := known.Find(patient(t), hung.id); err != nil {
		t.Fatal(err)
	}
	hang(t, hung.id)
	resumed := fill(t, disk)
	answered := make(chan struct{})
	go func() {
		_, _ = os.ReadFile("/sys/block/" + disk.Name + "/serial")
		close(answered)
	}()
	for range 2 {
		began := time.Now()
		// As callers do: one look may end before a busy machine has asked each disk.
		if _, err := (&blockdev.System{}).Wait(patient(t), quick.id); err != nil {
			t.Errorf("another disk: %v", err)
		}
		t.Logf("another disk was found after %v", time.Since(began).Round(time.Millisecond))
		if _, err := known.Find(patient(t), hung.id); err != nil {
			t.Errorf("the disk itself, which has told its serial before: %v", err)
		}
	}
	select {
	case <-answered:
		t.Error("the disk has told its serial, so that this test shows nothing")
	default:
	}
	resume(t, hung.id)
	resumed()
	<-answered
}

// fill fills the queue of a disk that hangs with reads. The function it returns
// waits for them, once the disk has been resumed.
func fill(t testing.TB, disk blockdev.Disk) (resumed func()) {
	t.Helper()
	const block = 4 << 10
	attribute := func(name string) int {
		data, err := os.ReadFile("/sys/block/" + disk.Name + "/" + name)
		must(t, err)
		number, err := strconv.Atoi(strings.Fields(string(data))[0])
		must(t, err)
		return number
	}
	room := attribute("mq/0/nr_tags")
	var reading sync.WaitGroup
	// The first is still answered.
	for at := range room + 1 {
		f, err := os.OpenFile(disk.Path, os.O_RDONLY|unix.O_DIRECT, 0)
		must(t, err)
		buf, err := unix.Mmap(-1, 0, block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		must(t, err)
		reading.Go(func() {
			defer func() { _ = errors.Join(f.Close(), unix.Munmap(buf)) }()
			if _, err := unix.Pread(int(f.Fd()), buf, int64(at)*block); err != nil {
				t.Errorf("read at block %d of the disk that hung: %v", at, err)
			}
		})
	}
	eventually(t, "the queue is full", func() bool { return attribute("inflight") == room })
	return reading.Wait
}

// TestAReadOnlyDisk is one that the hypervisor doesn't let be written to.
func TestAReadOnlyDisk(t *testing.T) {
	for _, bus := range []wire.Bus{wire.VirtioBlk, wire.VirtioSCSI} {
		for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
			if bus == wire.VirtioSCSI && fsType != "ext4" {
				continue
			}
			t.Run(fsType+" on "+string(bus), func(t *testing.T) {
				v := newVolume(t, bus, small, filesystemOf(fsType))
				v.disk.ReadOnly = true
				v.attach(t)
				v.wantUntouched(t, func() {
					wantCode(t, v.stage(patient(t)), codes.FailedPrecondition, "read-only") // blank
				})
				v.detach(t)

				v.disk.ReadOnly = false
				v.attach(t)
				v.use(t)
				content := v.write(t)
				v.release(t)
				v.detach(t)

				v.disk.ReadOnly = true
				v.attach(t)
				v.wantUntouched(t, func() {
					wantCode(t, v.stage(patient(t)), codes.FailedPrecondition, "read-only") // to be written to
					v.capability = readOnly(fsType)
					v.use(t)
					v.wantContent(t, content)
					if err := os.WriteFile(v.file(), nil, 0o600); !errors.Is(err, unix.EROFS) {
						t.Errorf("written to: %v", err)
					}
					v.release(t)
				})
			})
		}
	}
}

// TestADiskPulledWhileItIsMounted loses its disk under a workload. Everything
// is taken away then, and the disk works again when it comes back.
func TestADiskPulledWhileItIsMounted(t *testing.T) {
	for _, bus := range []wire.Bus{wire.VirtioBlk, wire.VirtioSCSI} {
		for _, fsType := range []string{"ext4", "xfs", "btrfs"} {
			t.Run(fsType+" on "+string(bus), func(t *testing.T) {
				v := newVolume(t, bus, small, filesystemOf(fsType))
				v.attach(t)
				v.use(t)
				content := v.write(t)
				v.detach(t)

				_, err := v.expand(patient(t), small)
				wantCode(t, err, codes.Unavailable)
				v.release(t)
				wantNotMounted(t, v)

				v.attach(t)
				v.use(t)
				v.wantContent(t, content)
				v.release(t)
			})
		}
	}
}

// TestADiskPulledAndPutBackWhileItIsMounted comes back under its old name and
// number, over which the dead mount must not be taken for the disk's.
func TestADiskPulledAndPutBackWhileItIsMounted(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs"} {
		t.Run(fsType, func(t *testing.T) {
			v := newVolume(t, wire.VirtioBlk, small, filesystemOf(fsType))
			v.attach(t)
			v.use(t)
			content := v.write(t)
			v.detach(t)
			v.attach(t)

			// The kubelet unpublishes the pod that has failed, and starts another.
			must(t, v.unpublish(patient(t)))
			v.use(t)
			v.wantContent(t, content)
			content = v.write(t)
			v.release(t)
			wantNotMounted(t, v)
			v.use(t)
			v.wantContent(t, content)
			v.release(t)
		})
	}
}

// TestADiskThatIgnoresItsUnplug is on a bus that doesn't tell of it: the cloud
// says that the disk is gone, and the guest still shows it.
func TestADiskThatIgnoresItsUnplug(t *testing.T) {
	v := newVolume(t, wire.MuteSCSI, 64*mib, filesystemOf("ext4"))
	stale := v.attach(t)
	v.use(t)
	content := v.write(t)
	pull(t, v.disk.Image)
	if !present(v.id) {
		t.Fatal("the guest has noticed that the disk has gone, so that this test shows nothing")
	}
	v.release(t)
	wantNotMounted(t, v)
	wantCode(t, v.stage(patient(t)), codes.Internal) // it can't be read

	// The cloud attaches the volume again, at another place, and the guest has
	// it twice.
	ask(t, wire.Request{Action: wire.Plug, Disk: wire.Disk{
		Image: "at the old place", Bus: wire.MuteSCSI, Serial: v.id, Size: 8 * mib,
	}})
	ask(t, wire.Request{Action: wire.Plug, Disk: v.disk})
	scan(t)
	eventually(t, "it is there twice", func() bool { return len(scsiDisks(t, v.id)) == 2 })
	names := scsiDisks(t, v.id)
	v.wantUntouched(t, func() {
		wantCode(t, v.stage(patient(t)), codes.FailedPrecondition, "more than one disk has its serial", names[0], names[1])
	})

	must(t, os.WriteFile("/sys/block/"+stale.Name+"/device/delete", []byte("1"), 0o200))
	v.use(t)
	v.wantContent(t, content)
	v.release(t)
}

// TestUnstageWhileAGhostHasTheSameSerial has the volume attached a second time
// while it is staged, as the guest sees it: no more than one of the two can be
// the disk, but both must be unused in the end.
func TestUnstageWhileAGhostHasTheSameSerial(t *testing.T) {
	v := newVolume(t, wire.VirtioSCSI, 64*mib, filesystemOf("ext4"))
	disk := v.attach(t)
	v.use(t)
	content := v.write(t)
	ghost := wire.Disk{Image: "ghost", Bus: wire.VirtioSCSI, Serial: v.id, Size: 8 * mib}
	plug(t, ghost)
	eventually(t, "it is there twice", func() bool { return len(scsiDisks(t, v.id)) == 2 })
	must(t, v.unpublish(patient(t)))

	// Something uses the ghost, or the real one: which of them doesn't matter.
	for _, name := range scsiDisks(t, v.id) {
		if name == disk.Name {
			continue
		}
		f, err := os.OpenFile("/dev/"+name, os.O_RDONLY|unix.O_EXCL, 0)
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		_, err = server().NodeUnstageVolume(ctx, v.unstageRequest())
		cancel()
		must(t, f.Close())
		wantCode(t, err, codes.FailedPrecondition, "/dev/"+name)
	}
	must(t, v.unstage(patient(t)))
	wantNotMounted(t, v)
	pull(t, ghost.Image)
	eventually(t, "the ghost has gone", func() bool { return len(scsiDisks(t, v.id)) == 1 })
	v.use(t)
	v.wantContent(t, content)
	v.release(t)
}

// TestUnstageOfTheBootVolumeTouchesNothing asks for the volume that the server
// was booted from.
func TestUnstageOfTheBootVolumeTouchesNothing(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 0, filesystemOf("ext4"))
	v.id = bootVolume(t)
	wantCode(t, v.unstage(patient(t)), codes.FailedPrecondition, "/dev/vda", "mounted at /boot")
	if _, err := os.Stat("/boot/lost+found"); err != nil {
		t.Error(err)
	}
}

// TestADiskThatComesBackToItsPlace is on a bus that doesn't tell of it. The kernel,
// which has asked for the capacity while the disk was away, does not ask again.
func TestADiskThatComesBackToItsPlace(t *testing.T) {
	v := newVolume(t, wire.MuteSCSI, 64*mib, filesystemOf("ext4"))
	disk := v.attach(t)
	v.use(t)
	content := v.write(t)
	v.release(t)
	pull(t, v.disk.Image)
	lookAgain(t, disk.Name)
	if _, err := (&blockdev.System{}).Find(t.Context(), v.id); err == nil || !strings.Contains(err.Error(), "no capacity") {
		t.Fatalf("%v, so that this test shows nothing", err)
	}
	plug(t, v.disk)
	v.use(t)
	v.wantContent(t, content)
	v.release(t)
}

// TestADiskWhosePlaceWasGivenToAnother is on a bus that doesn't tell of it: the
// guest still shows the serial of the volume that was there before.
func TestADiskWhosePlaceWasGivenToAnother(t *testing.T) {
	for _, content := range []string{"blank", "ext4"} {
		t.Run(content, func(t *testing.T) {
			v := newVolume(t, wire.MuteSCSI, 64*mib, filesystemOf("ext4"))
			other := newVolume(t, wire.MuteSCSI, 64*mib, filesystemOf("ext4"))
			if content == "ext4" {
				other.attach(t)
				other.use(t)
				other.write(t)
				other.release(t)
				other.detach(t)
			}
			v.attach(t)
			pull(t, v.disk.Image)
			plug(t, other.disk)
			t.Cleanup(func() { other.forget(t) })
			if names := scsiDisks(t, v.id); len(names) != 1 {
				t.Fatalf("the guest shows %v, so that this test shows nothing", names)
			}
			other.wantUntouched(t, func() {
				wantCode(t, v.stage(patient(t)), codes.FailedPrecondition, "serial")
				_, err := v.expand(patient(t), 64*mib)
				wantCode(t, err, codes.NotFound)
				must(t, v.unpublish(patient(t)))
				must(t, v.unstage(patient(t)))
			})
		})
	}
}

// TestADiskWhosePlaceWasGivenToAnotherAfterStaging is the same for a block
// volume, of which staging leaves nothing behind.
func TestADiskWhosePlaceWasGivenToAnotherAfterStaging(t *testing.T) {
	v := newVolume(t, wire.MuteSCSI, 8*mib, rawBlock())
	other := newVolume(t, wire.MuteSCSI, 8*mib, rawBlock())
	v.attach(t)
	must(t, v.stage(patient(t)))
	pull(t, v.disk.Image)
	plug(t, other.disk)
	t.Cleanup(func() { other.forget(t) })
	wantCode(t, v.publish(patient(t)), codes.FailedPrecondition, "serial")
	v.release(t)
}

func wantNotMounted(t testing.TB, v *volume) {
	t.Helper()
	fs := filesystem.New(filesystem.Options{})
	for _, path := range []string{v.staging, v.target} {
		mount, mounted, err := fs.Lookup(path)
		must(t, err)
		if mounted {
			t.Errorf("%+v is left mounted", mount)
		}
	}
}

// TestTheBootDiskIsNeverTouched asks for the very volume that the server was
// booted from. The host proves at the end that not a byte of it has changed.
func TestTheBootDiskIsNeverTouched(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 0, filesystemOf("ext4"))
	v.id = bootVolume(t)
	_, err := (&blockdev.System{}).Find(t.Context(), v.id)
	if !errors.Is(err, blockdev.ErrUnsafe) {
		t.Fatalf("got %v, want it to be unsafe", err)
	}
	wantCode(t, v.stage(patient(t)), codes.FailedPrecondition, "/dev/vda", "partition vda1", "mounted at /boot")
	v.capability = rawBlock()
	wantCode(t, v.stage(patient(t)), codes.FailedPrecondition, "mounted at /boot")
	wantCode(t, v.publish(patient(t)), codes.FailedPrecondition, "mounted at /boot")
	_, err = v.expand(patient(t), mib)
	wantCode(t, err, codes.NotFound)
	if _, err := os.Stat("/boot/lost+found"); err != nil {
		t.Error(err)
	}
}

// bootVolume returns an id that fits the boot disk's serial.
func bootVolume(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("/sys/block/vda/serial")
	must(t, err)
	return sibling(string(data))
}
