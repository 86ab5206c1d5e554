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
	// errRefused: what was found on the node forbids it.
	errRefused = errors.New("refused")
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

type codeRow struct {
	err  error
	code codes.Code
}

// codeTable is searched from the top.
func codeTable() []codeRow {
	return []codeRow{
		{errInvalid, codes.InvalidArgument},
		{errNotYet, codes.Unavailable},
		{errRefused, codes.FailedPrecondition},
		{errInUse, codes.FailedPrecondition},
		{errPublished, codes.AlreadyExists},
		{errNotHere, codes.NotFound},
		{errRange, codes.OutOfRange},
		{keylock.ErrBusy, codes.Aborted},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{context.Canceled, codes.Canceled},
		{blockdev.ErrVolumeID, codes.NotFound},
		{blockdev.ErrUnsafe, codes.FailedPrecondition},
		{blockdev.ErrNotFound, codes.Unavailable},
		{luks.ErrPassphrase, codes.InvalidArgument},
		{luks.ErrNotLUKS, codes.FailedPrecondition},
		{filesystem.ErrBusy, codes.Aborted},
		{filesystem.ErrUnsupported, codes.InvalidArgument},
		{mkfs.ErrOptions, codes.InvalidArgument},
		{filesystem.ErrNotBlank, codes.FailedPrecondition},
		{filesystem.ErrTooSmall, codes.FailedPrecondition},
		{filesystem.ErrReadOnly, codes.FailedPrecondition},
		{filesystem.ErrMounted, codes.FailedPrecondition},
		{filesystem.ErrNotMounted, codes.FailedPrecondition},
		{filesystem.ErrOnlineGrowth, codes.FailedPrecondition},
		{filesystem.ErrGivenUp, codes.Unavailable},
		{filesystem.ErrCorrupt, codes.Internal},
	}
}

// failure makes the answer of a call that ended with err: what was to be done,
// to which volume, and why it couldn't.
func failure(doing, volumeID string, err error) error {
	if volumeID == "" {
		return status.Errorf(code(err), "%s: %v", doing, err)
	}
	return status.Errorf(code(err), "%s volume %s: %v", doing, volumeID, err)
}
