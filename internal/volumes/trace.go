package volumes

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// startSpan begins the span of a wait, where the call is traced. Without a name of its own
// it is named after the operation.
func startSpan(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, func(error)) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, func(error) {}
	}
	c, _ := ctx.Value(callKey{}).(call)
	name, attributes := c.traced(name)
	ctx, span := otel.Tracer("github.com/cinder-csi/cinder-csi/internal/volumes").Start(ctx, name, append(opts, trace.WithAttributes(attributes...))...)
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

// traced returns the name and the attributes of a span.
func (c call) traced(name string) (string, []attribute.KeyValue) {
	if c.operation == nil {
		return name, nil
	}
	o := &c.counted.all.operations
	o.mu.Lock()
	defer o.mu.Unlock()
	attributes := []attribute.KeyValue{attribute.String("cinder_csi.cloud", c.cloud), attribute.String("cinder_csi.operation", c.name)}
	for _, id := range []struct{ key, value string }{{"cinder.volume.id", c.volumeID}, {"nova.server.id", c.server}, {"cinder_csi.subject", c.subject}} {
		if id.value != "" {
			attributes = append(attributes, attribute.String(id.key, id.value))
		}
	}
	if name == "" {
		name = "wait " + c.name
	}
	return name, attributes
}

// traceTurn adds the span of a wait for a turn, where there was a wait worth telling.
func traceTurn(ctx context.Context, key string, begun time.Time, err error) {
	if time.Since(begun) < time.Millisecond {
		return
	}
	what, _, _ := strings.Cut(key, " ")
	_, end := startSpan(ctx, "turn at "+what, trace.WithTimestamp(begun))
	end(err)
}
