// Command upstream runs Kubernetes' own storage suite against the driver in the
// cluster that is up, and says what became of it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/cinder-csi/cinder-csi/e2e/cluster"
	"github.com/cinder-csi/cinder-csi/e2e/upstream"
)

const usage = `Usage: upstream [flags] core|full|check

  core   the specs for every change, a few minutes
  full   all specs, slow, serial and disruptive ones included
  check  only compare the test driver files with the suite's source

Flags:
`

type options struct {
	profile string
	focus   string
	procs   int
	list    bool
}

// errUsage has been told already.
var errUsage = errors.New("usage")

// Exit statuses: 0 when all specs passed, 1 when one failed or was not run
// without a reason, or the suite could not be run, 2 for a wrong command line.
func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		_, _ = fmt.Fprintf(os.Stderr, "upstream: %v\n", err)
		os.Exit(1)
	}
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("upstream", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { _, _ = fmt.Fprint(stderr, usage); fs.PrintDefaults() }
	fs.StringVar(&o.focus, "focus", "", "only those specs of full whose name matches this regular expression")
	fs.IntVar(&o.procs, "procs", 4, "how many specs are run at once")
	fs.BoolVar(&o.list, "list", false, "list the specs instead of running them")
	if err := fs.Parse(args); err != nil {
		return o, errUsage
	}
	o.profile = fs.Arg(0)
	switch {
	case fs.NArg() != 1, o.procs < 1, o.profile != "core" && o.profile != "full" && o.profile != "check", o.focus != "" && o.profile != "full":
		fs.Usage()
		return o, errUsage
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if err := check(ctx); err != nil {
		return err
	}
	if o.profile == "check" {
		_, _ = fmt.Fprintln(stdout, "the test driver files are as the suite wants them")
		return nil
	}
	c, err := cluster.Load()
	if err != nil {
		return err
	}
	suite := &upstream.Suite{
		Bin: c.BinDir, Kubeconfig: c.Kubeconfig, Dir: filepath.Join(c.Dir, "logs", "upstream", o.profile),
		Nodes: nodesOf(c), Out: stdout,
	}
	if err := suite.Prepare(); err != nil {
		return err
	}
	profile, err := choose(ctx, suite, o)
	if err != nil {
		return err
	}
	if o.list {
		profile.Print(stdout)
		return nil
	}
	summary, err := suite.Run(ctx, profile)
	if err != nil {
		return err
	}
	summary.Print(stdout)
	if err := summary.Save(filepath.Join(suite.Dir, "summary.txt")); err != nil {
		return err
	}
	if !summary.OK() {
		return fmt.Errorf("the storage suite is not satisfied; logs and reports are in %s", suite.Dir)
	}
	return nil
}

func choose(ctx context.Context, suite *upstream.Suite, o options) (upstream.Profile, error) {
	specs, err := suite.List(ctx)
	if err != nil {
		return upstream.Profile{}, err
	}
	machine, err := upstream.ThisMachine()
	if err != nil {
		return upstream.Profile{}, err
	}
	if o.profile == "core" {
		return upstream.Core(specs, machine, o.procs)
	}
	if o.focus == "" {
		return upstream.Full(specs, machine, o.procs), nil
	}
	pattern, err := regexp.Compile(o.focus)
	if err != nil {
		return upstream.Profile{}, fmt.Errorf("--focus: %w", err)
	}
	return upstream.Focused(specs, machine, o.procs, pattern), nil
}

// check compares the test driver files with the source that e2e.test is built from.
func check(ctx context.Context) error {
	checkout, err := cluster.Source()
	if err != nil {
		return err
	}
	source, err := upstream.Source(ctx, filepath.Join(checkout, "e2e", "tools", "kube"))
	if err != nil {
		return err
	}
	return upstream.CheckFiles(source)
}
