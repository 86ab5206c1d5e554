package openstack

import (
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// TestRequestsAreTraced has the only provider of spans in this package: it is the
// program's, and tests beside this one send nothing to it that this one looks at.
func TestRequestsAreTraced(t *testing.T) {
	recorded := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(recorded))
	otel.SetTracerProvider(provider)
	t.Cleanup(func() { otel.SetTracerProvider(noop.NewTracerProvider()) })

	c := newTestCloud(t, script(says(503, ""), says(200, volumeBody(idA)), says(404, `{"itemNotFound": {"message": "no"}}`), says(409, "{}"), hangUp))
	client := c.connect(t, Options{Cloud: "far"})
	c.expire()
	ctx, parent := provider.Tracer("test").Start(t.Context(), "the call")
	if _, err := client.GetVolume(ctx, idA); err != nil {
		t.Fatal(err)
	}
	if _, err := client.GetVolume(ctx, idB); err == nil {
		t.Error("a missing volume is there")
	}
	if err := client.DeleteVolume(ctx, idA); err == nil {
		t.Error("a busy volume was deleted")
	}
	if _, err := client.CreateVolume(ctx, cloud.VolumeRequest{Name: "canary", SizeGiB: 1}); err == nil {
		t.Error("a lost answer is one")
	}
	parent.End()
	var got []string
	for _, span := range recorded.Ended() {
		if span.SpanContext().TraceID() != parent.SpanContext().TraceID() || span.SpanContext().SpanID() == parent.SpanContext().SpanID() {
			continue
		}
		values := map[string]string{}
		for _, a := range span.Attributes() {
			values[string(a.Key)] = a.Value.String()
		}
		got = append(got, fmt.Sprint(span.Name(), " ", values["openstack.service"], " ", values["openstack.request"], " ", values["http.response.status_code"],
			" ", values["http.request.resend_count"], " ", values["openstack.request_id"], " ", values["error.type"], " ", span.Status().Code == codes.Error))
		if span.SpanKind() != trace.SpanKindClient || values["server.address"] != "127.0.0.1" || values["server.port"] == "" || values["url.full"] == "" || values["openstack.cloud"] != "far" {
			t.Errorf("%s: %v", span.Name(), values)
		}
		for _, secret := range []string{"sesame", "secret-token", "canary"} {
			if strings.Contains(fmt.Sprint(span.Attributes(), span.Status(), span.Events()), secret) {
				t.Errorf("%s is in %s", secret, span.Name())
			}
		}
	}
	want := []string{
		"GET /volume/v3/p1/volumes/{id} cinder volume_get 401  req-1 401 true",
		"POST /identity/v3/auth/tokens keystone token_create 201  req-1  false",
		"GET /volume/v3/p1/volumes/{id} cinder volume_get 503 1 req-1 503 true",
		"GET /volume/v3/p1/volumes/{id} cinder volume_get 200 2 req-1  false",
		"GET /volume/v3/p1/volumes/{id} cinder volume_get 404  req-1  false",
		"DELETE /volume/v3/p1/volumes/{id} cinder volume_delete 409  req-1 409 true",
		"POST /volume/v3/p1/volumes cinder volume_create    connection true",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for i, header := range c.header("Traceparent") {
		if !strings.HasPrefix(header, "00-"+parent.SpanContext().TraceID().String()+"-") || !strings.HasSuffix(header, "-01") {
			t.Errorf("request %d has %q", i, header)
		}
	}
	otel.SetTracerProvider(noop.NewTracerProvider())
	other := c.connect(t, Options{})
	c.serve = says(200, volumeBody(idA))
	if _, err := other.GetVolume(t.Context(), idA); err != nil || c.header("Traceparent")[0] != "" {
		t.Errorf("%v, %q", err, c.header("Traceparent"))
	}
}
