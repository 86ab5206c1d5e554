package openstack

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// failure turns what went wrong with a call into the error of the cloud
// package. A write is uncertain where the cloud may have acted upon it: after a
// 5xx, and when no whole answer came although the request may have been sent.
func (r call) failure(err error) *cloud.Error {
	result := &cloud.Error{Operation: r.operation, Resource: r.resource}
	write := !reads(r.method)
	var (
		status gophercloud.ErrUnexpectedResponseCode
		broken *answerError
		send   *sendError
		urlErr *url.Error
	)
	switch {
	case errors.As(err, &status):
		result.StatusCode = status.Actual
		result.RequestID = requestID(status.ResponseHeader)
		result.Message = faultMessage(status.Body)
		result.Kind = kind(status)
		result.Uncertain = write && mayHaveActed(status.Actual)
		if location := status.ResponseHeader.Get("Location"); location != "" && status.Actual < 400 {
			result.Message = fmt.Sprintf("redirected to %s, which is not followed", redacted(location))
		}
		return result
	case errors.As(err, &broken):
		result.StatusCode, result.RequestID = broken.status, broken.requestID
		result.Uncertain = write
		result.Kind, result.Err = cloud.ErrUnavailable, broken.err
		return result
	case errors.As(err, &send):
		result.Uncertain = write && send.sent
		err = send.err
	case errors.As(err, &urlErr):
		err = urlErr.Err
	}
	if errors.Is(err, errNotJSON) {
		result.StatusCode, err = http.StatusOK, errNotJSON
	}
	result.Kind, result.Err = cause(err), err
	return result
}

// cause finds the kind of an error that came without an HTTP answer.
func cause(err error) error {
	for _, kind := range []error{cloud.ErrUnauthorized, cloud.ErrForbidden, cloud.ErrUnsupported} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return cloud.ErrUnavailable
}

// answerError is an answer of success that can't be made sense of.
type answerError struct {
	err       error
	status    int
	requestID string
}

func (e *answerError) Error() string { return e.err.Error() }
func (e *answerError) Unwrap() error { return e.err }

func mayHaveActed(status int) bool {
	return status >= 500 && status != http.StatusNotImplemented || status == http.StatusRequestTimeout
}

var (
	// attachLimit is Nova's max_disk_devices_to_attach.
	attachLimit = regexp.MustCompile(`(?i)maximum allowed number of disk devices`)
	// quota is how a 403 of older clouds and of Nova begins.
	quota = regexp.MustCompile(`(?i)\bquota exceeded\b`)
	// tooOld is Nova's 400 to a request for which the microversion does not do.
	tooOld = regexp.MustCompile(`(?i)only supported starting with compute API version`)
	// noZone is Cinder's 400 to a zone that it, or the volume type, doesn't have.
	noZone = regexp.MustCompile(`(?i)availability zone '[^']*' is invalid|type is only supported in these availability zones`)
	// sourceZone is Cinder's 400 to a copy in another zone than its source.
	sourceZone = regexp.MustCompile(`(?i)must be in the same availability zone as the`)
	// retypeBusy is Cinder's 400 to a change of the type of a volume that
	// something else is going on with.
	retypeBusy = regexp.MustCompile(`(?i)retype (needs|requires) volume to be in available`)
	// alreadyAttached is Nova's 400 to the attachment of an attached volume.
	alreadyAttached = regexp.MustCompile(`(?i)\balready attached\b`)
	// wrongStatus is the 400 to a request that needs another status of the volume.
	wrongStatus = regexp.MustCompile(`(?i)\bstatus must be\b`)
	// serverState is Nova's 409 for a server to which nothing is attached before
	// somebody changes its state. That it is being built, or that a task is under
	// way (task_state), ends by itself.
	serverState = regexp.MustCompile(`(?i)\bis locked\b|\bin vm_state (\w[\w-]*)`)
	// notCreated are the beginnings of user messages about what could not be
	// created, noRoom what those say that another zone or type may cure.
	notCreated = regexp.MustCompile(`(?i)^(schedule allocate volume|create )`)
	noRoom     = regexp.MustCompile(`(?i)weighted backend|no valid|quota`)
)

// fault returns what a user message tells.
func fault(text string) cloud.Fault {
	return cloud.Fault{Text: text, Creation: notCreated.MatchString(text), NoRoom: noRoom.MatchString(text)}
}

