package disk

import "errors"

var (
	// ErrInUse says that a volume, device, server or directory is still used;
	// the error that wraps it names who holds it, where that can be told.
	ErrInUse = errors.New("in use")

	// ErrNotFound says that a volume, snapshot, backup or server does not exist.
	ErrNotFound = errors.New("not found")

	// ErrNotRoot says that the call needs loop devices and the process is not root.
	ErrNotRoot = errors.New("loop devices and device nodes need root")

	// ErrInvalid says that an argument can not be right: an id that is no UUID,
	// a server name that is no file name, a size that is no multiple of 512, a
	// request that contradicts what is there.
	ErrInvalid = errors.New("invalid")
)
