package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// tailLines is how much of a log is shown when a step fails.
const tailLines = 12

// leftInCloud asks the cloud whether anything is left in it.
func (s *show) leftInCloud(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	left, err := s.fleet.meter.admin.Left(ctx)
	if err != nil {
		return &RunError{Err: fmt.Errorf("look for leftovers in the cloud: %w", err)}
	}
	if len(left) > 0 {
		return &RunError{Err: fmt.Errorf("left in the cloud: %s", strings.Join(left, ", "))}
	}
	now, err := takeInventory(sysBlock)
	if err != nil {
		return err
	}
	if own := compare(s.before, now, s.home.dir).own; len(own) > 0 {
		return &RunError{Err: fmt.Errorf("left on the machine: %s", strings.Join(own, ", "))}
	}
	return nil
}

// tidy ends the programs and takes everything away. err is how the demo went;
// what tidy returns is how it ended: err, or what could not be taken away.
func (s *show) tidy(ctx context.Context, err error) error {
	if err != nil {
		s.explain(ctx, err)
	}
	var failed error
	if s.fleet != nil {
		failed = s.fleet.close()
	}
	failed = errors.Join(failed, demolish(s.home, s.bins, err != nil && s.opts.KeepLogs))
	after, invErr := takeInventory(sysBlock)
	if invErr == nil {
		diff := compare(s.before, after, s.home.dir)
		for _, own := range diff.own {
			failed = errors.Join(failed, errors.New("left behind: "+own))
		}
		if n := len(diff.others); n > 0 {
			if err == nil {
				s.report.Line("")
			}
			s.report.Note(fmt.Sprintf("another program of this machine made %s meanwhile, as: %s", plural(n, "change"), diff.others[0]))
		}
	}
	failed = errors.Join(failed, invErr)
	if err != nil && s.opts.KeepLogs {
		s.report.Line("  logs kept: %s", filepath.Dir(s.home.log("")))
	}
	switch {
	case failed != nil && err != nil:
		return &RunError{Err: fmt.Errorf("%w; and tidying up: %w", err, failed)}
	case failed != nil:
		return &RunError{Err: fmt.Errorf("tidying up: %w", failed)}
	}
	if interrupted(ctx, err) {
		return told(ctx, err)
	}
	return err
}

// told is the end of a demo that was told to end and has left nothing.
func told(ctx context.Context, err error) error {
	var where *RunError
	if errors.As(err, &where) && where.Step != "" {
		return fmt.Errorf("%w in %s: %s (%w), nothing left behind", ErrInterrupted, where.Volume, where.Step, context.Cause(ctx))
	}
	return fmt.Errorf("%w (%w), nothing left behind", ErrInterrupted, context.Cause(ctx))
}

// explain shows the end of the log that has most to say about a failure.
func (s *show) explain(ctx context.Context, err error) {
	if interrupted(ctx, err) {
		s.report.Note("interrupted: unmounting, detaching, stopping")
		return
	}
	if s.fleet == nil {
		return
	}
	name := s.fleet.suspect()
	lines := s.fleet.tail(name, tailLines)
	if len(lines) == 0 {
		return
	}
	s.report.Line("")
	s.report.Line("  the end of the log of %s:", name)
	for _, line := range lines {
		s.report.Line("  %s %s", s.report.style.dim("|"), line)
	}
	s.report.Line("")
}

// demolish takes away a demo's mounts, loop devices and files. Its programs
// have ended, or died, before.
func demolish(h *home, bins binaries, keepLogs bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	failed := h.unmountAll(ctx)
	if _, err := os.Stat(h.cloudState()); err == nil {
		wipe := exec.CommandContext(ctx, bins.devcloud, "wipe", "--state-dir="+h.cloudState())
		if out, err := wipe.CombinedOutput(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("devcloud wipe: %w: %s", err, strings.TrimSpace(string(out))))
		}
	}
	return errors.Join(failed, h.detachLoops(), h.remove(keepLogs))
}

// summary is the last line.
func (s *show) summary(took time.Duration) {
	text := fmt.Sprintf("%s, %s, %s", plural(len(s.opts.Volumes), "volume"), plural(s.steps, "step"), plural(s.requests, "request"))
	if s.killed > 0 {
		text += ", " + plural(s.killed, "kill")
	}
	text += ", " + shortTime(took) + ": all well, nothing left behind"
	s.report.Line("")
	s.report.Line("%s %s", s.report.style.ok(), s.report.style.bold(text))
}
