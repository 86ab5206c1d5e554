package upstream

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Profile is a choice of specs, and in which order they are run.
type Profile struct {
	Name   string
	Stages []Stage
	// Left are the specs that are about the driver and not run, by reason.
	Left map[string][]Spec
	// Floor is how many specs must have been run at least. All: every one that
	// was chosen must, none may skip itself.
	Floor int
	All   bool
}

// Stage is one run of the suite.
type Stage struct {
	Name string
	// Procs is how many specs are run at once.
	Procs int
	Specs []Spec
	// SSH: the specs log in to nodes.
	SSH bool
}

// fullFloor is how many specs the full profile must run: a few less than it did
// on a machine where neither ext4 grows in use nor SELinux is there.
const fullFloor = 150

// The names in the test driver files.
const (
	mainDriver        = "cinder.csi.openstack.org"
	xfsDriver         = "xfs." + mainDriver
	multiattachDriver = "multiattach." + mainDriver
)

// again returns what is run again for a test driver file other than the first:
// the specs that it was written for.
func again(driver string) *regexp.Regexp {
	switch driver {
	case mainDriver:
		return regexp.MustCompile("")
	case xfsDriver:
		return regexp.MustCompile(`\(default fs\)\(allowExpansion\)\] volume-expand|` +
			`\(default fs\) \(late-binding\)\] ephemeral should support expansion|` +
			`volume-lifecycle-performance|pvc-deletion-performance|volume-modify-stress`)
	case multiattachDriver:
		return regexp.MustCompile(`Dynamic PV \(block volmode\)(\(allowExpansion\)\] volume-expand|` +
			`\] multiVolume .*(concurrently access the single volume|two volumes with the same volume mode)|\] volumes should store data)|` +
			`\(ROX mode\)`)
	}
	return regexp.MustCompile("$^")
}

// Full chooses everything: first what can be run side by side or, as ginkgo sees
// to, by itself; then what stops kubelets.
func Full(all []Spec, machine Machine, procs int) Profile {
	p := Profile{Name: "full", Floor: fullFloor, Left: map[string][]Spec{}}
	side := Stage{Name: "main", Procs: procs}
	down := Stage{Name: "disruptive", Procs: 1, SSH: true}
	for _, s := range all {
		if !again(s.Driver).MatchString(s.Name) {
			continue
		}
		switch why := matching(exclusions(machine), s.String()); {
		case why != nil:
			p.Left[why.Why] = append(p.Left[why.Why], s)
		case strings.Contains(s.Name, "[Disruptive]"):
			down.Specs = append(down.Specs, s)
		default:
			side.Specs = append(side.Specs, s)
		}
	}
	p.Stages = []Stage{side, down}
	return p
}

// Focused is Full with those specs only whose driver and name match a pattern.
func Focused(all []Spec, machine Machine, procs int, pattern *regexp.Regexp) Profile {
	var chosen []Spec
	for _, s := range all {
		if pattern.MatchString(s.String()) {
			chosen = append(chosen, s)
		}
	}
	p := Full(chosen, machine, procs)
	p.Name, p.Floor = "focus", 1
	return p
}

// Core chooses the specs of core.txt: for every change, one for each thing that
// can break.
func Core(all []Spec, machine Machine, procs int) (Profile, error) {
	data, err := files.ReadFile("core.txt")
	if err != nil {
		return Profile{}, fmt.Errorf("the core set: %w", err)
	}
	return listed(string(data), all, machine, procs)
}

// listed chooses the specs of a list, one on a line, that must exist.
func listed(list string, all []Spec, machine Machine, procs int) (Profile, error) {
	known := make(map[string]Spec, len(all))
	for _, s := range all {
		known[s.String()] = s
	}
	p := Profile{Name: "core", All: true, Left: map[string][]Spec{}}
	stage := Stage{Name: "core", Procs: procs}
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s, ok := known[line]
		if !ok {
			return Profile{}, fmt.Errorf("core.txt: the suite has no spec %q", line)
		}
		if why := matching(exclusions(machine), s.String()); why != nil {
			p.Left[why.Why] = append(p.Left[why.Why], s)
			continue
		}
		stage.Specs = append(stage.Specs, s)
	}
	p.Stages = []Stage{stage}
	return p, nil
}

// matching returns the first reason that matches a text, nil if none does.
func matching(reasons []Reason, text string) *Reason {
	for i := range reasons {
		if reasons[i].Match.MatchString(text) {
			return &reasons[i]
		}
	}
	return nil
}

// Print lists the specs of a profile.
func (p Profile) Print(out io.Writer) {
	for _, stage := range p.Stages {
		_, _ = fmt.Fprintf(out, "%s: %d specs, %d at a time\n", stage.Name, len(stage.Specs), stage.Procs)
		for _, s := range stage.Specs {
			_, _ = fmt.Fprintf(out, "  %s\n", s)
		}
	}
	for why, specs := range p.Left {
		_, _ = fmt.Fprintf(out, "left out: %s\n", why)
		for _, s := range specs {
			_, _ = fmt.Fprintf(out, "  %s\n", s)
		}
	}
}
