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
	sources  *eventSources // nil while nobody waits
	settling bool          // a burst of events has begun
}

// eventSources are where events come from; each is nil where it isn't allowed.
type eventSources struct {
	kernel      *os.File
	directories *fsnotify.Watcher
	readers     sync.WaitGroup
}

// join returns a channel that receives when a disk may have come, until leave is called.
func (a *arrivals) join() (woken chan struct{}, leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) == 0 {
		a.waiting = make(map[chan struct{}]struct{})
		a.sources = listen(a.onEvent)
	}
	woken = make(chan struct{}, 1)
	a.waiting[woken] = struct{}{}
	return woken, func() { a.leave(woken) }
}

func (a *arrivals) leave(woken chan struct{}) {
	a.mu.Lock()
	delete(a.waiting, woken)
	var last *eventSources
	if len(a.waiting) == 0 {
		last, a.sources = a.sources, nil
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
	if a.sources == nil || a.sources.directories == nil {
		return
	}
	for _, dir := range dirs {
		_ = a.sources.directories.Add(dir) // missing now, it may come later
	}
}

// onEvent is called with each event.
func (a *arrivals) onEvent() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.settling {
		a.settling = true
		time.AfterFunc(settle, a.wakeAll)
	}
}

// wakeAll wakes all who wait.
func (a *arrivals) wakeAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settling = false
	for woken := range a.waiting {
		wake(woken)
	}
}

// wake has a channel receive, unless it has something to receive already.
func wake(woken chan struct{}) {
	select {
	case woken <- struct{}{}:
	default:
	}
}

// listen calls onEvent for each event until the result is closed.
func listen(onEvent func()) *eventSources {
	e := &eventSources{kernel: openUevents()}
	if e.kernel != nil {
		e.readers.Go(func() { receiveUevents(e.kernel, onEvent) })
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
				onEvent()
			}
		})
	}
	return e
}

func (e *eventSources) close() {
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

// receiveUevents calls onEvent for each message about a disk, until the socket is closed.
func receiveUevents(socket *os.File, onEvent func()) {
	const largest = 8 << 10 // four times what the kernel sends
	for message := make([]byte, largest); ; {
		n, err := socket.Read(message)
		lost := errors.Is(err, unix.ENOBUFS) // too many at once
		switch {
		case err != nil && !lost:
			return
		case lost || newsOfDisk(message[:n]):
			onEvent()
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
