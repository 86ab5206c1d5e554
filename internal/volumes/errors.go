package volumes

import "errors"

// What can go wrong beyond the errors of package cloud. An error wraps at most
// one of these.
var (
	// ErrBusy: another call is working on the same thing.
	ErrBusy = errors.New("another operation on it is in progress")
	// ErrUnfinished: the cloud has accepted something, or may have, and it is
	// not over. The same call, repeated, finds it and carries on.
	ErrUnfinished = errors.New("not finished, ask again")
	// ErrExists: the name is taken by something that differs from what was
	// asked for.
	ErrExists = errors.New("exists already and differs")
	// ErrAttached: the volume is attached, and is not to be deleted.
	ErrAttached = errors.New("still attached")
	// ErrAttachedElsewhere: the volume is attached to another server, and its
	// type does not allow two.
	ErrAttachedElsewhere = errors.New("attached to another server")
	// ErrHasSnapshots: the volume has snapshots, and Cinder keeps it for them.
	ErrHasSnapshots = errors.New("has snapshots")
	// ErrSnapshotInUse: volumes, or incremental backups, depend on the snapshot or
	// backup, and Cinder keeps it for them.
	ErrSnapshotInUse = errors.New("in use by what was made from it")
	// ErrState: the thing is in a state that only an operator can mend.
	ErrState = errors.New("in a state that needs an operator")
	// ErrNoCapacity: no back end of the wanted type and zone has room.
	ErrNoCapacity = errors.New("no back end can take it")
	// ErrTooLarge: what has to be created is larger than the caller's limit.
	ErrTooLarge = errors.New("larger than the limit")
	// ErrKeptType: Cinder accepted to change the type of a volume and gave up.
	ErrKeptType = errors.New("it could not be changed")
	// ErrNotMultiattach: the volume type does not allow several servers.
	ErrNotMultiattach = errors.New("volume type does not allow several servers (multiattach)")
)
