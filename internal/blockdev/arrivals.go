package blockdev

import (
	"bytes"
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// arrivals tells all who wait for a disk that one may have come: the kernel says so of
// each block device, and udev once it has made the links. Where this process may not
// hear them, those who wait have to look now and then.
//
// It listens while somebody waits, once for all of them. The zero value is ready.
type arrivals struct {
	mu      sync.Mutex
	waiting int
	socket  *os.File      // nil while nobody waits, or where it isn't allowed
	wakeup  chan struct{} // nil, or closed when a disk may have come
}

// join has next told of events until leave is called.
func (a *arrivals) join() (leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting++; a.waiting == 1 {
		if a.socket = openUevents(); a.socket != nil {
			go receiveUevents(a.socket, a.wake)
		}
	}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.waiting--; a.waiting == 0 && a.socket != nil {
			_ = a.socket.Close() // nothing is written to it
		}
	}
}

// next returns what is closed as soon as a disk may have come.
func (a *arrivals) next() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wakeup == nil {
		a.wakeup = make(chan struct{})
	}
	return a.wakeup
}

// wake wakes all who wait, since a disk may have come.
func (a *arrivals) wake() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wakeup != nil {
		close(a.wakeup)
		a.wakeup = nil
	}
}

// openUevents returns a socket on which the kernel and udev tell of devices; nil where that
// isn't allowed.
func openUevents() *os.File {
	const kernel, udev = 1, 2 // the groups of what they send
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernel | udev}); err != nil {
		_ = unix.Close(fd) // nothing was received
		return nil
	}
	return os.NewFile(uintptr(fd), "uevents")
}

// receiveUevents calls wake for each message about a disk, until the socket is closed.
func receiveUevents(socket *os.File, wake func()) {
	const largest = 8 << 10 // four times what the kernel sends
	for message := make([]byte, largest); ; {
		n, err := socket.Read(message)
		lost := errors.Is(err, unix.ENOBUFS) // too many at once
		switch {
		case err != nil && !lost:
			return
		case lost || isDiskEvent(message[:n]):
			wake()
		}
	}
}

// isDiskEvent tells whether a message is about a block device that has come or changed.
// It is made of strings that end with a zero: a header, of which udev's is binary, and then
// KEY=value.
func isDiskEvent(message []byte) bool {
	block, gone := false, false
	for field := range bytes.SplitSeq(message, []byte{0}) {
		block = block || string(field) == "SUBSYSTEM=block"
		gone = gone || string(field) == "ACTION=remove"
	}
	return block && !gone
}
