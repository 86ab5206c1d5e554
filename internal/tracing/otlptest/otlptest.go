// Package otlptest is a collector of traces for tests.
package otlptest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector keeps the spans that it is sent.
type Collector struct {
	URL string

	mu       sync.Mutex
	spans    []*trace.Span
	resource map[string]string
	bodies   []byte
}

// Start starts a collector on the loopback that ends with the test, and has the
// environment name it.
func Start(t *testing.T) *Collector {
	t.Helper()
	c := &Collector{resource: make(map[string]string)}
	server := httptest.NewServer(http.HandlerFunc(c.receive))
	t.Cleanup(server.Close)
	c.URL = server.URL
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	return c
}

func (c *Collector) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var sent collector.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
		http.Error(w, "no traces", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bodies = append(c.bodies, body...)
	for _, of := range sent.GetResourceSpans() {
		for key, value := range Attributes(of.GetResource().GetAttributes()) {
			c.resource[key] = value
		}
		for _, in := range of.GetScopeSpans() {
			c.spans = append(c.spans, in.GetSpans()...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// Spans returns all that came, as they came.
func (c *Collector) Spans() []*trace.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spans
}

// Resource returns the attributes of those who sent them.
func (c *Collector) Resource() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resource
}

// Sent returns everything that was sent, for a search.
func (c *Collector) Sent() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.bodies)
}

// Attributes returns those that are texts.
func Attributes(all []*common.KeyValue) map[string]string {
	texts := make(map[string]string)
	for _, a := range all {
		if value, ok := a.GetValue().GetValue().(*common.AnyValue_StringValue); ok {
			texts[a.GetKey()] = value.StringValue
		}
	}
	return texts
}
