package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Error is an answer other than success.
type Error struct {
	Status  int
	Message string
}

// Error returns the status and the message.
func (e *Error) Error() string { return fmt.Sprintf("%d %s", e.Status, e.Message) }

// Fail returns an error with a formatted message.
func Fail(status int, format string, args ...any) error {
	return &Error{Status: status, Message: fmt.Sprintf(format, args...)}
}

// BadRequest is a 400.
func BadRequest(format string, args ...any) error {
	return Fail(http.StatusBadRequest, format, args...)
}

// NotFound is a 404.
func NotFound(format string, args ...any) error { return Fail(http.StatusNotFound, format, args...) }

// Conflict is a 409.
func Conflict(format string, args ...any) error { return Fail(http.StatusConflict, format, args...) }

// Forbidden is a 403.
func Forbidden(format string, args ...any) error { return Fail(http.StatusForbidden, format, args...) }

// OverLimit is the 413 of an exhausted quota.
func OverLimit(format string, args ...any) error {
	return Fail(http.StatusRequestEntityTooLarge, format, args...)
}

// NoRoute answers a path that means nothing, in the words of the router that
// stands before the services.
func NoRoute(*Request) (*Response, error) {
	return Reply(http.StatusNotFound, Object{
		"code": "404 Not Found", "message": "The resource could not be found.<br /><br />\n\n\n", "title": "Not Found",
	})
}

// Unreadable is the 400 of a body that is no JSON.
func Unreadable() error { return BadRequest("Malformed request body") }

// Required checks that a body is an object with a member of that name. What is
// wrong is said as the services' schemas do.
func Required(body []byte, name string) error {
	if !json.Valid(body) {
		return Unreadable()
	}
	if _, err := Fields(body); err != nil {
		return BadRequest("%s is not of type 'object'", Python(body))
	}
	if Member(body, name) == nil {
		return BadRequest("'%s' is a required property", name)
	}
	return nil
}

// Malformed is the 400 of a body that makes no sense.
func Malformed() error {
	return BadRequest("The server could not comply with the request since it is either malformed or otherwise incorrect.")
}

// Envelope makes the body of an error from its status and message.
type Envelope func(status int, message string) any

type faultBody struct {
	Code       int    `json:"code"`
	Message    string `json:"message"`
	RetryAfter string `json:"retryAfter,omitempty"`
}

// Classic is the envelope of Cinder and Nova: an object named for the error.
func Classic(status int, message string) any {
	if status == http.StatusUnauthorized {
		return Token(status, message)
	}
	body := faultBody{Code: status, Message: message}
	if status == http.StatusRequestEntityTooLarge || status == http.StatusTooManyRequests {
		body.RetryAfter = "0"
	}
	return map[string]faultBody{classicName(status): body}
}

func classicName(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "badRequest"
	case http.StatusForbidden:
		return "forbidden"
	case http.StatusNotFound:
		return "itemNotFound"
	case http.StatusMethodNotAllowed:
		return "badMethod"
	case http.StatusConflict:
		return "conflictingRequest"
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		return "overLimit"
	case http.StatusNotImplemented:
		return "notImplemented"
	case http.StatusServiceUnavailable:
		return "serviceUnavailable"
	}
	return "computeFault"
}

type tokenError struct {
	Code    int    `json:"code"`
	Title   string `json:"title"`
	Message string `json:"message"`
}

// Token is the envelope of the filter that checks tokens before Cinder and Nova.
func Token(status int, message string) any {
	return map[string]tokenError{"error": {status, http.StatusText(status), message}}
}

type identityError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Title   string `json:"title"`
}

// Identity is the envelope of Keystone.
func Identity(status int, message string) any {
	return map[string]identityError{"error": {status, message, http.StatusText(status)}}
}

// Unauthorized is the 401 of a token that is missing, wrong or too old.
func Unauthorized() error {
	return Fail(http.StatusUnauthorized, "The request you have made requires authentication.")
}

// Injected returns the answer of a fault: what the service would say with that
// status, or what a proxy before it says where services do not.
func Injected(status int, body string, retryAfter time.Duration, envelope Envelope) *Response {
	resp := &Response{Status: status, Header: http.Header{}}
	if retryAfter > 0 {
		resp.Header.Set("Retry-After", strconv.Itoa(int((retryAfter+time.Second-1)/time.Second)))
	}
	switch {
	case body != "":
		resp.Body = rawOrHTML(body)
	case status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout:
		resp.Body = HTML(fmt.Sprintf("<html><body><h1>%d %s</h1>\nNo server is available to handle this request.\n</body></html>\n", status, http.StatusText(status)))
	case status >= 400:
		resp.Body = envelope(status, injectedMessage(status))
	}
	return resp
}

func injectedMessage(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "The request you have made requires authentication."
	case http.StatusNotFound:
		return "The resource could not be found."
	case http.StatusConflict:
		return "There was a conflict when trying to complete your request."
	case http.StatusRequestEntityTooLarge:
		return "VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded for quota 'volumes'."
	case http.StatusTooManyRequests:
		return "This request was rate-limited."
	case http.StatusInternalServerError:
		return "The server has either erred or is incapable of performing the requested operation."
	}
	return http.StatusText(status)
}
