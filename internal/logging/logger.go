package logging

import (
	"io"
	"log"
	"slices"

	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zapgrpc"
	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2"
)

// Formats of a log.
const (
	JSON    = "json"
	Console = "console"
)

// debugVerbosity is the number of -v from which on debug lines are written.
const debugVerbosity = 4

// New returns a logger that writes to w as JSON or Console, and its level, which may be
// changed while it is in use. Up to verbosity 3, the log has the outcome of calls; from 4
// on it has requests, answers and requests to clouds too. A key is written once in a line:
// the one that was said last counts.
func New(w io.Writer, format string, verbosity int) (*zap.Logger, zap.AtomicLevel) {
	level := zap.NewAtomicLevelAt(zap.InfoLevel)
	if verbosity >= debugVerbosity {
		level.SetLevel(zap.DebugLevel)
	}
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(config)
	if format == Console {
		encoder = zapcore.NewConsoleEncoder(config)
	}
	return zap.New(&once{Core: zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level)}), level
}

// once is a core that writes each key of a line once.
type once struct {
	zapcore.Core
	fields []zap.Field
}

// With returns a core that adds fields to each line.
func (o *once) With(fields []zap.Field) zapcore.Core {
	return &once{Core: o.Core, fields: merge(o.fields, fields)}
}

// Check adds the core to those that write the line, if its level is enabled.
func (o *once) Check(entry zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if o.Enabled(entry.Level) {
		return ce.AddCore(entry, o)
	}
	return ce
}

// Write writes a line.
func (o *once) Write(entry zapcore.Entry, fields []zap.Field) error {
	return o.Core.Write(entry, merge(o.fields, fields))
}

// merge returns fields and more, without those that a later one of the same key replaces.
func merge(fields, more []zap.Field) []zap.Field {
	all := slices.Concat(fields, more)
	kept := all[:0]
	for i, f := range all {
		if !slices.ContainsFunc(all[i+1:], func(later zap.Field) bool { return later.Key == f.Key }) {
			kept = append(kept, f)
		}
	}
	return kept
}

// Libraries has the libraries of the plugin write to logger: klog (mount-utils,
// client-go), gRPC and the standard log (net/http). gRPC's own lines about connections
// that come and go are left out. It has to be called before any of them is in use.
func Libraries(logger *zap.Logger) {
	klog.SetLogger(zapr.NewLogger(logger))
	grpclog.SetLoggerV2(zapgrpc.NewLogger(logger.WithOptions(zap.IncreaseLevel(zap.WarnLevel))))
	standard, err := zap.NewStdLogAt(logger, zap.WarnLevel)
	if err == nil { // the level exists
		log.SetFlags(0)
		log.SetOutput(standard.Writer())
	}
}
