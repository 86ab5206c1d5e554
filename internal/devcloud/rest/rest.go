// Package rest is what the HTTP services of the development cloud have in
// common: requests read whole, answers built whole, errors in OpenStack's
// envelopes and microversions.
package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/fault"
)

// Request is a request that has been read to its end.
type Request struct {
	*http.Request
	// ID is the request's own id, "req-" and a UUID.
	ID string
	// Body is the whole body.
	Body []byte
	// Operation is the name under which the request is counted.
	Operation string
	// Fault is what the plan wants to happen, nil for nothing.
	Fault *fault.Fault
	// Pause waits as long as a request for this operation takes.
	Pause func(ctx context.Context) error
}

// NewID returns the id for a request.
func NewID() string { return "req-" + uuid.NewString() }

// Base returns the URL under which the client reached this server.
func (r *Request) Base() string { return "http://" + r.Host }

// Response is an answer. A nil Body is sent as no body at all.
type Response struct {
	Status int
	Header http.Header
	Body   any
}

// Handler answers one kind of request. An error that is no *Error is answered
// as an internal one.
type Handler func(r *Request) (*Response, error)

// Route tells which requests a handler answers.
type Route struct {
	// Pattern is one of http.ServeMux.
	Pattern string
	// Operation names the requests; OperationOf, where it is set, names them
	// by what they hold.
	Operation   string
	OperationOf func(r *Request) string
	// Slow tells that the handler calls Request.Pause itself.
	Slow bool
	// Errors makes the body of an error.
	Errors Envelope
	Handle Handler
}

// Reply returns an answer with a JSON body.
func Reply(status int, body any) (*Response, error) {
	return &Response{Status: status, Body: body}, nil
}

// Encode returns the body as it is sent, and its content type.
func (r *Response) Encode() (body []byte, contentType string, err error) {
	switch b := r.Body.(type) {
	case nil:
		return nil, "", nil
	case HTML:
		return []byte(b), "text/html", nil
	case Text:
		return []byte(b), "text/plain; charset=utf-8", nil
	case json.RawMessage:
		return b, "application/json", nil
	}
	body, err = json.Marshal(r.Body)
	return body, "application/json", err
}

// HTML is a body that is not JSON, as proxies send it.
type HTML string

// Text is a body of plain text.
type Text string

// Object is a JSON object whose keys are known.
type Object map[string]any

// Micros writes a time as Cinder does when it reads it from its database.
func Micros(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000") }

// Seconds writes a time to the second with an empty fraction, as Cinder's
// database keeps it.
func Seconds(t time.Time) string { return Micros(t.Truncate(time.Second)) }

// LowerIDs writes the ids in a request's path in small letters, as the services'
// database compares them. What is no id stays as it is.
func (r *Request) LowerIDs(names ...string) {
	for _, name := range names {
		r.SetPathValue(name, LowerID(r.PathValue(name)))
	}
}

// LowerID writes an id in small letters. What is no id stays as it is.
func LowerID(id string) string {
	if uuid.Validate(id) != nil {
		return id
	}
	return strings.ToLower(id)
}
