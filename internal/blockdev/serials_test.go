package blockdev

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// silent makes a disk that doesn't answer when it is asked for its serial, until
// the returned function has it answer.
func (tr *tree) silent(name, number, sequence string) (answer func(serial string)) {
	tr.t.Helper()
	tr.disk(name, number, map[string]string{"diskseq": sequence})
	path := tr.path("sys/block/" + name + "/serial")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		tr.t.Fatal(err)
	}
	var answered bool
	answer = func(serial string) {
		answered = true
		// With a reader it opens at once, without one there is nobody to answer.
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return
		}
		if _, err := unix.Write(fd, []byte(serial)); err != nil {
			tr.t.Error(err)
		}
		if err := unix.Close(fd); err != nil {
			tr.t.Error(err)
		}
	}
	tr.t.Cleanup(func() {
		if !answered {
			answer("")
		}
	})
	return answer
}

// TestADiskThatDoesNotAnswerKeepsNobodyWaiting: virtio-blk asks the disk for its
// serial, in a queue that is full when its storage hangs.
func TestADiskThatDoesNotAnswerKeepsNobodyWaiting(t *testing.T) {
	tr := newTree(t)
	answer := tr.silent("vdb", "252:16", "11")
	tr.disk("vdc", "252:32", map[string]string{"serial": volumeC[:20], "diskseq": "12"})
	s := tr.system()

	began := time.Now()
	d, err := s.Find(t.Context(), volumeC)
	if err != nil || d.Name != "vdc" {
		t.Fatalf("found %+v, %v", d, err)
	}
	if took := time.Since(began); took > 3*serialWait {
		t.Errorf("it took %v", took)
	}
	before := runtime.NumGoroutine()
	for range 3 {
		if _, err := s.Find(t.Context(), volumeA); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "vdb could not be asked") {
			t.Errorf("got %v, want that vdb does not answer", err)
		}
	}
	wantLeft(t, before, 0)
	// Unstaging must not take it for gone; a disk that answers is told as ever.
	if disks, err := s.Candidates(t.Context(), volumeA); !errors.Is(err, ErrUnsafe) {
		t.Errorf("got %+v, %v, want that vdb may be it", disks, err)
	}
	if disks, err := s.Candidates(t.Context(), volumeC); err != nil || len(disks) != 1 {
		t.Errorf("got %+v, %v", disks, err)
	}
	if room, err := s.AttachLimit(t.Context()); err != nil || room < 1 {
		t.Errorf("room for %d, %v", room, err)
	}

	answer(volumeA[:20])
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if d, err := s.Wait(ctx, volumeA); err != nil || d.Name != "vdb" {
		t.Fatalf("when it has answered: %+v, %v", d, err)
	}
	// It isn't asked again, but another disk in its place is.
	if d, err := s.Find(t.Context(), volumeA); err != nil || d.Name != "vdb" {
		t.Fatalf("found %+v, %v", d, err)
	}
	tr.remove("sys/block/vdb/serial")
	tr.file("sys/block/vdb/serial", volumeB[:19]+"x\n")
	tr.file("sys/block/vdb/diskseq", "13\n")
	if _, err := s.Find(t.Context(), volumeA); !errors.Is(err, ErrNotFound) {
		t.Errorf("another disk: got %v", err)
	}
}

// TestAnAnswerIsNotKeptWhereDisksHaveNoNumbers: before Linux 5.15 a disk can't be
// told from another one that got its name.
func TestAnAnswerIsNotKeptWhereDisksHaveNoNumbers(t *testing.T) {
	tr := newTree(t)
	tr.disk("vdb", "252:16", map[string]string{"serial": volumeA[:20]})
	tr.remove("sys/block/vdb/diskseq")
	s := tr.system()
	if d, err := s.Find(t.Context(), volumeA); err != nil || d.Name != "vdb" {
		t.Fatalf("found %+v, %v", d, err)
	}
	if err := os.WriteFile(tr.path("sys/block/vdb/serial"), []byte(volumeC[:20]), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := s.Find(t.Context(), volumeC); err != nil || d.Name != "vdb" {
		t.Fatalf("found %+v, %v", d, err)
	}
	if _, err := s.Find(t.Context(), volumeA); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
