package tracing_test

import (
	"errors"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/cinder-csi/cinder-csi/internal/tracing"
	"github.com/cinder-csi/cinder-csi/internal/tracing/otlptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSpansReachTheCollectorWithWhatTheirPluginIs(t *testing.T) {
	collector := otlptest.Start(t)
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.node.name=worker-1")
	stop, err := tracing.Start(t.Context(), tracing.Options{Version: "v1", Role: "node"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, parent := otel.Tracer("test").Start(t.Context(), "parent")
	_, child := otel.Tracer("test").Start(ctx, "child")
	child.End()
	parent.End()
	stop()
	spans := collector.Spans()
	if len(spans) != 2 || string(spans[0].GetParentSpanId()) != string(spans[1].GetSpanId()) || string(spans[0].GetTraceId()) != string(spans[1].GetTraceId()) {
		t.Errorf("spans %v", spans)
	}
	for key, want := range map[string]string{"service.name": "cinder-csi", "service.version": "v1", "cinder.csi.role": "node", "k8s.node.name": "worker-1"} {
		if got := collector.Resource()[key]; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

func TestTheEnvironmentNamesTheService(t *testing.T) {
	collector := otlptest.Start(t)
	t.Setenv("OTEL_SERVICE_NAME", "storage")
	stop, err := tracing.Start(t.Context(), tracing.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, span := otel.Tracer("test").Start(t.Context(), "one")
	span.End()
	stop()
	if got := collector.Resource()["service.name"]; got != "storage" {
		t.Errorf("the service is %q", got)
	}
}

// Bytes of a cloud or a program that are no UTF-8 cost no span, neither theirs nor those
// that are sent with it.
func TestSpansArriveWhateverBytesAreInThem(t *testing.T) {
	collector := otlptest.Start(t)
	core, logs := observer.New(zap.WarnLevel)
	stop, err := tracing.Start(t.Context(), tracing.Options{Logger: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"good", "bad\xff"} {
		for _, spoil := range []func(trace.Span){
			func(s trace.Span) { s.SetName(text) },
			func(s trace.Span) { s.SetStatus(codes.Error, text) },
			func(s trace.Span) { s.SetAttributes(attribute.String("key", text), attribute.Int("number", 1)) },
			func(s trace.Span) { s.SetAttributes(attribute.StringSlice("keys", []string{text})) },
			func(s trace.Span) { s.RecordError(errors.New(text)) },
			func(s trace.Span) { s.AddEvent(text) },
		} {
			_, span := otel.Tracer("test").Start(t.Context(), "one")
			spoil(span)
			span.End()
		}
	}
	stop()
	spans := collector.Spans()
	if len(spans) != 12 || logs.Len() > 0 {
		t.Fatalf("%d spans, %v", len(spans), logs.All())
	}
	if got := otlptest.Attributes(spans[8].GetAttributes()); got["key"] != "bad\uFFFD" || spans[8].GetName() != "one" || len(spans[8].GetAttributes()) != 2 {
		t.Errorf("%v", spans[8])
	}
}

// A collector that is away costs spans, and neither the start nor the end.
func TestACollectorThatIsAwayIsToldAndStopsNothing(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	core, logs := observer.New(zap.WarnLevel)
	stop, err := tracing.Start(t.Context(), tracing.Options{Logger: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	_, span := otel.Tracer("test").Start(t.Context(), "one")
	span.End()
	stop()
	if logs.FilterMessage("traces are lost").Len() == 0 {
		t.Errorf("nothing is told: %v", logs.All())
	}
}

func TestAnEnvironmentThatMakesNoSenseIsRefused(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_PROTOCOL":        "grpc",
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json",
		"OTEL_RESOURCE_ATTRIBUTES":           "node",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			if _, err := tracing.Start(t.Context(), tracing.Options{}); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
		})
	}
}
