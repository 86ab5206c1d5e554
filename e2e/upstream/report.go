package upstream

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"
)

// State is what became of a spec.
type State string

// The states of a spec. Absent: the suite was told not to run it.
const (
	Passed  State = "passed"
	Failed  State = "failed"
	Skipped State = "skipped"
	Absent  State = "absent"
)

// specPrefix begins the names of the specs of external drivers.
const specPrefix = "External Storage [Driver: "

// Spec is one test of the suite and what became of it.
type Spec struct {
	// Driver is the name in the test driver file, Name the rest.
	Driver, Name string
	State        State
	// Message is why it failed or was skipped.
	Message string
	Took    time.Duration
}

// String is the spec as core.txt writes it.
func (s Spec) String() string { return s.Driver + ": " + s.Name }

// pattern matches the spec, and no other, for ginkgo, which knows names with
// fewer blanks than it reports.
func (s Spec) pattern() string {
	words := strings.Fields(specPrefix + s.Driver + "] " + s.Name)
	for i, word := range words {
		words[i] = regexp.QuoteMeta(word)
	}
	return strings.Join(words, " +") + "$"
}

// ginkgoSpec is what is read of a spec in a report of ginkgo's.
type ginkgoSpec struct {
	ContainerHierarchyTexts []string
	LeafNodeType            string
	LeafNodeText            string
	State                   string
	RunTime                 time.Duration
	Failure                 struct{ Message string }
}

// report is what became of the specs of external drivers, and of the suite's
// own preparations.
type report struct {
	specs []Spec
	// broken are failures outside of any spec.
	broken []string
}

// readReport reads a JSON report of ginkgo's.
func readReport(path string) (report, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return report{}, fmt.Errorf("the suite left no report: %w", err)
	}
	var suites []struct {
		SuiteSucceeded             bool
		SpecialSuiteFailureReasons []string
		SpecReports                []ginkgoSpec
	}
	if err := json.Unmarshal(data, &suites); err != nil {
		return report{}, fmt.Errorf("the suite's report %s: %w", path, err)
	}
	var r report
	for _, suite := range suites {
		if !suite.SuiteSucceeded {
			r.broken = append(r.broken, suite.SpecialSuiteFailureReasons...)
		}
		for _, s := range suite.SpecReports {
			r.add(s)
		}
	}
	if len(r.specs) == 0 {
		return r, fmt.Errorf("the suite's report %s has no specs of an external driver", path)
	}
	return r, nil
}

func (r *report) add(g ginkgoSpec) {
	state := stateOf(g)
	if g.LeafNodeType != "It" {
		if state == Failed {
			r.broken = append(r.broken, g.LeafNodeType+": "+g.Failure.Message)
		}
		return
	}
	name := strings.Join(append(g.ContainerHierarchyTexts, g.LeafNodeText), " ")
	_, name, ours := strings.Cut(name, specPrefix)
	if !ours {
		return
	}
	driver, name, _ := strings.Cut(name, "] ")
	r.specs = append(r.specs, Spec{Driver: driver, Name: name, State: state, Message: g.Failure.Message, Took: g.RunTime})
}

// stateOf tells a spec that skipped itself, which says why, from one that was
// not asked for.
func stateOf(g ginkgoSpec) State {
	switch g.State {
	case "passed":
		return Passed
	case "skipped":
		if g.Failure.Message == "" {
			return Absent
		}
		return Skipped
	case "pending":
		return Absent
	}
	return Failed
}

// merge takes over what another run of the same suite says. A spec that was run
// by one of them counts as run.
func (r *report) merge(other report) {
	r.broken = append(r.broken, other.broken...)
	index := make(map[string]int, len(r.specs))
	for i, s := range r.specs {
		index[s.Driver+" "+s.Name] = i
	}
	for _, s := range other.specs {
		i, known := index[s.Driver+" "+s.Name]
		switch {
		case !known:
			r.specs = append(r.specs, s)
		case s.State != Absent && r.specs[i].State != Failed:
			r.specs[i] = s
		}
	}
}

// unhappy reports whether anything failed.
func (r report) unhappy() bool {
	if len(r.broken) > 0 {
		return true
	}
	for _, s := range r.specs {
		if s.State == Failed {
			return true
		}
	}
	return false
}
