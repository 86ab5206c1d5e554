package inside

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
)

// TestADiskThatArrivesLateIsNoticedAtOnce is about disks that the kernel tells of:
// they are found though nobody looks without having been woken. It tells how long
// that takes from the moment at which the kernel makes the device node.
func TestADiskThatArrivesLateIsNoticedAtOnce(t *testing.T) {
	for _, bus := range []wire.Bus{wire.VirtioBlk, wire.VirtioSCSI, wire.NVMe} {
		t.Run(string(bus), func(t *testing.T) {
			var lags []time.Duration
			for range 3 {
				v := newVolume(t, bus, 8*mib, rawBlock())
				ask(t, wire.Request{Action: wire.Plug, Disk: v.disk, After: 300 * time.Millisecond})
				disk, err := (&blockdev.System{Poll: time.Hour}).Wait(patient(t), v.id)
				now := time.Now()
				must(t, err)
				lags = append(lags, now.Sub(born(t, disk.Path)))
				v.detach(t)
			}
			t.Logf("noticed after %v", lags)
		})
	}
}

// born returns when a device node was made.
func born(t testing.TB, path string) time.Time {
	t.Helper()
	var st unix.Statx_t
	must(t, unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BTIME, &st))
	if st.Mask&unix.STATX_BTIME == 0 {
		t.Fatalf("the kernel does not tell when %s was made", path)
	}
	return time.Unix(st.Btime.Sec, int64(st.Btime.Nsec))
}

// TestADiskThatItsHostDoesNotAnnounce comes while a call waits for it, on a host
// that has to be told to look; another one isn't.
func TestADiskThatItsHostDoesNotAnnounce(t *testing.T) {
	v := newVolume(t, wire.MuteSCSI, 64*mib, filesystemOf("ext4"))
	plug(t, v.disk)
	t.Cleanup(func() { v.forget(t) })
	if present(v.id) {
		t.Fatal("the guest has been told of the disk, so that this test shows nothing")
	}
	must(t, v.stage(patient(t)))
	must(t, v.unstage(patient(t)))
	v.detach(t)

	ask(t, wire.Request{Action: wire.Plug, Disk: v.disk, After: 2 * time.Second})
	v.use(t)
	v.release(t)
}

// TestADiskThatArrivesWhileItIsStaged is what happens in a cloud: it says that
// the disk is attached before the guest has it.
func TestADiskThatArrivesWhileItIsStaged(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4"))
	ask(t, wire.Request{Action: wire.Plug, Disk: v.disk, After: 2 * time.Second})
	v.use(t)
	v.release(t)
}

// TestADiskThatNeverComes makes the call end before its deadline, so that the
// caller hears why.
func TestADiskThatNeverComes(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4"))
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	err := v.stage(ctx)
	if ctx.Err() != nil {
		t.Error("the call has overrun its deadline")
	}
	wantCode(t, err, codes.Unavailable, v.id, "has not appeared within")

	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = (&blockdev.System{}).Wait(ctx, v.id)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, blockdev.ErrNotFound) {
		t.Errorf("got %v, want the deadline and what was found", err)
	}
	must(t, v.unstage(patient(t))) // what the kubelet does next
}

// sibling returns an id that virtio can't tell from id: only the first 20 of 36
// characters reach the guest.
func sibling(id string) string {
	return id[:20] + uuid.NewString()[20:]
}

// TestTwoDisksWithTheSamePrefixAreRefused has two volumes whose ids virtio-blk
// cuts to the same serial.
func TestTwoDisksWithTheSamePrefixAreRefused(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4"))
	disk := v.attach(t)
	other := newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4"))
	other.id = sibling(v.id)
	other.disk.Serial = other.id
	plug(t, other.disk)
	var err error
	eventually(t, "both are there", func() bool {
		_, err = (&blockdev.System{}).Find(t.Context(), v.id)
		return err != nil
	})
	if !errors.Is(err, blockdev.ErrUnsafe) {
		t.Fatalf("got %v, want it to be unsafe", err)
	}
	for _, x := range []*volume{v, other} {
		v.wantUntouched(t, func() {
			other.wantUntouched(t, func() {
				wantCode(t, x.stage(patient(t)), codes.FailedPrecondition, "more than one disk has its serial", disk.Name, "vdc")
			})
		})
	}
	pull(t, other.disk.Image)
	eventually(t, "the guest lets go of the second disk", func() bool {
		_, err := (&blockdev.System{}).Find(t.Context(), v.id)
		return err == nil
	})
	v.use(t)
	v.release(t)
}

// TestTwoDisksWithTheSamePrefixOnSCSI are told apart: SCSI carries a whole id.
func TestTwoDisksWithTheSamePrefixOnSCSI(t *testing.T) {
	v := newVolume(t, wire.VirtioSCSI, 64*mib, filesystemOf("ext4"))
	other := newVolume(t, wire.VirtioSCSI, 64*mib, filesystemOf("ext4"))
	other.id = sibling(v.id)
	other.disk.Serial = other.id
	first, second := v.attach(t), other.attach(t)
	if first.Path == second.Path {
		t.Errorf("both are %s", first.Path)
	}
	again, err := (&blockdev.System{}).Find(t.Context(), v.id)
	must(t, err)
	if again.Path != first.Path {
		t.Errorf("%s was %s before the other one came", again.Path, first.Path)
	}
	other.wantUntouched(t, func() {
		v.use(t)
		v.release(t)
	})
}

// TestMoreThan26Disks goes beyond what one letter can name.
func TestMoreThan26Disks(t *testing.T) {
	const count = 27
	volumes := make([]*volume, count)
	for i := range volumes {
		bus := wire.VirtioBlk
		if i%2 == 0 {
			bus = wire.Bridged
		}
		volumes[i] = newVolume(t, bus, 64*mib, filesystemOf("ext4"))
		ask(t, wire.Request{Action: wire.Plug, Disk: volumes[i].disk}) // the host pulls them all at once
	}
	names := map[string]bool{}
	var last *volume
	for _, v := range volumes {
		disk, err := (&blockdev.System{}).Wait(patient(t), v.id)
		must(t, err)
		if names[disk.Name] {
			t.Errorf("%s is found twice", disk.Name)
		}
		names[disk.Name] = true
		if len(disk.Name) > len("vdz") {
			last = v
			t.Logf("volume %s is %s", v.id, disk.Path)
		}
	}
	if last == nil {
		t.Fatalf("none of %d disks has a name of two letters: %v", count, names)
	}
	last.use(t)
	content := last.write(t)
	last.wantContent(t, content)
	last.release(t)
}
