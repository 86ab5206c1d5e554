package watch

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// trace begins the span of a question. There is none where no waiter's work is traced.
func (w *Watcher[K, S]) trace(ctx context.Context, asked []*waiter[K, S]) (context.Context, trace.Span) {
	var links []trace.Link
	for _, one := range asked {
		if one.span != nil {
			links = append(links, trace.Link{SpanContext: one.span.SpanContext()})
		}
	}
	if len(links) == 0 {
		return ctx, trace.SpanFromContext(ctx)
	}
	return otel.Tracer("github.com/cinder-csi/cinder-csi/internal/watch").Start(ctx, "poll "+w.opts.Name,
		trace.WithNewRoot(), trace.WithLinks(links...), trace.WithAttributes(attribute.Int("cinder_csi.waiters", len(asked))))
}

// endSpan ends the span of a question. That one was abandoned is no failure.
func endSpan(span trace.Span, err error, abandoned bool) {
	if err != nil && !abandoned {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}
