package disk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk"
)

func TestAVolumeIsASparseFileOfItsSize(t *testing.T) {
	s, dir := newStore(t)
	id := newVolume(t, s, 1024*mib)
	info, err := os.Stat(filepath.Join(dir, "volumes", "volume-"+id))
	must(t, err)
	if info.Size() != 1024*mib {
		t.Errorf("size %d", info.Size())
	}
	if blocks := info.Sys().(*syscall.Stat_t).Blocks; blocks != 0 {
		t.Errorf("%d blocks are allocated", blocks)
	}
	must(t, s.Create(id, 1024*mib))
	wantError(t, s.Create(id, 2048*mib), disk.ErrInvalid, id, "exists")
}

func TestCopiesHoldTheContentAndTheHolesOfTheirSource(t *testing.T) {
	s, _ := newStore(t)
	source := newVolume(t, s, 256*mib)
	head, tail := random(100_000), random(4096)
	write(t, s.Path(disk.FromVolume(source)), head, 3*mib+17)
	write(t, s.Path(disk.FromVolume(source)), tail, 256*mib-4096)

	snapshot, backup, restored, plain, clone := uuid.NewString(), uuid.NewString(), uuid.NewString(), uuid.NewString(), uuid.NewString()
	must(t, s.Snapshot(snapshot, source))
	must(t, s.Backup(backup, disk.FromSnapshot(snapshot)))
	must(t, s.Copy(plain, disk.FromSnapshot(snapshot), 256*mib))
	must(t, s.Copy(clone, disk.FromVolume(source), 512*mib))
	must(t, s.Create(restored, 300*mib))
	must(t, s.Restore(restored, disk.FromBackup(backup)))

	for _, c := range []struct {
		of   disk.Source
		size int64
	}{
		{disk.FromSnapshot(snapshot), 256 * mib},
		{disk.FromBackup(backup), 256 * mib},
		{disk.FromVolume(plain), 256 * mib},
		{disk.FromVolume(clone), 512 * mib},
		{disk.FromVolume(restored), 300 * mib},
	} {
		size, err := s.Size(c.of)
		if err != nil || size != c.size {
			t.Errorf("%s: size %d, %v, want %d", c.of, size, err, c.size)
		}
		path := s.Path(c.of)
		if !bytes.Equal(read(t, path, len(head), 3*mib+17), head) || !bytes.Equal(read(t, path, len(tail), 256*mib-4096), tail) {
			t.Errorf("%s: other content", c.of)
		}
		if !bytes.Equal(read(t, path, 4096, 128*mib), make([]byte, 4096)) {
			t.Errorf("%s: a hole is not empty", c.of)
		}
		var st unix.Stat_t
		must(t, unix.Stat(path, &st))
		if st.Blocks*512 > mib {
			t.Errorf("%s: %d bytes allocated for 104 kB of data", c.of, st.Blocks*512)
		}
	}
}

func TestACopyThatIsThereIsNotMadeAgain(t *testing.T) {
	s, _ := newStore(t)
	source := newVolume(t, s, mib)
	snapshot, copied := uuid.NewString(), uuid.NewString()
	must(t, s.Snapshot(snapshot, source))
	must(t, s.Copy(copied, disk.FromSnapshot(snapshot), mib))

	write(t, s.Path(disk.FromVolume(source)), []byte("later"), 0)
	write(t, s.Path(disk.FromVolume(copied)), []byte("mine"), 0)
	must(t, s.Snapshot(snapshot, source))
	must(t, s.Copy(copied, disk.FromVolume(source), 2*mib))
	if got := read(t, s.Path(disk.FromSnapshot(snapshot)), 5, 0); !bytes.Equal(got, make([]byte, 5)) {
		t.Errorf("the snapshot changed to %q", got)
	}
	if got := read(t, s.Path(disk.FromVolume(copied)), 4, 0); string(got) != "mine" {
		t.Errorf("the copy was overwritten with %q", got)
	}
	if size, err := s.Size(disk.FromVolume(copied)); err != nil || size != 2*mib {
		t.Errorf("the copy was not extended: %d, %v", size, err)
	}
}

