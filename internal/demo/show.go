package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// stepTime bounds a step with all repetitions of its calls. The longest takes
// two seconds; a cloud that is killed meanwhile needs about one to come back.
const stepTime = 90 * time.Second

// startTime bounds the start of all programs.
const startTime = 30 * time.Second

// show is one run of the demo.
type show struct {
	opts   Options
	bins   binaries
	report *report
	before inventory
	home   *home
	fleet  *fleet
	kills  []Kill

	growsOnline bool
	// mountsCopies tells whether a btrfs copy can be mounted beside its original.
	mountsCopies bool
	steps        int
	requests     int
	killed       int
}

// perform runs the programs and takes the volumes through their steps.
func (s *show) perform(ctx context.Context) error {
	ctx, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	s.report.broken = func(err error) { failed(fmt.Errorf("nobody reads the output: %w", err)) }
	var err error
	if s.fleet, err = newFleet(s.home, s.bins, s.report, failed); err != nil {
		return err
	}
	if err := s.raise(ctx); err != nil {
		return &RunError{Err: fmt.Errorf("start: %w", err)}
	}
	if err := s.head(); err != nil {
		return err
	}
	for _, name := range s.opts.Volumes {
		if err := s.life(ctx, name); err != nil {
			return err
		}
	}
	return s.leftInCloud(ctx)
}

func (s *show) raise(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	s.report.Begin("start")
	defer s.report.quiet()
	s.report.Detail("devcloud, a controller plugin, two node plugins")
	return s.fleet.start(ctx)
}

// head tells what the demo works with.
func (s *show) head() error {
	const capSysResource = 24
	var err error
	if s.growsOnline, err = hasCapability(capSysResource); err != nil {
		return err
	}
	var release string
	if s.mountsCopies, release, err = mountsBtrfsCopies(); err != nil {
		return err
	}
	r, f := s.report, s.fleet
	r.Line("%s", r.style.bold("cinder-csi demo: the whole life of a volume, by CSI calls alone"))
	r.Line("")
	r.Fact("cloud", f.cloudURL+" (devcloud: one machine's OpenStack)")
	r.Fact("node1", fmt.Sprintf("%s in %s, found by config drive", f.nodes[Node1].id, zone1))
	r.Fact("node2", fmt.Sprintf("%s in %s, found by metadata service", f.nodes[Node2].id, zone2))
	if !s.growsOnline && slices.Contains(s.opts.Volumes, "ext4") {
		r.Fact("ext4", "can't grow while mounted here (no CAP_SYS_RESOURCE): it grows at the next stage")
	}
	if !s.mountsCopies && slices.Contains(s.opts.Volumes, "btrfs") {
		r.Fact("btrfs", "copies are made and not mounted: kernel "+release+" can't tell them from their original, 6.7 can")
	}
	for _, k := range s.kills {
		r.Fact("kill", k.String())
	}
	return nil
}

// life takes one volume through all steps.
func (s *show) life(ctx context.Context, name string) error {
	started, before := time.Now(), s.requests
	s.report.Volume(name)
	j := &journey{
		fs: name, run: s.home.id(), orch: s.fleet.orch, node1: s.fleet.nodes[Node1], node2: s.fleet.nodes[Node2],
		growsOnline:  s.growsOnline || name != "ext4",
		mountsCopies: s.mountsCopies || name != "btrfs",
	}
	for _, st := range steps() {
		if err := s.step(ctx, j, st); err != nil {
			return err
		}
	}
	s.report.Total(time.Since(started), s.requests-before)
	return nil
}

// step performs one step, counts what it costs, and reports it.
func (s *show) step(ctx context.Context, j *journey, st step) error {
	var now []Kill
	now, s.kills = takeKills(s.kills, j.fs, st.name)
	s.killed += len(now)
	s.fleet.takeRepeats()
	s.fleet.gun.load(now)
	s.fleet.write("step %s: %s", j.fs, st.name)
	s.report.Begin(st.name)
	began := time.Now()
	outcome, err := s.bounded(ctx, j, st)
	took := time.Since(began)
	s.fleet.gun.unload()
	spent, meterErr := s.spent(ctx)
	err = errors.Join(err, meterErr)
	if repeats := s.fleet.takeRepeats(); repeats > 0 {
		outcome += fmt.Sprintf(" (%s repeated)", plural(repeats, "call"))
	}
	if err != nil {
		outcome = "failed"
		if interrupted(ctx, err) {
			outcome = "interrupted"
		}
	}
	s.report.End(row{step: st.name, took: took, requests: spent, outcome: outcome, failed: err != nil})
	if err != nil {
		return &RunError{Volume: j.fs, Step: st.name, Err: err}
	}
	s.steps++
	return nil
}

func (s *show) bounded(ctx context.Context, j *journey, st step) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	return st.do(j, ctx)
}

// spent returns the requests since it was asked last.
func (s *show) spent(ctx context.Context) (int, error) {
	if ctx.Err() != nil {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	total, err := s.fleet.meter.total(ctx)
	if err != nil {
		return 0, err
	}
	spent := total - s.fleet.meter.mark
	s.fleet.meter.mark = total
	s.requests += spent
	return spent, nil
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