func kind(status gophercloud.ErrUnexpectedResponseCode) error {
	switch code := status.Actual; {
	case code == http.StatusUnauthorized:
		return cloud.ErrUnauthorized
	case code == http.StatusForbidden && attachLimit.Match(status.Body):
		return cloud.ErrAttachLimit
	case code == http.StatusForbidden && quota.Match(status.Body):
		return cloud.ErrQuota
	case code == http.StatusForbidden:
		return cloud.ErrForbidden
	case code == http.StatusNotFound && genuine(status):
		return cloud.ErrNotFound
	case code == http.StatusConflict && needsMending(status.Body):
		return cloud.ErrServerState
	case code == http.StatusConflict:
		return cloud.ErrConflict
	case code == http.StatusRequestEntityTooLarge && retryAfter(status.ResponseHeader, status.Body) == 0:
		return cloud.ErrQuota
	case code == http.StatusRequestEntityTooLarge, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code == http.StatusNotFound:
		return cloud.ErrUnavailable
	case code == http.StatusMethodNotAllowed, code == http.StatusNotAcceptable, code == http.StatusNotImplemented:
		return cloud.ErrUnsupported
	case code == http.StatusBadRequest:
		return badRequest(status.Body)
	case code >= 400 && code < 500:
		return cloud.ErrInvalid
	}
	return cloud.ErrUnavailable
}

// badRequest tells apart what Cinder and Nova put into one status.
func badRequest(body []byte) error {
	switch {
	case tooOld.Match(body):
		return cloud.ErrUnsupported
	case noZone.Match(body):
		return cloud.ErrZone
	case sourceZone.Match(body):
		return cloud.ErrSourceZone
	case retypeBusy.Match(body):
		return cloud.ErrConflict
	case alreadyAttached.Match(body):
		return cloud.ErrAlreadyAttached
	case wrongStatus.Match(body):
		return cloud.ErrWrongStatus
	}
	return cloud.ErrInvalid
}

// needsMending reports whether a 409 of Nova says that the server is in a state
// that does not end by itself.
func needsMending(body []byte) bool {
	found := serverState.FindSubmatch(body)
	return found != nil && string(found[1]) != "building"
}

// genuine reports whether a 404 is of the service itself. One of a proxy or a
// gateway, which knows nothing about volumes, must not pass for a volume that
// is gone or detached.
func genuine(status gophercloud.ErrUnexpectedResponseCode) bool {
	var fault map[string]json.RawMessage
	if json.Unmarshal(status.Body, &fault) == nil && fault["itemNotFound"] != nil {
		return true
	}
	return requestID(status.ResponseHeader) != ""
}

// maxMessage is as much of a cloud's explanation as goes into an error; the
// longest known one of Cinder has 300 characters.
const maxMessage = 600

// faultMessage finds the explanation in the body of an error: in the message of
// {"badRequest": {"message": …}} and its like, in the other keys that OpenStack
// services and the gateways before them use, in the title of an HTML page, or
// in plain text.
func faultMessage(body []byte) string {
	body = bytes.TrimSpace(body)
	message := pageTitle(string(body))
	var document any
	if json.Unmarshal(body, &document) == nil {
		message = explanation(document, 3)
	}
	message = oneLine(strings.ToValidUTF8(message, "?"))
	if runes := []rune(message); len(runes) > maxMessage {
		message = string(runes[:maxMessage]) + "…"
	}
	return message
}

func explanation(document any, depth int) string {
	switch value := document.(type) {
	case string:
		return value
	case map[string]any:
		if depth == 0 {
			return ""
		}
		for _, key := range []string{"message", "faultstring", "description", "detail", "error_message", "title"} {
			if text := explanation(value[key], depth-1); text != "" {
				return text
			}
		}
		if len(value) == 1 {
			for _, inner := range value {
				return explanation(inner, depth-1)
			}
		}
		return explanation(value["error"], depth-1)
	}
	return ""
}

var (
	title = regexp.MustCompile(`(?is)<(?:title|h1)[^>]*>(.*?)</(?:title|h1)>`)
	tag   = regexp.MustCompile(`(?s)<[^>]*>`)
)

func pageTitle(body string) string {
	if m := title.FindStringSubmatch(body); m != nil {
		return tag.ReplaceAllString(m[1], " ")
	}
	return tag.ReplaceAllString(body, " ")
}

// answerText returns the explanation in an answer with the id of the request. It returns nothing where a secret named
// the server that answers: the writer of the secret could read answers of services inside.
func (c CloudConfig) answerText(status gophercloud.ErrUnexpectedResponseCode) string {
	if c.untrusted {
		return ""
	}
	text := faultMessage(status.Body)
	if text != "" {
		text = ": " + text
	}
	if id := requestID(status.ResponseHeader); id != "" {
		text += " [" + id + "]"
	}
	return text
}