func TestASnapshotOfAMountedFilesystemHoldsWhatWasSynced(t *testing.T) {
	for _, fs := range []struct {
		kind, mkfs string
	}{{"xfs", "mkfs.xfs"}, {"ext4", "mkfs.ext4"}, {"btrfs", "mkfs.btrfs"}} {
		t.Run(fs.kind, func(t *testing.T) {
			s, _ := newStore(t)
			id := newVolume(t, s, 512*mib)
			node := attach(t, s, "node-1", id)
			run(t, fs.mkfs, "-q", node)
			target := mount(t, node, fs.kind)
			content := random(int(3 * mib))
			must(t, os.WriteFile(filepath.Join(target, "file"), content, 0o600))
			run(t, "sync", "-f", target)

			snapshot, restored := uuid.NewString(), uuid.NewString()
			must(t, s.Snapshot(snapshot, id))
			must(t, os.WriteFile(filepath.Join(target, "file"), []byte("later"), 0o600))
			unmount(t, target)
			must(t, s.Detach("node-1", id)) // xfs and btrfs refuse two filesystems of one UUID

			must(t, s.Copy(restored, disk.FromSnapshot(snapshot), 512*mib))
			target = mount(t, attach(t, s, "node-1", restored), fs.kind)
			got, err := os.ReadFile(filepath.Join(target, "file"))
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("the file has %d bytes (%v), want the %d that were synced", len(got), err, len(content))
			}
			unmount(t, target)
			must(t, s.Detach("node-1", restored))
		})
	}
}

func TestASnapshotHoldsWhatWasWrittenToARawDevice(t *testing.T) {
	s, _ := newStore(t)
	id := newVolume(t, s, 64*mib)
	node := attach(t, s, "node-1", id)
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	must(t, err)
	defer func() { _ = f.Close() }()
	content := random(int(mib))
	_, err = f.WriteAt(content, 8*mib) // and stays in the device's cache
	must(t, err)
	snapshot := uuid.NewString()
	must(t, s.Snapshot(snapshot, id))
	if got := read(t, s.Path(disk.FromSnapshot(snapshot)), len(content), 8*mib); !bytes.Equal(got, content) {
		t.Error("the snapshot lacks what was written before it")
	}
}

// countOnBothEnds writes the same growing number to the first and then to the last
// block of a device, past its cache, until stop is called.
func countOnBothEnds(t *testing.T, node string) (stop func()) {
	t.Helper()
	f, err := os.OpenFile(node, os.O_RDWR|unix.O_DIRECT, 0)
	must(t, err)
	end := deviceSize(t, node) - 4096
	block := alignedBlock()
	count := func(i int) error {
		binary.LittleEndian.PutUint64(block, uint64(i))
		_, first := f.WriteAt(block, 0)
		_, last := f.WriteAt(block, end)
		return errors.Join(first, last)
	}
	must(t, count(1))
	done, stopped := make(chan struct{}), make(chan error)
	go func() {
		var err error
		for i := 2; err == nil; i++ {
			select {
			case <-done:
				stopped <- nil
				return
			default:
				err = count(i)
			}
		}
		stopped <- err
	}()
	return func() {
		t.Helper()
		close(done)
		must(t, errors.Join(<-stopped, f.Close()))
	}
}

// assertOneMoment checks a copy of what countOnBothEnds writes.
func assertOneMoment(t *testing.T, path string, size int64) {
	t.Helper()
	first := binary.LittleEndian.Uint64(read(t, path, 8, 0))
	last := binary.LittleEndian.Uint64(read(t, path, 8, size-4096))
	if first == 0 || first != last && first != last+1 {
		t.Errorf("the copy mixes times: %d at the beginning, %d at the end", first, last)
	}
}

func TestASnapshotWhileTheVolumeIsWrittenToIsOfOneMomentOrNone(t *testing.T) {
	s, _ := newStore(t)
	id := newVolume(t, s, 64*mib)
	write(t, s.Path(disk.FromVolume(id)), random(int(32*mib)), mib)
	stop := countOnBothEnds(t, attach(t, s, "node-1", id))
	snapshot := uuid.NewString()
	began := time.Now()
	err := s.Snapshot(snapshot, id)
	took := time.Since(began)
	stop()
	if err != nil { // certain where files can't share blocks
		wantError(t, err, disk.ErrInUse, id, "written")
		if took > 30*time.Second {
			t.Errorf("it took %s to tell", took)
		}
		must(t, s.Snapshot(snapshot, id)) // now that nobody writes
	}
	assertOneMoment(t, s.Path(disk.FromSnapshot(snapshot)), 64*mib)
}

func TestFilesystemsThatShareBlocksMakeCopiesAtOneMomentWithoutSpace(t *testing.T) {
	for _, fs := range []struct{ kind, mkfs string }{{"xfs", "mkfs.xfs"}, {"btrfs", "mkfs.btrfs"}} {
		t.Run(fs.kind, func(t *testing.T) {
			outer, _ := newStore(t)
			below := attach(t, outer, "node-1", newVolume(t, outer, 512*mib))
			run(t, fs.mkfs, "-q", below)
			target := mount(t, below, fs.kind)
			t.Cleanup(func() { clean(t, target) })
			s := openStore(t, filepath.Join(target, "store"))
			must(t, s.AddServer("node-1", nil))
			id, snapshot, copied := newVolume(t, s, 512*mib), uuid.NewString(), uuid.NewString()
			write(t, s.Path(disk.FromVolume(id)), random(int(96*mib)), mib)
			stop := countOnBothEnds(t, attach(t, s, "node-1", id))
			err := s.Snapshot(snapshot, id)
			stop()
			must(t, err)
			assertOneMoment(t, s.Path(disk.FromSnapshot(snapshot)), 512*mib)
			for range 8 { // of 96 MiB each, on 512 MiB
				copied = uuid.NewString()
				must(t, s.Copy(copied, disk.FromSnapshot(snapshot), 768*mib))
			}
			assertOneMoment(t, s.Path(disk.FromVolume(copied)), 512*mib)
			must(t, s.Wipe())
			must(t, s.Close())
		})
	}
}

