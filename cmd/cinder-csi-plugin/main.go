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

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/driver"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/report"
)

// version, and the revision of the source, are set by the linker.
var version, revision = "unknown", "unknown"

// Exit statuses of the plugin: 0 when asked to stop, 1 when it could not run, 2 when the
// command line makes no sense. Those of commands are in internal/report.
func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// errNotRun means that the plugin could not run; its log says why.
var errNotRun = errors.New("the plugin could not run")

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	root := newRootCommand(func(ctx context.Context, opts options) error { return serve(ctx, opts, stderr) })
	root.SetArgs(withoutProgram(args))
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case errors.Is(err, errNotRun):
		return 1
	case err != nil && !errors.Is(err, report.ErrWrong):
		_, _ = fmt.Fprintf(stderr, "cinder-csi-plugin: %s\n", report.Plain(err.Error()))
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

// serve runs the plugin until ctx ends. Its log goes to w.
func serve(ctx context.Context, opts options, w io.Writer) error {
	logger, level := logging.New(w, opts.logFormat, opts.verbosity)
	opts.driver.LogLevel = &level
	defer func() { _ = logger.Sync() }()
	logging.Libraries(logger)
	for _, name := range opts.withoutEffect {
		logger.Warn("this flag has no effect here; it is accepted so that manifests of the reference driver start", zap.String("flag", "--"+name))
	}
	if err := driver.Run(ctx, opts.driver, logger); err != nil {
		logger.Error(errNotRun.Error(), zap.Error(err))
		return errNotRun
	}
	return nil
}
