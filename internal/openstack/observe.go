package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// scope names what makes the spans.
const scope = "github.com/cinder-csi/cinder-csi/internal/openstack"

// The services, as metrics, spans and the log call them.
const (
	keystoneName = "keystone"
	cinderName   = "cinder"
	novaName     = "nova"
)

// Requests that are no call of a Client, as metrics and spans call them.
const (
	loginRequest      = "token_create"
	versionsRequest   = "version_get"
	credentialRequest = "application_credential_get"
)

// expects is the table of answers that are no error: those to a question whether a thing
// is there, about what an account may be kept from reading, and for more than there is
// room for. The caller acts on each of them.
func expects(request string, err error) bool {
	var expected []error
	switch request {
	case "volume_get", "snapshot_get", "backup_get", "server_get", "attachment_list", "attachment_record_list",
		"volume_delete", "snapshot_delete", "backup_delete", "attachment_record_delete", "volume_detach":
		expected = []error{cloud.ErrNotFound}
	case "volume_list", "snapshot_list", "backup_list": // from a marker that is gone
		expected = []error{cloud.ErrNotFound}
	case "pool_list", "service_list", "quota_get", "message_list", "zone_list", "volume_type_list", "volume_type_get":
		expected = []error{cloud.ErrForbidden, cloud.ErrNotFound}
	case "volume_create", "snapshot_create", "backup_create", "volume_expand", "volume_retype":
		expected = []error{cloud.ErrQuota}
	case "volume_attach":
		expected = []error{cloud.ErrAttachLimit}
	case versionsRequest, credentialRequest: // some gateways show neither
		expected = []error{cloud.ErrUnauthorized, cloud.ErrForbidden, cloud.ErrNotFound}
	}
	for _, kind := range expected {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// errand is what HTTP requests are sent for, until one is answered: the first and its
// repetitions.
type errand struct {
	// request is the value of the label.
	request string
	// sent counts the requests, and trouble is the cause to send another.
	sent    int
	trouble string
}

type errandKey struct{}

// onErrand returns a context for the requests of one errand, one after the other.
func onErrand(ctx context.Context, request string) context.Context {
	return context.WithValue(ctx, errandKey{}, &errand{request: request})
}

// observation is one HTTP request on its way.
type observation struct {
	conn    *connection
	service string
	errand  *errand
	req     *http.Request
	span    trace.Span
	start   time.Time
}

// observe begins to watch an HTTP request, from which end makes metrics, a span, a line
// of the log, and what Health tells. It adds a header where the call is traced.
func (c *connection) observe(req *http.Request, service string) *observation {
	e, ok := req.Context().Value(errandKey{}).(*errand)
	if !ok {
		e = &errand{request: "other"}
	}
	if e.sent > 0 && e.trouble != "" {
		c.metrics.retries.WithLabelValues(service, e.trouble).Inc()
	}
	ctx, span := c.tracer.Start(req.Context(), req.Method+" "+e.request, trace.WithSpanKind(trace.SpanKindClient))
	if span.SpanContext().IsValid() {
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(req.Header))
	}
	e.sent++
	return &observation{conn: c, service: service, errand: e, req: req, span: span, start: time.Now()}
}

// end is told what came of the request. sent tells that the cloud may have got it.
func (o *observation) end(resp *http.Response, err error, sent bool) {
	status, label := 0, "none"
	if err == nil {
		status, label = resp.StatusCode, statusLabel(resp.StatusCode)
	}
	o.conn.metrics.requests.WithLabelValues(o.service, o.errand.request, label).Inc()
	o.errand.trouble = trouble(status, sent)
	o.conn.sights[o.service].note(o, resp, err)
	o.log(resp, err)
	if o.span.IsRecording() {
		o.record(resp, err)
	}
	o.span.End()
}

// trouble says why a request is sent again, in the words of the label.
func trouble(status int, sent bool) string {
	switch {
	case status == 0 && sent:
		return "connection"
	case status == 0:
		return "unsent"
	case status == http.StatusTooManyRequests, status == http.StatusRequestEntityTooLarge:
		return "throttled"
	case status >= http.StatusInternalServerError:
		return "5xx"
	}
	return ""
}

// trouble returns what is wrong with the service, or with the credentials, nil if nothing.
func (o *observation) trouble(resp *http.Response, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s: %w", cloud.ErrUnavailable, o.service, err)
	case failed(resp):
		return fmt.Errorf("%w: %s answers HTTP %d", cloud.ErrUnavailable, o.service, resp.StatusCode)
	case resp.StatusCode == http.StatusUnauthorized && !expects(o.errand.request, cloud.ErrUnauthorized),
		resp.StatusCode == http.StatusForbidden && o.errand.request == loginRequest:
		return fmt.Errorf("%w by %s", cloud.ErrUnauthorized, o.service)
	case resp.StatusCode >= http.StatusBadRequest && o.errand.request == loginRequest:
		// Too many requests, say, or something else than Keystone at its address.
		return fmt.Errorf("%w: %s answers HTTP %d to the login", cloud.ErrUnavailable, o.service, resp.StatusCode)
	}
	return nil
}

