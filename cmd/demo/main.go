// Demo takes an ext4, an xfs, a btrfs and a raw block volume through their
// whole life, on this machine alone, and shows what every step costs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/cinder-csi/cinder-csi/internal/demo"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// The exit statuses, beside 0.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func run(args []string) int {
	opts, err := parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		return exitUsage
	}
	// A shell of root may lack the directories that root's tools are in.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin:/usr/bin:/bin"); err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		return exitFailed
	}
	// A closed pipe must not end the program before it has tidied up: writing
	// to it fails instead.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	defer stop()
	err = demo.Run(ctx, opts)
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "demo: %v\n", err)
	if errors.Is(err, demo.ErrInterrupted) {
		return exitInterrupted
	}
	return exitFailed
}

// endings are the signals upon which the demo tidies up and ends. A closed
// terminal is one of them, unless the demo was started with nohup.
func endings() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// parse reads the command line.
func parse(args []string) (demo.Options, error) {
	opts := demo.Options{Out: os.Stdout}
	flags := pflag.NewFlagSet("demo", pflag.ContinueOnError)
	flags.StringVar(&opts.BinDir, "bin", "", "directory of the binaries devcloud and cinder-csi-plugin (default: that of this program)")
	flags.StringSliceVar(&opts.Volumes, "fs", demo.Volumes(), "volumes to take through")
	kills := flags.StringArray("kill", nil, "kill a component in the middle of a step: COMPONENT@STEP or COMPONENT@VOLUME/STEP, as in controller@attach or node1@xfs/stage; may be repeated")
	chaos := flags.Bool("chaos", false, "kill every component in the middle of a step, by a fixed schedule")
	flags.BoolVar(&opts.KeepLogs, "keep", false, "keep the logs when the demo fails")
	flags.SortFlags = false
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if flags.NArg() > 0 {
		return opts, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if opts.BinDir == "" {
		self, err := os.Executable()
		if err != nil {
			return opts, fmt.Errorf("find the own directory: %w", err)
		}
		opts.BinDir = filepath.Dir(self)
	}
	for _, text := range *kills {
		k, err := demo.ParseKill(text)
		if err != nil {
			return opts, fmt.Errorf("--kill: %w", err)
		}
		opts.Kills = append(opts.Kills, k)
	}
	if *chaos && len(opts.Volumes) > 0 {
		opts.Kills = append(opts.Kills, demo.Chaos(opts.Volumes)...)
	}
	return opts, nil
}
