package inside

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
)

// TestAVolumeLivesItsWholeLife takes volumes of each kind through every call
// of the node service, on both buses that Nova uses.
func TestAVolumeLivesItsWholeLife(t *testing.T) {
	for _, bus := range []wire.Bus{wire.VirtioBlk, wire.VirtioSCSI} {
		for _, kind := range []struct {
			name       string
			capability *csi.VolumeCapability
		}{
			{"ext4", filesystemOf("ext4")},
			{"xfs", filesystemOf("xfs")},
			{"btrfs", filesystemOf("btrfs")},
			{"block", rawBlock()},
		} {
			t.Run(kind.name+" on "+string(bus), func(t *testing.T) {
				v := newVolume(t, bus, small, kind.capability)
				v.attach(t)
				v.use(t)
				content := v.write(t)

				resize(t, v.disk.Image, 2*small, 0)
				size, err := v.expand(patient(t), 2*small)
				must(t, err)
				if size != 2*small {
					t.Errorf("expanded to %d bytes, want %d", size, 2*small)
				}
				v.wantSize(t, 2*small)
				v.wantContent(t, content)
				v.release(t)
				if _, err := os.Lstat(v.target); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the target is left: %v", err)
				}

				v.detach(t)
				v.attach(t)
				v.use(t)
				v.wantContent(t, content)
				v.wantSize(t, 2*small)
				v.release(t)
			})
		}
	}
}

// TestExt4GrowsWhileItIsMounted has the capability that it takes, which a
// container without CAP_SYS_RESOURCE has not.
func TestExt4GrowsWhileItIsMounted(t *testing.T) {
	if ext4, err := filesystem.TypeOf("ext4"); err != nil || !ext4.GrowsOnline() {
		t.Fatal("root in the guest lacks CAP_SYS_RESOURCE")
	}
	v := newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4"))
	v.attach(t)
	v.use(t)
	f, err := os.Create(v.file())
	must(t, err)
	defer func() { _ = f.Close() }() // open all the while
	for _, size := range []int64{128 * mib, 512 * mib} {
		resize(t, v.disk.Image, size, 0)
		_, err := v.expand(patient(t), size)
		must(t, err)
		v.wantSize(t, size)
		_, err = f.WriteString("written while it grows")
		must(t, err)
	}
	must(t, f.Close())
	v.release(t)
}

// TestADiskThatGrowsLate is told to grow when the call that needs it has given
// up, or while it waits.
func TestADiskThatGrowsLate(t *testing.T) {
	for _, c := range []struct {
		bus    wire.Bus
		fsType string
	}{
		{wire.VirtioBlk, "ext4"},
		{wire.VirtioSCSI, "xfs"},
		{wire.MuteSCSI, "ext4"},
		{wire.MuteSCSI, "btrfs"},
	} {
		t.Run(c.fsType+" on "+string(c.bus), func(t *testing.T) {
			t.Parallel()
			v := newVolume(t, c.bus, small, filesystemOf(c.fsType))
			v.attach(t)
			v.use(t)
			content := v.write(t)

			began := time.Now()
			_, err := v.expand(patient(t), 2*small)
			wantCode(t, err, codes.Unavailable, "doesn't see the growth yet")
			t.Logf("it took %v to say so", time.Since(began).Round(time.Millisecond))
			v.wantSize(t, small)

			resize(t, v.disk.Image, 2*small, time.Second)
			began = time.Now()
			_, err = v.expand(patient(t), 2*small)
			must(t, err)
			t.Logf("it took %v to grow, of which one second is the host's", time.Since(began).Round(time.Millisecond))
			v.wantSize(t, 2*small)
			v.wantContent(t, content)

			_, err = v.expand(patient(t), 2*small) // again: nothing to do
			must(t, err)
			v.release(t)
		})
	}
}

// TestADiskThatHasGrownUnseen has grown when it is staged, on a bus that doesn't
// tell of it.
func TestADiskThatHasGrownUnseen(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs"} {
		t.Run(fsType, func(t *testing.T) {
			v := newVolume(t, wire.MuteSCSI, small, filesystemOf(fsType))
			v.attach(t)
			v.use(t)
			content := v.write(t)
			v.release(t)
			resize(t, v.disk.Image, 2*small, 0)
			v.use(t)
			v.wantSize(t, 2*small)
			v.wantContent(t, content)
			v.release(t)
		})
	}
}

// TestExtThatTheKernelDoesNotGrowInUse has grown when it is staged, and a feature
// that only resize2fs knows how to grow.
func TestExtThatTheKernelDoesNotGrowInUse(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, small, filesystemOf("ext4"))
	disk := v.attach(t)
	run(t, "mkfs.ext4", "-q", "-O", "sparse_super2,^resize_inode", disk.Path)
	v.use(t)
	content := v.write(t)
	resize(t, v.disk.Image, 2*small, 0)
	waitForSize(t, disk.Name, 2*small)
	_, err := v.expand(patient(t), 2*small)
	wantCode(t, err, codes.FailedPrecondition, "staged next")
	must(t, v.stage(patient(t))) // for another pod
	v.wantSize(t, small)
	v.release(t)
	v.use(t)
	v.wantSize(t, 2*small)
	v.wantContent(t, content)
	v.release(t)
}

// run runs a program, as somebody else may. It works while a test cleans up, too.
func run(t testing.TB, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
}

// TestExtIsNotGrownBeyondTheNumbersOfItsBlocks has an ext3 with blocks of 1 KiB,
// which may have 4 TiB. Not every kernel looks, and one that doesn't writes where
// other blocks are.
func TestExtIsNotGrownBeyondTheNumbersOfItsBlocks(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext3"))
	disk := v.attach(t)
	run(t, "mkfs.ext3", "-q", "-b", "1024", disk.Path)
	v.use(t)
	content := v.write(t)
	const tooMuch = 5 << 40
	resize(t, v.disk.Image, tooMuch, 0)
	waitForSize(t, disk.Name, tooMuch)
	_, err := v.expand(patient(t), tooMuch)
	wantCode(t, err, codes.FailedPrecondition, "64bit")
	v.wantSize(t, 64*mib)
	v.wantContent(t, content)
	v.release(t)
}

// TestAReadOnlyPublicationIsNoObstacleToGrowth: it may come first in the table of
// mounts, where resize2fs looks for the one to grow by.
func TestAReadOnlyPublicationIsNoObstacleToGrowth(t *testing.T) {
	v := newVolume(t, wire.VirtioBlk, 64*mib, filesystemOf("ext4"))
	disk := v.attach(t)
	v.use(t)
	content := v.write(t)
	v.release(t)
	must(t, os.MkdirAll(v.target, 0o750))
	must(t, unix.Mount(disk.Path, v.target, "ext4", 0, ""))
	must(t, unix.Mount(v.target, v.staging, "", unix.MS_BIND, ""))
	must(t, unix.Mount("", v.target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	resize(t, v.disk.Image, 192*mib, 0)
	size, err := v.expand(patient(t), 192*mib)
	if err != nil || size != 192*mib {
		t.Errorf("expanded to %d, %v", size, err)
	}
	v.wantUsage(t, 192*mib)
	v.wantContent(t, content)
	v.release(t)
}
