package loop

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Opener opens loop devices by device nodes of its own making, because /dev may
// lack them (no udev, a container) or be somebody else's.
type Opener struct {
	dir string
}

// NewOpener returns an Opener that makes its nodes in dir, each only for the
// moment of opening. The file system of dir must allow device nodes.
func NewOpener(dir string) Opener { return Opener{dir} }

// TempPrefix begins the name of every node an Opener makes.
const TempPrefix = ".tmp-node-"

// Check tells whether device nodes can be made and used in the directory, trying
// it with one for /dev/null.
func (o Opener) Check() error {
	f, err := o.openNode(unix.S_IFCHR, unix.Mkdev(1, 3), unix.O_RDONLY)
	if err != nil {
		return fmt.Errorf("device nodes can not be used in %s (mounted nodev, or no permission to make them): %w", o.dir, err)
	}
	return f.Close()
}

// open opens loop device number, bound or not.
func (o Opener) open(number, flags int) (*os.File, error) {
	rdev, err := deviceNumber(filepath.Join(sysBlock, fmt.Sprintf("loop%d", number)))
	if err != nil {
		return nil, err
	}
	f, err := o.openNode(unix.S_IFBLK, rdev, flags)
	if err != nil {
		return nil, fmt.Errorf("open loop%d: %w", number, err)
	}
	return f, nil
}

// openNode makes a node in a directory that nobody else uses, opens it and
// removes both again.
func (o Opener) openNode(kind uint32, rdev uint64, flags int) (*os.File, error) {
	dir, err := os.MkdirTemp(o.dir, TempPrefix)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a leftover is harmless and swept when the store is opened
	node := filepath.Join(dir, "node")
	if err := unix.Mknod(node, kind|0o600, int(rdev)); err != nil {
		return nil, fmt.Errorf("mknod: %w", err)
	}
	return os.OpenFile(node, flags, 0)
}

// openBound opens d and makes sure that it is still what it was: while the file
// returned is open, nobody can bind the device to anything else. It returns nil
// without an error when d is not bound any more.
func (o Opener) openBound(d Device, flags int) (*os.File, error) {
	f, err := o.open(d.Number, flags)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	same, err := Bound(d)
	if err != nil || !same {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
