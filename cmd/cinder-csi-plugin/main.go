// Command cinder-csi-plugin is a CSI driver for OpenStack Cinder. Without a command it
// serves the controller role, the node role, or both, on one endpoint. Its commands tell
// operators about clouds, nodes and volumes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"

	"github.com/cinder-csi/cinder-csi/internal/driver"
	"github.com/cinder-csi/cinder-csi/internal/report"
)

// version is set by the linker.
var version = "unknown"

// Exit statuses of the plugin: 0 when asked to stop, 1 when it could not run, 2 when the
// command line makes no sense. Those of commands are in internal/report.
func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// errServe is the error of a plugin that could not run.
type errServe struct{ error }

func (e errServe) Unwrap() error { return e.error }

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	root := newRootCommand(serve)
	root.SetArgs(withoutProgram(args))
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.Is(err, report.ErrWrong) {
		_, _ = fmt.Fprintf(stderr, "cinder-csi-plugin: %v\n", err)
	}
	if errors.As(err, new(errServe)) {
		return 1
	}
	return report.Status(err)
}

// withoutProgram drops a first argument that is the program itself. The image of
// the reference driver has no entry point, so its manifests begin the arguments
// of a container with the program; ours has one, and would get it twice.
func withoutProgram(args []string) []string {
	if len(args) > 0 && args[0] == "/bin/cinder-csi-plugin" {
		return args[1:]
	}
	return args
}

// serve runs the plugin until ctx ends.
func serve(ctx context.Context, opts options) error {
	logger := newLogger(opts.verbosity, opts.logFormat)
	defer func() { _ = logger.Sync() }()
	// mount-utils logs through klog.
	klog.SetLogger(zapr.NewLogger(logger))
	for _, name := range opts.withoutEffect {
		logger.Warn("this flag has no effect here; it is accepted so that manifests of the reference driver start", zap.String("flag", "--"+name))
	}
	if err := driver.Run(ctx, opts.driver, logger); err != nil {
		return errServe{err}
	}
	return nil
}

// newLogger writes to standard error: everything up to verbosity 3 is the
// outcome of calls, from 4 on it is requests, answers and cloud requests too.
func newLogger(verbosity int, format string) *zap.Logger {
	level := zapcore.InfoLevel
	if verbosity >= 4 {
		level = zapcore.DebugLevel
	}
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(config)
	if format == "console" {
		encoder = zapcore.NewConsoleEncoder(config)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), level))
}
