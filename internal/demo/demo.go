// Package demo takes volumes through their whole life on one machine, as an
// orchestrator would: by CSI calls alone, to the driver's real programs, which
// work on a development cloud with real disks, filesystems and mounts.
//
// It runs those programs itself, in a directory of its own, keeps them
// running, can kill them in the middle of their work, and takes away all that
// it has made, however it ends.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Options say what to demonstrate.
type Options struct {
	// BinDir holds the binaries devcloud and cinder-csi-plugin.
	BinDir string
	// Volumes are some of those that Volumes returns; empty means all.
	Volumes []string
	// Kills are the components to kill, and when.
	Kills []Kill
	// KeepLogs keeps the directory of logs when the demo fails.
	KeepLogs bool
	// TempDir is where the demo makes its directory; empty means where the
	// system keeps temporary files, or /var where device nodes don't work there.
	TempDir string
	// Out takes the report.
	Out *os.File
}

// RunError is a demo that did not go as it should.
type RunError struct {
	// Volume and Step tell where; both are empty outside of the steps.
	Volume, Step string
	Err          error
}

// Error returns one line.
func (f *RunError) Error() string {
	text := strings.ReplaceAll(f.Err.Error(), "\n", "; ")
	if f.Step == "" {
		return text
	}
	return fmt.Sprintf("%s: %s: %s", f.Volume, f.Step, text)
}

// Unwrap returns the cause.
func (f *RunError) Unwrap() error { return f.Err }

// ErrInterrupted tells of a demo that has ended because its context has.
var ErrInterrupted = errors.New("interrupted")

// Run runs the demo and reports to opts.Out. It returns nil when everything
// was as it should be and nothing is left. When ctx ends, it tidies up and
// returns ErrInterrupted. An error is one line.
func Run(ctx context.Context, opts Options) error {
	started := time.Now()
	if len(opts.Volumes) == 0 {
		opts.Volumes = Volumes()
	}
	if err := checkVolumes(opts.Volumes); err != nil {
		return err
	}
	if err := preflight(thisMachine(ctx), opts.Volumes); err != nil {
		return err
	}
	bins, err := findBinaries(opts.BinDir)
	if err != nil {
		return err
	}
	s := &show{opts: opts, bins: bins, report: newReport(opts.Out, styleOf(opts.Out, os.Getenv)), kills: opts.Kills}
	s.sweep()
	if s.before, err = takeInventory(sysBlock); err != nil {
		return err
	}
	if s.home, err = newHome(bases(opts.TempDir)...); err != nil {
		return err
	}
	err = s.perform(ctx)
	if err = s.tidy(ctx, err); err != nil {
		return err
	}
	s.summary(time.Since(started))
	return nil
}

// sysBlock is where the kernel lists the block devices.
const sysBlock = "/sys/block"

func checkVolumes(chosen []string) error {
	for i, name := range chosen {
		if !slices.Contains(Volumes(), name) {
			return fmt.Errorf("no volume %q; there are %s", name, strings.Join(Volumes(), ", "))
		}
		if slices.Contains(chosen[:i], name) {
			return fmt.Errorf("volume %q is named twice", name)
		}
	}
	return nil
}

// sweep takes away what earlier demos have left that were killed outright.
func (s *show) sweep() {
	for _, h := range abandoned(bases(s.opts.TempDir)...) {
		if err := demolish(h, s.bins, false); err != nil {
			s.report.Note("can't take away what a dead demo has left: " + oneLine(err))
			continue
		}
		s.report.Note("took away what a dead demo has left in " + h.dir)
	}
}

// oneLine flattens joined errors.
func oneLine(err error) string {
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// interrupted reports whether a demo has ended because it was told to, rather
// than by a failure of its own.
func interrupted(ctx context.Context, err error) bool {
	var failure *RunError
	cause := context.Cause(ctx)
	return err != nil && cause != nil && errors.Is(err, cause) && !errors.As(cause, &failure)
}