// statusLabel returns a status of HTTP, and its hundred for one that HTTP has not: a cloud
// that makes up its own must not make up labels.
func statusLabel(status int) string {
	if http.StatusText(status) == "" {
		return strconv.Itoa(status/100) + "xx"
	}
	return strconv.Itoa(status)
}

// log writes a line: where the request changes something in the cloud, by which OpenStack's
// operator finds it in his logs, at the level of outcomes.
func (o *observation) log(resp *http.Response, err error) {
	level := zap.DebugLevel
	if o.service != keystoneName && !reads(o.req.Method) {
		level = zap.InfoLevel
	}
	entry := logging.From(o.req.Context()).Check(level, "openstack request")
	if entry == nil {
		return
	}
	fields := []zap.Field{
		zap.String("cloud", o.conn.opts.Cloud),
		zap.String("service", o.service),
		zap.String("request", o.errand.request),
		zap.String("httpMethod", o.req.Method),
		zap.String("path", o.req.URL.Path),
		zap.Duration("duration", time.Since(o.start)),
	}
	if resp != nil {
		fields = append(fields, zap.Int("status", resp.StatusCode), zap.String("openstackRequestID", requestID(resp.Header)))
	}
	if err != nil {
		fields = append(fields, zap.Error(err))
	}
	entry.Write(fields...)
}

// record fills the span by OpenTelemetry's conventions for HTTP clients. Neither headers
// nor bodies are in it, which hold tokens and passwords.
func (o *observation) record(resp *http.Response, err error) {
	host := hostOf(o.req.URL)
	o.span.SetName(o.req.Method + " " + o.template())
	o.span.SetAttributes(
		attribute.String("http.request.method", o.req.Method),
		attribute.String("server.address", o.req.URL.Hostname()),
		attribute.String("url.full", o.req.URL.Redacted()),
		attribute.String("url.template", o.template()),
		attribute.String("openstack.cloud", o.conn.opts.Cloud),
		attribute.String("openstack.service", o.service),
		attribute.String("openstack.request", o.errand.request),
	)
	if port, err := strconv.Atoi(host[strings.LastIndex(host, ":")+1:]); err == nil {
		o.span.SetAttributes(attribute.Int("server.port", port))
	}
	if o.errand.sent > 1 {
		o.span.SetAttributes(attribute.Int("http.request.resend_count", o.errand.sent-1))
	}
	if err != nil {
		o.span.SetAttributes(attribute.String("error.type", o.errand.trouble))
		o.span.SetStatus(codes.Error, err.Error())
		return
	}
	o.span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	if id := requestID(resp.Header); id != "" {
		o.span.SetAttributes(attribute.String("openstack.request_id", id))
	}
	if resp.StatusCode < http.StatusBadRequest {
		return
	}
	answer := gophercloud.ErrUnexpectedResponseCode{Actual: resp.StatusCode, ResponseHeader: resp.Header, Body: bodyOf(resp)}
	if !expects(o.errand.request, kind(answer)) {
		o.span.SetAttributes(attribute.String("error.type", strconv.Itoa(resp.StatusCode)))
		o.span.SetStatus(codes.Error, "")
	}
}

// template returns the path with the ids in it left out.
func (o *observation) template() string {
	segments := strings.Split(o.req.URL.Path, "/")
	for i, segment := range segments {
		if uuid.Validate(segment) == nil {
			segments[i] = "{id}"
		}
	}
	return strings.Join(segments, "/")
}
