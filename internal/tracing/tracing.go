// Package tracing sends the spans of the plugin to a collector, by OTLP. Where they go is
// said by the variables OTEL_EXPORTER_OTLP_*, and which calls are traced by
// OTEL_TRACES_SAMPLER, as https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
// has them.
package tracing

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/go-logr/zapr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
)

// Options describe the plugin whose spans are sent.
type Options struct {
	Version string
	// Role is controller, node, or both with a comma.
	Role string
	// Logger has what goes wrong with the sending; nil discards it.
	Logger *zap.Logger
}

// protocol is the one of OTLP that is spoken, the default of its specification. Beside
// gRPC's, it costs the same memory, and needs no second gRPC client that would trace itself.
const protocol = "http/protobuf"

// Start makes the provider of OpenTelemetry's global API one that sends spans. It asks
// nobody: a collector that can't be reached costs the spans, which are told in the log. An
// error is about the environment. stop sends what is left, within 5 s.
func Start(ctx context.Context, opts Options) (stop func(), err error) {
	if opts.Logger == nil {
		opts.Logger = zap.NewNop()
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if asked := os.Getenv(name); asked != "" && asked != protocol {
			return nil, fmt.Errorf("%s=%s: the plugin speaks %s; let OTEL_EXPORTER_OTLP_ENDPOINT name that port of the collector, 4318 as a rule", name, asked, protocol)
		}
	}
	// What is set first is overridden by the environment.
	described, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "cinder-csi"),
		attribute.String("service.version", cmp.Or(opts.Version, "unknown")),
		attribute.String("cinder.csi.role", opts.Role),
	), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("send traces: %w", err)
	}
	log := opts.Logger.With(zap.String("library", "opentelemetry"))
	otel.SetLogger(zapr.NewLogger(log.WithOptions(zap.IncreaseLevel(zap.WarnLevel))))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces are lost", zap.Error(err)) }))
	provider := trace.NewTracerProvider(trace.WithBatcher(legible{exporter}), trace.WithResource(described))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetTracerProvider(provider)
	return func() {
		const patience = 5 * time.Second
		//nolint:contextcheck // ctx ends with the plugin; its last spans are sent then.
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("traces are lost", zap.Error(err))
		}
	}, nil
}
