package blockdev

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/inflight"
)

const (
	// serialWait is how long one reading of all disks waits for serials, and
	// serialLeast how long for each when that is over.
	serialWait  = time.Second
	serialLeast = 50 * time.Millisecond
)

// serials asks virtio-blk disks for their serials. A disk answers that as it does
// a read: a disk whose queue is full, since its storage hangs or can't keep up,
// answers late or never, and must not keep the volumes on other disks waiting. So a
// disk is asked once in its life where the kernel numbers disks (diskseq), and later
// looks wait for that answer. Where it doesn't, before Linux 5.15, a disk can't be
// told from another one that got its name, and is asked at each look.
type serials struct {
	asked inflight.Group[string]

	mu    sync.Mutex
	known map[string]serial // by the attribute's path
}

type serial struct {
	sequence uint64 // the kernel's number of the disk
	text     string // not empty
}

// get returns the serial that the attribute at path tells of the disk with that
// sequence number, empty if it can't be read. It fails when there is no answer
// before ctx ends.
func (s *serials) get(ctx context.Context, path string, sequence uint64) (string, error) {
	if text, known := s.cached(path, sequence); known {
		return text, nil
	}
	return s.asked.DoAfter(ctx, fmt.Sprintf("%s %d", path, sequence), func() (string, error) {
		if text, known := s.cached(path, sequence); known {
			return text, nil // it has answered to a question before
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return "", nil // the disk has none, or has gone: another name may tell
		}
		text := tidy(string(data))
		if text != "" {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.known == nil {
				s.known = make(map[string]serial)
			}
			s.known[path] = serial{sequence, text}
		}
		return text, nil
	})
}

// cached returns the serial that the disk with that sequence number has answered before.
func (s *serials) cached(path string, sequence uint64) (text string, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer, known := s.known[path]
	return answer.text, known && answer.sequence == sequence && sequence != 0
}

// listedDisk is a disk as it was when all disks were read.
type listedDisk struct {
	name       string
	sequence   uint64 // before it was looked at
	identities []identity
	// unanswered: it didn't answer when it was asked for its serial.
	unanswered bool
}

// listDisks reads what sysfs knows of all disks. Calls at the same time share one reading.
func (s *System) listDisks(ctx context.Context) ([]listedDisk, error) {
	return s.listings.DoAfter(ctx, "all disks", func() ([]listedDisk, error) {
		sys := s.sysfs()
		names, err := sys.disks()
		if err != nil {
			return nil, err
		}
		all := make([]listedDisk, 0, len(names))
		until := time.Now().Add(serialWait)
		for _, name := range names {
			d := listedDisk{name: name, sequence: sys.sequence(name), identities: sys.identities(name)}
			if path := sys.block(name, "serial"); exists(path) {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(time.Until(until), serialLeast))
				text, err := s.serials.get(ctx, path, d.sequence)
				cancel()
				d.unanswered = err != nil
				if text != "" {
					d.identities = append(d.identities, identity{name: text, serial: true})
				}
			}
			all = append(all, d)
		}
		return all, nil
	})
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
