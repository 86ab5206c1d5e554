package tracing

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// legible replaces bytes that are no UTF-8, which a cloud or a program may have put into
// an error or an id. OTLP takes none, and hundreds of spans that are sent together would be
// lost with the one that has such a byte.
type legible struct{ trace.SpanExporter }

// ExportSpans implements trace.SpanExporter.
func (l legible) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	spans = slices.Clone(spans)
	for i, span := range spans {
		stub := tracetest.SpanStubFromReadOnlySpan(span)
		valid := utf8.ValidString(stub.Name) && utf8.ValidString(stub.Status.Description) && !slices.ContainsFunc(stub.Attributes, illegible)
		for _, event := range stub.Events {
			valid = valid && utf8.ValidString(event.Name) && !slices.ContainsFunc(event.Attributes, illegible)
		}
		if valid {
			continue
		}
		stub.Name, stub.Status.Description, stub.Attributes = text(stub.Name), text(stub.Status.Description), texts(stub.Attributes)
		stub.Events = slices.Clone(stub.Events)
		for j, event := range stub.Events {
			stub.Events[j].Name, stub.Events[j].Attributes = text(event.Name), texts(event.Attributes)
		}
		spans[i] = stub.Snapshot()
	}
	return l.SpanExporter.ExportSpans(ctx, spans)
}

func illegible(of attribute.KeyValue) bool {
	values := []string{string(of.Key)}
	switch of.Value.Type() {
	case attribute.STRING:
		values = append(values, of.Value.AsString())
	case attribute.STRINGSLICE:
		values = append(values, of.Value.AsStringSlice()...)
	}
	return slices.ContainsFunc(values, func(s string) bool { return !utf8.ValidString(s) })
}

func text(of string) string { return strings.ToValidUTF8(of, "\uFFFD") }

// texts returns attributes whose illegible values are text.
func texts(of []attribute.KeyValue) []attribute.KeyValue {
	of = slices.Clone(of)
	for i, one := range of {
		if illegible(one) {
			of[i] = attribute.String(text(string(one.Key)), text(one.Value.String()))
		}
	}
	return of
}
