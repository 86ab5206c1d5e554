package cloud

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// What a cloud can answer instead of what it was asked for. Errors of this
// package wrap exactly one of them.
var (
	// ErrNotFound: the thing does not exist, or belongs to another project.
	ErrNotFound = errors.New("not found")
	// ErrInvalid: the request is refused as it stands (HTTP 400). Cinder and
	// Nova also use it for a volume in an unfitting status, so the caller
	// reads the volume before it decides.
	ErrInvalid = errors.New("refused")
	// ErrConflict: something else is going on with the thing (HTTP 409).
	ErrConflict = errors.New("busy")
	// ErrQuota: a quota of the project is exhausted (HTTP 413 overLimit).
	ErrQuota = errors.New("quota exceeded")
	// ErrAttachLimit: the server has as many disks as Nova allows (HTTP 403
	// of max_disk_devices_to_attach).
	ErrAttachLimit = errors.New("too many disks attached")
	// ErrForbidden: the account may not do that (HTTP 403).
	ErrForbidden = errors.New("forbidden")
	// ErrUnauthorized: the credentials are refused (HTTP 401).
	ErrUnauthorized = errors.New("credentials refused")
	// ErrUnsupported: the cloud is too old, or lacks the service.
	ErrUnsupported = errors.New("not supported by this cloud")
	// ErrUnavailable: no answer, an answer that makes no sense, or HTTP 429
	// and 5xx. The request may be repeated later.
	ErrUnavailable = errors.New("cloud unavailable")
)

// Refusals of a new volume that another zone may cure. Each is an ErrInvalid, too.
var (
	// ErrZone: Cinder has no such availability zone, or none for volumes of the
	// type (HTTP 400).
	ErrZone = fmt.Errorf("%w for its availability zone", ErrInvalid)
	// ErrSourceZone: a copy has to be made in the zone of its source (HTTP 400;
	// Cinder's cloned_volume_same_az).
	ErrSourceZone = fmt.Errorf("%w for the availability zone of its source", ErrInvalid)
)

// Refusals to attach or detach a volume.
var (
	// ErrAlreadyAttached: Nova lists the volume on a server (HTTP 400). It is an
	// ErrInvalid, too.
	ErrAlreadyAttached = fmt.Errorf("%w as it is attached already", ErrInvalid)
	// ErrWrongStatus: the volume was in another status than the request needs
	// (HTTP 400). It is an ErrInvalid, too.
	ErrWrongStatus = fmt.Errorf("%w in the volume's status", ErrInvalid)
	// ErrServerState: Nova changes nothing on the server until somebody mends its
	// state: it is locked, in error, rescued, being deleted (HTTP 409). It is an
	// ErrConflict, too.
	ErrServerState = fmt.Errorf("the server's state does not allow it, %w", ErrConflict)
)

// Error is a failed request to the cloud, with all that an operator needs to
// find it in the cloud's own logs.
type Error struct {
	// Kind is one of the sentinel errors above.
	Kind error
	// Operation is what was asked for, as in "create volume".
	Operation string
	// Resource is the id, or the name, of what it was asked for.
	Resource string
	// StatusCode is the HTTP status, 0 where there was no answer.
	StatusCode int
	// Message is the cloud's own explanation, without its JSON.
	Message string
	// RequestID is OpenStack's id of the request.
	RequestID string
	// Uncertain tells that the cloud may have acted all the same: the
	// connection broke after the request was sent, or the answer was a 5xx.
	Uncertain bool
	// Err is the cause, where there is one below HTTP.
	Err error
}

// Error returns one line.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %v", e.Operation, e.Resource, e.Kind)
	if e.StatusCode != 0 {
		fmt.Fprintf(&b, " (HTTP %d)", e.StatusCode)
	}
	switch {
	case e.Message != "":
		b.WriteString(": " + e.Message)
	case e.Err != nil:
		b.WriteString(": " + e.Err.Error())
	}
	if e.RequestID != "" {
		b.WriteString(" [" + e.RequestID + "]")
	}
	return b.String()
}

// Unwrap makes errors.Is find the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// Uncertain reports whether the cloud may have acted on the request that
// failed with err.
func Uncertain(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Uncertain
}

// NotTold reports whether the cloud has answered err, but not with what it was asked for:
// this account may not read it, the cloud or a gateway before it doesn't offer it, or the
// answer is none. What it would say has to be found out otherwise, or done without.
func NotTold(err error) bool {
	for _, kind := range []error{ErrForbidden, ErrNotFound, ErrUnsupported, ErrInvalid} {
		if errors.Is(err, kind) {
			return true
		}
	}
	var answer *Error
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.StatusCode {
	case 0, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return false
	}
	return answer.StatusCode < http.StatusInternalServerError
}
