package filesystem

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	oteltrace "go.opentelemetry.io/otel/trace"
	utilexec "k8s.io/utils/exec"
)

// observer tells metrics and traces how long each program, and each mount, took and how
// it ended. All of them pass here, whatever became of the calls that began them. Of a
// program's arguments nothing is told.
type observer struct {
	durations *prometheus.HistogramVec
	tracer    oteltrace.Tracer
	fsTypes   map[string]string // that programs are for
}

func newObserver(metrics prometheus.Registerer) observer {
	o := observer{tracer: otel.Tracer("github.com/cinder-csi/cinder-csi/internal/filesystem"), fsTypes: make(map[string]string)}
	for _, t := range Types() {
		o.fsTypes["mkfs."+t.Name] = t.Name
		for _, program := range t.programs {
			o.fsTypes[program] = t.family
		}
	}
	o.durations = promauto.With(metrics).NewHistogramVec(prometheus.HistogramOpts{
		Name: "cinder_csi_node_tool_duration_seconds",
		Help: "How long programs ran, and mount, bind and umount took in the kernel, by the type of filesystem that they are for (ext4 for e2fsck of all ext) and by result: success, exit_N for a program's other exit statuses (blkid ends with 2 where nothing is), killed, or failed for what couldn't be run or the kernel refused.",
		// From a bind to the check of a large filesystem: 2 ms to 11 minutes.
		Buckets: prometheus.ExponentialBuckets(0.002, 3.5, 11),
	}, []string{"tool", "fstype", "result"})
	return o
}

// program runs a program by run, and returns its exit status; err is for one that
// couldn't be run or was killed.
func (o observer) program(ctx context.Context, name string, run func() error) (status int, err error) {
	begin, end := o.begin(ctx, name, o.fsTypes[name])
	status, err = exitStatus(name, run())
	if begin.IsRecording() {
		begin.SetAttributes(attribute.String("process.executable.name", name), attribute.Int("process.exit.code", status))
	}
	result := resultOf(err)
	if err == nil && status != 0 {
		result = "exit_" + strconv.Itoa(status)
	}
	end(result, err)
	return status, err
}

// kernel begins what is the kernel's work, as a mount, and returns what ends it with its
// error. It is for a defer, hence the pointer.
func (o observer) kernel(ctx context.Context, name, fsType string) (end func(*error)) {
	_, done := o.begin(ctx, name, fsType)
	return func(err *error) { done(resultOf(*err), *err) }
}

// begin begins a span and the time that is measured, both of which end ends.
func (o observer) begin(ctx context.Context, name, fsType string) (span oteltrace.Span, end func(result string, err error)) {
	began := time.Now()
	_, span = o.tracer.Start(ctx, name)
	if fsType != "" && span.IsRecording() {
		span.SetAttributes(attribute.String("cinder.fs_type", fsType))
	}
	return span, func(result string, err error) {
		o.durations.WithLabelValues(name, fsType, result).Observe(time.Since(began).Seconds())
		if err != nil {
			span.SetStatus(otelcodes.Error, err.Error())
		}
		span.End()
	}
}

// resultOf returns the result of what ended with err; whether a program that ran to its
// end has succeeded its exit status tells.
func resultOf(err error) string {
	var exit utilexec.ExitError
	switch {
	case err == nil:
		return "success"
	case errors.As(err, &exit):
		return "killed"
	}
	return "failed"
}
