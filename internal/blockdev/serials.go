package blockdev

import (
	"os"
	"sync"
	"time"
)

const (
	// serialWait is how long one look at all disks waits for serials, and
	// serialLeast how long for each when that is over.
	serialWait  = time.Second
	serialLeast = 50 * time.Millisecond
)

// Serials asks virtio-blk disks for their serials. A disk answers that as it does
// a read: one whose queue is full, since its storage hangs or can't keep up, answers
// late or never, and must not keep the volumes on other disks waiting. So a disk is
// asked once in its life, where the kernel numbers disks (diskseq), and whoever
// asks again waits for that answer. The zero value is ready.
type Serials struct {
	mu      sync.Mutex
	answers map[string]*answer // by the attribute's path
}

// answer is what a disk has answered, or will.
type answer struct {
	sequence uint64        // the kernel's number of the disk
	done     chan struct{} // closed when serial is set
	serial   string        // empty when it could not be read
}

func (a *answer) given() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// get returns the serial that the attribute at path tells of the disk with that
// number; false when there has been no answer by then.
func (s *Serials) get(path string, sequence uint64, by time.Time) (string, bool) {
	limit := time.NewTimer(max(time.Until(by), serialLeast))
	defer limit.Stop()
	for {
		a, ours := s.ask(path, sequence)
		select {
		case <-a.done:
		case <-limit.C:
			return "", false
		}
		if ours {
			return a.serial, true
		}
	}
}

// ask returns the answer of a disk that was asked before, or asks it. An answer
// that may be another disk's, which had the same name, has to be waited for, since
// there is one question at a time, but is not the caller's.
func (s *Serials) ask(path string, sequence uint64) (a *answer, ours bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, asked := s.answers[path]; asked {
		ours := a.sequence == sequence && sequence != 0
		if !a.given() || ours && a.serial != "" {
			return a, ours
		}
	}
	if s.answers == nil {
		s.answers = make(map[string]*answer)
	}
	a = &answer{sequence: sequence, done: make(chan struct{})}
	s.answers[path] = a
	go func() {
		if data, err := os.ReadFile(path); err == nil {
			a.serial = tidy(string(data))
		}
		close(a.done)
	}()
	return a, true
}

// look is one look at all disks.
type look struct {
	sysfs
	serials *Serials
	by      time.Time // when it has waited enough
}

func (s System) look(sys sysfs) look {
	l := look{sysfs: sys, serials: s.Serials, by: time.Now().Add(serialWait)}
	if l.serials == nil {
		l.serials = new(Serials)
	}
	return l
}

// names returns all names that a disk has for itself; mute tells that it didn't
// answer when it was asked for its serial.
func (l look) names(disk string, sequence uint64) (all []identity, mute bool) {
	path := l.block(disk, "serial")
	if _, err := os.Lstat(path); err == nil {
		serial, answered := l.serials.get(path, sequence, l.by)
		if !answered {
			return nil, true
		}
		if serial != "" {
			all = append(all, identity{name: serial, serial: true})
		}
	}
	return append(all, l.identities(disk)...), false
}