// alignedBlock returns memory that can be written past the cache.
func alignedBlock() []byte {
	block, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return make([]byte, 4096)
	}
	return block
}

func TestWhatCanNotBeCopiedIsTold(t *testing.T) {
	s, dir := newStore(t)
	id, missing := newVolume(t, s, 2*mib), uuid.NewString()
	wantError(t, s.Snapshot(uuid.NewString(), missing), disk.ErrNotFound, missing)
	wantError(t, s.Copy(uuid.NewString(), disk.FromSnapshot(missing), mib), disk.ErrNotFound, "snapshot "+missing)
	wantError(t, s.Copy(id, disk.FromVolume(id), mib), disk.ErrInvalid)
	wantError(t, s.Copy(uuid.NewString(), disk.FromVolume(id), 1000), disk.ErrInvalid, "1000")
	wantError(t, s.Copy("../"+id[3:], disk.FromVolume(id), mib), disk.ErrInvalid)
	wantError(t, s.Copy(uuid.NewString(), disk.Source{Kind: "server", ID: id}, mib), disk.ErrInvalid)
	wantError(t, s.Create(uuid.NewString(), 0), disk.ErrInvalid)
	wantError(t, s.Extend(missing, mib), disk.ErrNotFound)
	wantError(t, s.Restore(missing, disk.FromVolume(id)), disk.ErrInvalid)

	small, backup := newVolume(t, s, mib), uuid.NewString()
	must(t, s.Backup(backup, disk.FromVolume(id)))
	wantError(t, s.Restore(small, disk.FromBackup(backup)), disk.ErrInvalid, "fit")
	wantError(t, s.Restore(missing, disk.FromBackup(backup)), disk.ErrNotFound, missing)
	attach(t, s, "node-1", id)
	wantError(t, s.Restore(id, disk.FromBackup(backup)), disk.ErrInUse, "/dev/vdb of server node-1")

	if temps, err := filepath.Glob(filepath.Join(dir, "*", ".tmp-*")); err != nil || len(temps) > 0 {
		t.Errorf("left behind: %q, %v", temps, err)
	}
}

func TestDeletedThingsAreGoneAndStayGone(t *testing.T) {
	s, _ := newStore(t)
	id, snapshot, backup := newVolume(t, s, mib), uuid.NewString(), uuid.NewString()
	must(t, s.Snapshot(snapshot, id))
	must(t, s.Backup(backup, disk.FromSnapshot(snapshot)))
	for range 2 {
		must(t, s.DeleteVolume(id))
		must(t, s.DeleteSnapshot(snapshot))
		must(t, s.DeleteBackup(backup))
	}
	for _, kind := range []disk.Kind{disk.KindVolume, disk.KindSnapshot, disk.KindBackup} {
		if ids, err := s.List(kind); err != nil || len(ids) > 0 {
			t.Errorf("%s: %q, %v", kind, ids, err)
		}
	}
	wantError(t, s.DeleteVolume(""), disk.ErrInvalid)
}

// BenchmarkCopySparse copies a volume of 10 GiB that holds 16 MiB of data.
func BenchmarkCopySparse(b *testing.B) {
	s, err := disk.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	source := uuid.NewString()
	if err := s.Create(source, 10240*mib); err != nil {
		b.Fatal(err)
	}
	f, err := os.OpenFile(s.Path(disk.FromVolume(source)), os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	for i := range int64(16) {
		if _, err := f.WriteAt(random(int(mib)), i*600*mib); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(16 * mib)
	for b.Loop() {
		id := uuid.NewString()
		if err := s.Copy(id, disk.FromVolume(source), 10240*mib); err != nil {
			b.Fatal(err)
		}
		if err := s.DeleteVolume(id); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAttachDetach attaches and detaches one volume.
func BenchmarkAttachDetach(b *testing.B) {
	s, err := disk.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	id := uuid.NewString()
	if err := errors.Join(s.AddServer("node-1", nil), s.Create(id, 1024*mib)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Attach("node-1", id, false); err != nil {
			b.Fatal(err)
		}
		if err := s.Detach("node-1", id); err != nil {
			b.Fatal(err)
		}
	}
}
