package upstream

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// Summary is what became of a profile.
type Summary struct {
	Profile        string
	Took           time.Duration
	Passed, Failed []Spec
	// Skipped are the specs that weren't run, by reason.
	Skipped map[string][]Spec
	// Problems are what else is wrong: what the suite says outside of specs,
	// specs that weren't run and should have been, and unknown reasons.
	Problems []string
}

// OK reports whether all is as it should be.
func (s Summary) OK() bool { return len(s.Failed) == 0 && len(s.Problems) == 0 }

// judge compares what became of the specs with what was asked for.
func judge(p Profile, r report, took time.Duration) Summary {
	s := Summary{Profile: p.Name, Took: took, Skipped: map[string][]Spec{}, Problems: r.broken}
	for why, specs := range p.Left {
		s.Skipped[why] = append(s.Skipped[why], specs...)
	}
	became := make(map[string]Spec, len(r.specs))
	for _, spec := range r.specs {
		became[spec.String()] = spec
	}
	for _, stage := range p.Stages {
		for _, chosen := range stage.Specs {
			spec, ok := became[chosen.String()]
			if !ok {
				spec = Spec{Driver: chosen.Driver, Name: chosen.Name, State: Absent}
			}
			s.count(p, spec)
		}
	}
	if ran := len(s.Passed) + len(s.Failed); ran < p.Floor {
		s.problem("only %d specs were run, at least %d should have been", ran, p.Floor)
	}
	return s
}

func (s *Summary) count(p Profile, spec Spec) {
	switch spec.State {
	case Passed:
		s.Passed = append(s.Passed, spec)
	case Failed:
		s.Failed = append(s.Failed, spec)
	case Absent:
		s.problem("not run, although it was chosen: %s", spec)
	case Skipped:
		why := matching(skips(), spec.Message)
		switch {
		case p.All:
			s.problem("skipped itself, although it has to be run: %s: %s", spec, spec.Message)
		case why == nil:
			s.problem("%q is a reason to skip that nobody looked at yet (reasons.go); so said %s", spec.Message, spec)
		default:
			s.Skipped[why.Why] = append(s.Skipped[why.Why], spec)
		}
	}
}

func (s *Summary) problem(format string, args ...any) {
	s.Problems = append(s.Problems, fmt.Sprintf(format, args...))
}

// Print writes the summary for a reader.
func (s Summary) Print(out io.Writer) {
	var b strings.Builder
	skipped := 0
	for _, specs := range s.Skipped {
		skipped += len(specs)
	}
	fmt.Fprintf(&b, "\nKubernetes' external storage suite, profile %s, %v:\n", s.Profile, s.Took.Round(time.Second))
	fmt.Fprintf(&b, "  ran %d, passed %d, failed %d, skipped %d\n", len(s.Passed)+len(s.Failed), len(s.Passed), len(s.Failed), skipped)
	for _, spec := range s.Failed {
		fmt.Fprintf(&b, "\nFAILED after %v: %s\n%s\n", spec.Took.Round(time.Second), spec, indent(firstLines(spec.Message, 12)))
	}
	for _, problem := range s.Problems {
		fmt.Fprintf(&b, "\nPROBLEM: %s\n", firstLines(problem, 12))
	}
	if skipped > 0 {
		fmt.Fprintf(&b, "\nSkipped, and why:\n")
	}
	for _, why := range s.reasons() {
		fmt.Fprintf(&b, "  %3d  %s\n", len(s.Skipped[why]), why)
		for _, name := range kinds(s.Skipped[why]) {
			fmt.Fprintf(&b, "         %s\n", name)
		}
	}
	_, _ = io.WriteString(out, b.String())
}

// reasons returns why specs were skipped, the most frequent first.
func (s Summary) reasons() []string {
	var all []string
	for why := range s.Skipped {
		all = append(all, why)
	}
	slices.SortFunc(all, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(s.Skipped[b]), len(s.Skipped[a])), cmp.Compare(a, b))
	})
	return all
}

// kinds returns by which patterns specs are made, with their numbers: hundreds
// of names would be read by nobody.
func kinds(specs []Spec) []string {
	count := map[string]int{}
	for _, s := range specs {
		pattern, _, _ := strings.Cut(strings.TrimPrefix(s.Name, "[Testpattern: "), "]")
		if s.Driver != mainDriver {
			pattern = s.Driver + ": " + pattern
		}
		count[strings.TrimSpace(pattern)]++
	}
	var lines []string
	for pattern, n := range count {
		lines = append(lines, fmt.Sprintf("%s: %d", pattern, n))
	}
	slices.Sort(lines)
	return lines
}

// firstLines returns the beginning of a message; the suite's hold whole files and
// objects.
func firstLines(text string, n int) string {
	const width = 300
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > n {
		lines = append(lines[:n], "…")
	}
	for i, line := range lines {
		if len(line) > width {
			lines[i] = line[:width] + "…"
		}
	}
	return strings.Join(lines, "\n")
}

func indent(text string) string { return "    " + strings.ReplaceAll(text, "\n", "\n    ") }

// Save writes what Print prints to a file.
func (s Summary) Save(path string) error {
	var b strings.Builder
	s.Print(&b)
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	return nil
}
