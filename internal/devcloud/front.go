package devcloud

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/fault"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/metadata"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

// maxBody bounds a request's body.
const maxBody = 1 << 20

// front is what every request passes before and after its service: it is
// counted, delayed, spoilt by the fault plan, answered.
type front struct {
	cloud  *state.Cloud
	counts *counter
	log    *zap.Logger
}

// handler returns the handler of one route.
func (f *front) handler(route rest.Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, hr.Body, maxBody))
		if err != nil {
			http.Error(w, "request body: "+err.Error(), http.StatusBadRequest)
			return
		}
		r := &rest.Request{Request: hr, ID: rest.NewID(), Body: body, Operation: route.Operation}
		if route.OperationOf != nil {
			r.Operation = route.OperationOf(r)
		}
		f.counts.begin(hr.Method, r.Operation)
		status, whole := f.serve(w, r, route)
		f.counts.end(r.Operation, status)
		f.log.Debug("request", zap.String("operation", r.Operation), zap.String("method", hr.Method),
			zap.String("path", hr.URL.Path), zap.Int("status", status), zap.String("request_id", r.ID))
		if !whole {
			panic(http.ErrAbortHandler) // closes the connection; the server expects this very panic
		}
	})
}

// serve answers a request and returns the status, 0 for no answer, and whether
// all of it was sent: otherwise the connection is to be closed.
func (f *front) serve(w http.ResponseWriter, r *rest.Request, route rest.Route) (status int, whole bool) {
	if r.Operation != metadata.Operation {
		r.Fault = f.cloud.Faults().Match(r.Operation, func() []string { return f.resources(r) })
	}
	spoil := r.Fault
	if spoil == nil {
		spoil = &fault.Fault{}
	}
	if spoil.DropBefore {
		return 0, false
	}
	if latency.Sleep(r.Context(), spoil.Delay) != nil {
		return 0, false
	}
	if spoil.Before != 0 {
		return f.send(w, r, rest.Injected(spoil.Before, spoil.Body, spoil.RetryAfter, route.Errors), false)
	}
	r.Pause = func(ctx context.Context) error { return latency.Sleep(ctx, f.cloud.Latency().Call(r.Operation)) }
	if !route.Slow && r.Operation != metadata.Operation && r.Pause(r.Context()) != nil {
		return 0, false
	}
	resp := f.act(r, route)
	if spoil.Twice {
		resp = f.act(r, route)
	}
	if spoil.Drop || resp == nil {
		return 0, false
	}
	if spoil.After != 0 && resp.Status < 300 {
		resp = rest.Injected(spoil.After, spoil.Body, spoil.RetryAfter, route.Errors)
	}
	return f.send(w, r, resp, spoil.Truncate)
}

// act lets the service answer; nil when the client has gone.
func (f *front) act(r *rest.Request, route rest.Route) *rest.Response {
	resp, err := route.Handle(r)
	if err == nil {
		return resp
	}
	failed := &rest.Error{}
	switch {
	case errors.As(err, &failed):
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil
	default:
		f.log.Error("request failed", zap.String("operation", r.Operation), zap.Error(err))
		failed = &rest.Error{Status: http.StatusInternalServerError, Message: "The server has either erred or is incapable of performing the requested operation."}
	}
	header := http.Header{}
	if resp != nil && resp.Header != nil {
		header = resp.Header
	}
	if failed.Status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", `Keystone uri="http://`+r.Host+`/identity"`)
	}
	if failed.Status == http.StatusRequestEntityTooLarge {
		header.Set("Retry-After", "0")
	}
	return &rest.Response{Status: failed.Status, Header: header, Body: route.Errors(failed.Status, failed.Message)}
}

// send writes an answer; half of it where truncate says so. It returns as serve does.
func (f *front) send(w http.ResponseWriter, r *rest.Request, resp *rest.Response, truncate bool) (status int, whole bool) {
	body, contentType, err := resp.Encode()
	if err != nil {
		f.log.Error("encode an answer", zap.String("operation", r.Operation), zap.Error(err))
		return 0, false
	}
	for name, values := range resp.Header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	w.Header().Set("X-Openstack-Request-Id", r.ID)
	if contentType != "" && w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", contentType)
	}
	if resp.Status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(resp.Status)
	if truncate {
		body = body[:len(body)/2]
	}
	// A client that has gone cannot be told.
	_, _ = io.Copy(w, bytes.NewReader(body))
	if truncate {
		_ = http.NewResponseController(w).Flush()
	}
	return resp.Status, !truncate
}

// resources returns the ids and names of what a request is about.
func (f *front) resources(r *rest.Request) []string {
	var found []string
	for _, name := range []string{"id", "volume", "request", "server", "target"} {
		if v := r.PathValue(name); v != "" {
			found = append(found, v)
		}
	}
	if fields, err := rest.Fields(r.Body); err == nil && len(fields) > 0 {
		for _, name := range []string{"name", "volumeId", "volume_id", "snapshot_id", "source_volid", "backup_id"} {
			raw := rest.Member(fields[0].Value, name)
			if len(raw) > 2 && raw[0] == '"' {
				found = append(found, strings.Trim(string(raw), `"`))
			}
		}
	}
	return append(found, f.cloud.NamesOf(found)...)
}
