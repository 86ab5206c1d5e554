package controller

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// row is one line of the table.
type row struct {
	err  error
	code codes.Code
}

// table maps the errors of the domain to codes; the first row that fits counts. The
// side containers act on codes. Canceled, DeadlineExceeded, Unavailable and Aborted say
// that the operation may be going on, and the caller asks again. Most other codes are
// final.
func table() []row {
	return []row{
		{context.Canceled, codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{volumes.ErrBusy, codes.Aborted},
		{volumes.ErrUnfinished, codes.Aborted},
		{volumes.ErrExists, codes.AlreadyExists},
		{volumes.ErrAttached, codes.FailedPrecondition},
		{volumes.ErrAttachedElsewhere, codes.FailedPrecondition},
		{volumes.ErrHasSnapshots, codes.FailedPrecondition},
		{volumes.ErrSnapshotInUse, codes.FailedPrecondition},
		{volumes.ErrState, codes.FailedPrecondition},
		{volumes.ErrNoCapacity, codes.ResourceExhausted},
		{volumes.ErrTooLarge, codes.OutOfRange},
		{volumes.ErrKeptType, codes.InvalidArgument},
		{volumes.ErrNotMultiattach, codes.InvalidArgument},
		{cloud.ErrQuota, codes.ResourceExhausted},
		{cloud.ErrAttachLimit, codes.ResourceExhausted},
		{cloud.ErrNotFound, codes.NotFound},
		{cloud.ErrInvalid, codes.InvalidArgument},
		// Nothing was changed, and nothing will be before somebody mends the server.
		{cloud.ErrServerState, codes.FailedPrecondition},
		{cloud.ErrConflict, codes.Aborted},
		{cloud.ErrUnsupported, codes.FailedPrecondition},
		{cloud.ErrForbidden, codes.PermissionDenied},
		// The driver's credentials, not the caller's: an operator mends them, and
		// what was going on has to be found again then.
		{cloud.ErrUnauthorized, codes.Unavailable},
		{cloud.ErrUnavailable, codes.Unavailable},
		{kube.ErrNotFound, codes.FailedPrecondition},
		{kube.ErrUnavailable, codes.Unavailable},
	}
}

// statusOf returns err as a gRPC status.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codeOf(err), err.Error())
}

func codeOf(err error) codes.Code {
	for _, row := range table() {
		if !errors.Is(err, row.err) {
			continue
		}
		if row.code == codes.Aborted && unreachable(err) {
			return codes.Unavailable
		}
		return row.code
	}
	if cloud.Uncertain(err) {
		return codes.Unavailable
	}
	return codes.Internal
}

// unreachable reports whether the cloud itself is in trouble, rather than busy.
func unreachable(err error) bool {
	return cloud.Uncertain(err) || errors.Is(err, cloud.ErrUnavailable) || errors.Is(err, cloud.ErrUnauthorized)
}

// statusOfExpansion is statusOf for growing a volume. external-resizer gives up, and lets
// the user ask for less, on InvalidArgument, OutOfRange and NotFound only.
func statusOfExpansion(err error) error {
	switch {
	case errors.Is(err, volumes.ErrUnfinished):
	case errors.Is(err, cloud.ErrQuota):
		return status.Error(codes.OutOfRange, err.Error())
	case errors.Is(err, cloud.ErrUnsupported):
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return statusOf(err)
}

// statusOfPublication is statusOf for attaching a volume. ResourceExhausted says that the
// node is full, upon which the kubelet gives up a pod: a quota mustn't say that.
func statusOfPublication(err error) error {
	if codeOf(err) == codes.ResourceExhausted && !errors.Is(err, cloud.ErrAttachLimit) {
		return status.Error(codes.Unavailable, err.Error())
	}
	return statusOf(err)
}

// statusOfPage is statusOf for lists. A marker that the cloud does not accept,
// because what it names is gone, makes the caller start over.
func statusOfPage(err error, token string) error {
	if token != "" && (errors.Is(err, cloud.ErrInvalid) || errors.Is(err, cloud.ErrNotFound)) {
		return status.Errorf(codes.Aborted, "starting token %q is no longer valid, start over: %v", token, err)
	}
	return statusOf(err)
}