// ErrMisdirected is an ErrUnavailable that the configuration is to blame for: where it leads there
// is an answer, but none of the service, or one that it doesn't let be trusted.
var ErrMisdirected = fmt.Errorf("%w", cloud.ErrUnavailable)

// authError says in one line what Keystone, or the way to it, did not like.
func (c CloudConfig) authError(err error) error {
	address := redacted(c.AuthURL)
	var status gophercloud.ErrUnexpectedResponseCode
	switch {
	case errors.As(err, &status) && status.Actual == http.StatusUnauthorized:
		return c.errorf("%w by %s: it does not accept %s with this secret%s", cloud.ErrUnauthorized, address, c.who(), c.answerText(status))
	case errors.As(err, &status) && status.Actual == http.StatusForbidden:
		return c.errorf("%w by %s for %s%s", cloud.ErrForbidden, address, c.who(), c.answerText(status))
	case errors.As(err, &status) && (status.Actual >= 500 || status.Actual == http.StatusTooManyRequests):
		return c.errorf("%w: auth-url %s answers HTTP %d%s", cloud.ErrUnavailable, address, status.Actual, c.answerText(status))
	case errors.As(err, &status) && status.Actual == http.StatusBadRequest && !c.untrusted && faultMessage(status.Body) != "":
		return c.errorf("%w by %s for %s%s", cloud.ErrInvalid, address, c.who(), c.answerText(status))
	case errors.As(err, &status):
		return c.errorf("%w: auth-url %s is not a Keystone v3: it answers HTTP %d", ErrMisdirected, address, status.Actual)
	}
	return c.connectError("auth-url "+address, "a Keystone v3", err)
}

// serviceError is authError for the start of a conversation with a service.
func (c CloudConfig) serviceError(service string, err error) error {
	var status gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &status) {
		whom := service + " endpoint"
		if !c.untrusted {
			whom += " " + redacted(status.URL)
		}
		return c.errorf("%w: the %s answers HTTP %d%s", cloud.ErrUnavailable, whom, status.Actual, c.answerText(status))
	}
	var urlErr *url.Error
	if errors.As(err, &urlErr) && !c.untrusted {
		return c.connectError(fmt.Sprintf("the %s endpoint %s", service, redacted(urlErr.URL)), "an OpenStack service", err)
	}
	return c.connectError("the "+service+" endpoint", "an OpenStack service", err)
}

// connectError says why there was no answer, or none that the expected service gives.
func (c CloudConfig) connectError(whom, expected string, err error) error {
	var (
		send   *sendError
		record tls.RecordHeaderError
	)
	sent := true
	inner := err
	if errors.As(err, &send) {
		sent, inner = send.sent, send.err
	}
	switch {
	case errors.Is(err, cloud.ErrForbidden):
		return c.errorf("%s: %w", whom, inner)
	case c.untrusted && (sent || nonsense(err)) && !tlsFailure(inner) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled):
		return c.errorf("%w: %s does not answer as %s does", cloud.ErrUnavailable, whom, expected)
	case nonsense(err):
		return c.errorf("%w: %s is not %s: %s", ErrMisdirected, whom, expected, oneLine(inner.Error()))
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return c.errorf("%w: %s speaks http, not https", ErrMisdirected, whom)
	case tlsFailure(inner), brokenOff(inner):
		return c.errorf("%w: %s: TLS fails, see ca-file, cert-file and tls-insecure: %w", ErrMisdirected, whom, inner)
	case errors.Is(err, context.DeadlineExceeded):
		return c.errorf("%w: %s does not answer in time: %w", cloud.ErrUnavailable, whom, context.DeadlineExceeded)
	case errors.Is(err, context.Canceled):
		return c.errorf("%w: %s: %w", cloud.ErrUnavailable, whom, context.Canceled)
	case !sent:
		return c.errorf("%w: %s can't be reached: %w", cloud.ErrUnavailable, whom, inner)
	case send != nil:
		return c.errorf("%w: %s gives no answer: %w", cloud.ErrUnavailable, whom, inner)
	}
	return c.errorf("%s: %w", whom, err)
}

// nonsense reports whether an answer was none of OpenStack's.
func nonsense(err error) bool {
	var (
		syntax *json.SyntaxError
		shape  *json.UnmarshalTypeError
	)
	return errors.Is(err, errNoKeystone) || errors.Is(err, errNotJSON) || errors.As(err, &syntax) || errors.As(err, &shape)
}
