// Command cinder-csi-plugin is a CSI driver for OpenStack Cinder. It serves the
// controller role, the node role, or both, on one endpoint.
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
	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"

	"github.com/cinder-csi/cinder-csi/internal/driver"
)

// version is set by the linker.
var version = "unknown"

// Exit statuses: 0 when asked to stop, 1 when the plugin could not run, 2 when
// the command line makes no sense.
func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	opts, err := parse(args, stdout)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "cinder-csi-plugin: %v (see --help)\n", err)
		return 2
	case opts.showVersion:
		_, _ = fmt.Fprintln(stdout, "cinder-csi-plugin", version)
		return 0
	}
	logger := newLogger(opts.verbosity, opts.logFormat)
	defer func() { _ = logger.Sync() }()
	// mount-utils logs through klog.
	klog.SetLogger(zapr.NewLogger(logger))
	for _, name := range opts.withoutEffect {
		logger.Warn("this flag has no effect here; it is accepted so that manifests of the reference driver start", zap.String("flag", "--"+name))
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := driver.Run(ctx, opts.driver, logger); err != nil {
		_, _ = fmt.Fprintf(stderr, "cinder-csi-plugin: %v\n", err)
		return 1
	}
	return 0
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
