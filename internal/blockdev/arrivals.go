package blockdev

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// settle is how long a burst of events may last before those who wait look.
const settle = 5 * time.Millisecond

// arrivals tells all who wait for a disk that one may have come: the kernel's events
// of block devices, and changes in the device directories, where udev makes links.
// The kernel is sooner, and works where there is no udev; directories work in
// containers that the kernel doesn't tell. Where neither is allowed (inotify is
// limited per user), those who wait have to look now and then.
//
// It listens while somebody waits, once for all of them. The zero value is ready.
type arrivals struct {
	mu       sync.Mutex
	waiting  map[chan struct{}]struct{}
	ears     *ears // nil while nobody waits
	settling bool  // a burst of events has begun
}

// ears are what arrivals hears by; each is nil where it isn't allowed.
type ears struct {
	kernel      *os.File
	directories *fsnotify.Watcher
	readers     sync.WaitGroup
}

// join returns a channel that receives when there is news, until leave is called.
func (a *arrivals) join() (news chan struct{}, leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 {
		a.waiting = make(map[chan struct{}]struct{})
		a.ears = listen(a.heard)
	}
	news = make(chan struct{}, 1)
	a.waiting[news] = struct{}{}
	return news, func() { a.leave(news) }
}

func (a *arrivals) leave(news chan struct{}) {
	a.mu.Lock()
	delete(a.waiting, news)
	var last *ears
	if len(a.waiting) == 0 {
		last, a.ears = a.ears, nil
	}
	a.mu.Unlock()
	if last != nil {
		last.close()
	}
}

// watch adds the directories that exist by now; being watched already does no harm.
func (a *arrivals) watch(dirs []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ears == nil || a.ears.directories == nil {
		return
	}
	for _, dir := range dirs {
		_ = a.ears.directories.Add(dir) // missing now, it may come later
	}
}

// heard is called with each event.
func (a *arrivals) heard() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.settling {
		a.settling = true
		time.AfterFunc(settle, a.tell)
	}
}

// tell tells all who wait.
func (a *arrivals) tell() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settling = false
	for news := range a.waiting {
		ring(news)
	}
}

// ring has a channel receive, unless it has something to receive already.
func ring(news chan struct{}) {
	select {
	case news <- struct{}{}:
	default:
	}
}

// listen calls heard for each event until the result is closed.
func listen(heard func()) *ears {
	e := &ears{kernel: openUevents()}
	if e.kernel != nil {
		e.readers.Go(func() { receiveUevents(e.kernel, heard) })
	}
	if w, err := fsnotify.NewWatcher(); err == nil {
		e.directories = w
		e.readers.Go(func() {
			for {
				select {
				case _, open := <-w.Events:
					if !open {
						return
					}
				case _, open := <-w.Errors: // events were lost
					if !open {
						return
					}
				}
				heard()
			}
		})
	}
	return e
}

func (e *ears) close() {
	if e.kernel != nil {
		_ = e.kernel.Close() // nothing is written to it
	}
	if e.directories != nil {
		_ = e.directories.Close() // it only closes descriptors
	}
	e.readers.Wait()
}

// openUevents returns a socket on which the kernel tells of devices; nil where that
// isn't allowed.
func openUevents() *os.File {
	const kernel = 1 // the group of what the kernel itself sends
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernel}); err != nil {
		_ = unix.Close(fd) // nothing was received
		return nil
	}
	return os.NewFile(uintptr(fd), "uevents")
}

// receiveUevents calls heard for each message about a disk, until the socket is closed.
func receiveUevents(socket *os.File, heard func()) {
	const largest = 8 << 10 // four times what the kernel sends
	for message := make([]byte, largest); ; {
		n, err := socket.Read(message)
		lost := errors.Is(err, unix.ENOBUFS) // too many at once
		switch {
		case err != nil && !lost:
			return
		case lost || newsOfDisk(message[:n]):
			heard()
		}
	}
}

// newsOfDisk tells whether a message of the kernel is about a block device that
// has come or changed. It is made of strings that end with a zero: action and
// path of the device in the first, KEY=value in the others.
func newsOfDisk(message []byte) bool {
	header, rest, _ := bytes.Cut(message, []byte{0})
	action, _, ok := bytes.Cut(header, []byte("@"))
	if !ok || bytes.Equal(action, []byte("remove")) {
		return false
	}
	for field := range bytes.SplitSeq(rest, []byte{0}) {
		if value, ok := bytes.CutPrefix(field, []byte("SUBSYSTEM=")); ok {
			return bytes.Equal(value, []byte("block"))
		}
	}
	return false
}
