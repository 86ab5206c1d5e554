package blockdev

import (
	"bytes"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// uevents are what the kernel tells of block devices that come and change. Most
// nodes have udev, which makes links when it has heard of them too; this is
// sooner, and works where there is no udev, or its links go elsewhere.
type uevents struct {
	socket *os.File
	rung   chan struct{} // receives when there was any
	done   chan struct{} // closed when nobody listens any more
}

// listen starts to listen. It returns nil where that isn't allowed, or where the
// kernel doesn't tell, as in some containers.
func listen() *uevents {
	const kernel = 1 // the group of what the kernel itself sends
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernel}); err != nil {
		_ = unix.Close(fd) // nothing was received
		return nil
	}
	u := &uevents{socket: os.NewFile(uintptr(fd), "uevents"), rung: make(chan struct{}, 1), done: make(chan struct{})}
	go u.receive()
	return u
}

// receive rings for each message that matters, until the socket is closed.
func (u *uevents) receive() {
	defer close(u.done)
	const largest = 8 << 10 // four times what the kernel sends
	for message := make([]byte, largest); ; {
		n, err := u.socket.Read(message)
		lost := errors.Is(err, unix.ENOBUFS) // too many at once
		switch {
		case err != nil && !lost:
			return
		case !lost && !newsOfDisk(message[:n]):
			continue
		}
		select {
		case u.rung <- struct{}{}:
		default: // it has not been heard yet
		}
	}
}

// close ends listening.
func (u *uevents) close() {
	if u != nil {
		_ = u.socket.Close() // nothing is written to it
		<-u.done
	}
}

// rings returns the channel that receives when there is news, nil when nobody
// listens.
func (u *uevents) rings() <-chan struct{} {
	if u == nil {
		return nil
	}
	return u.rung
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
