package node

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/keylock"
	"github.com/cinder-csi/cinder-csi/internal/luks"
	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

// What a call can end with besides the errors of the packages below.
var (
	// errInvalid: the request can't be right, whatever the node looks like.
	errInvalid = errors.New("invalid request")
	// What was found on the node forbids it. errHeld: something else uses the disk.
	errHeld = errors.New("refused")
	// errNotBlank: the disk holds something else than is asked for.
	errNotBlank = errors.New("refused")
	// errReadOnly: the volume may only be read, but would have to be written to.
	errReadOnly = errors.New("refused")
	// errOtherwise: the path holds something else, or the volume in another way.
	errOtherwise = errors.New("refused")
	// errNotStaged: the volume has to be staged before.
	errNotStaged = errors.New("refused")
	// errNoZone: nothing tells the zone of this server.
	errNoZone = errors.New("refused")
	// errInUse: the volume is used by something else that has to end first.
	errInUse = errors.New("still in use")
	// errPublished: the target holds the volume, or another one, otherwise than
	// asked for.
	errPublished = errors.New("staged or published with other arguments")
	// errNotHere: the volume isn't at that path.
	errNotHere = errors.New("volume not found")
	// errRange: no volume has a size in the range that is asked for.
	errRange = errors.New("capacity range not possible")
	// errNotYet: it will be there in a while, or may.
	errNotYet = errors.New("not ready")
)

// code returns the gRPC code for an error. The kubelet repeats every call; what
// a code decides is whether it takes the outcome for certain (isFinalError in its
// csi_client.go). Canceled, DeadlineExceeded, Unavailable, ResourceExhausted and
// Aborted leave it open: the kubelet notes that the volume may be mounted, and
// unstages or unpublishes it before it detaches. All others say that nothing was
// left: a device or mount of which the kubelet didn't know any better is then taken
// for unmounted (markDeviceErrorState, markVolumeErrorState), and nobody asks for it
// to be taken away any more. One that the kubelet knows to be mounted stays so. NodeExpandVolume has rules of its own: FailedPrecondition there means
// "not while it is in use", NotFound and InvalidArgument "don't ask again".
func code(err error) codes.Code {
	for _, row := range codeTable() {
		if errors.Is(err, row.err) {
			return row.code
		}
	}
	return codes.Internal
}

// reason says why the driver refused to touch a disk or a path, for the metric.
type reason string

const (
	// noRefusal: the caller is wrong, or has to come back.
	noRefusal reason = ""
	// cause: the error that is wrapped by this one says it.
	cause reason = "cause"

	notBlank         reason = "not_blank"
	wrongSerial      reason = "wrong_serial"
	held             reason = "held"
	mountedOtherwise reason = "mounted_otherwise"
	corrupt          reason = "corrupt"
	isReadOnlyNow    reason = "read_only"
)

// reasonOf returns why err is a refusal, or noRefusal.
func reasonOf(err error) reason {
	for _, row := range codeTable() {
		if row.reason != cause && errors.Is(err, row.err) {
			return row.reason
		}
	}
	return noRefusal
}

type codeRow struct {
	err    error
	code   codes.Code
	reason reason
}

// codeTable is searched from the top.
func codeTable() []codeRow {
	return []codeRow{
		{errInvalid, codes.InvalidArgument, noRefusal},
		{errNotYet, codes.Unavailable, cause},
		{errHeld, codes.FailedPrecondition, held},
		{errNotBlank, codes.FailedPrecondition, notBlank},
		{errReadOnly, codes.FailedPrecondition, isReadOnlyNow},
		{errOtherwise, codes.FailedPrecondition, mountedOtherwise},
		{errNotStaged, codes.FailedPrecondition, noRefusal},
		{errNoZone, codes.FailedPrecondition, noRefusal},
		{errInUse, codes.FailedPrecondition, held},
		{errPublished, codes.AlreadyExists, mountedOtherwise},
		{errNotHere, codes.NotFound, noRefusal},
		{errRange, codes.OutOfRange, noRefusal},
		{keylock.ErrBusy, codes.Aborted, noRefusal},
		{context.DeadlineExceeded, codes.DeadlineExceeded, noRefusal},
		{context.Canceled, codes.Canceled, noRefusal},
		{blockdev.ErrVolumeID, codes.NotFound, noRefusal},
		{blockdev.ErrHeld, codes.FailedPrecondition, held},
		{blockdev.ErrUnsafe, codes.FailedPrecondition, wrongSerial},
		{blockdev.ErrNotFound, codes.Unavailable, noRefusal},
		{luks.ErrPassphrase, codes.InvalidArgument, noRefusal},
		{luks.ErrNotLUKS, codes.FailedPrecondition, notBlank},
		{filesystem.ErrBusy, codes.Aborted, noRefusal},
		{filesystem.ErrUnsupported, codes.InvalidArgument, noRefusal},
		{mkfs.ErrOptions, codes.InvalidArgument, noRefusal},
		{filesystem.ErrNotBlank, codes.FailedPrecondition, notBlank},
		{filesystem.ErrTooSmall, codes.FailedPrecondition, noRefusal},
		{filesystem.ErrReadOnly, codes.FailedPrecondition, isReadOnlyNow},
		{filesystem.ErrMounted, codes.FailedPrecondition, mountedOtherwise},
		{filesystem.ErrNotMounted, codes.FailedPrecondition, mountedOtherwise},
		{filesystem.ErrOnlineGrowth, codes.FailedPrecondition, noRefusal},
		{filesystem.ErrGivenUp, codes.Unavailable, corrupt},
		{filesystem.ErrCorrupt, codes.Internal, corrupt},
	}
}

// failure makes the answer of a call that ended with err: what was to be done,
// to which volume, and why it couldn't. A refusal is counted.
func (s *Server) failure(doing, volumeID string, err error) error {
	if why := reasonOf(err); why != noRefusal {
		s.seen.refusals.WithLabelValues(string(why)).Inc()
	}
	if volumeID == "" {
		return status.Errorf(code(err), "%s: %v", doing, err)
	}
	return status.Errorf(code(err), "%s volume %s: %v", doing, volumeID, err)
}
