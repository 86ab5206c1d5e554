// Gotest is `go test` that ends with what failed: after all other output it prints each
// failed test once more, with what that test wrote. With -v it prints what go test -v
// prints; without, a line for each package and each failed test. Where CI_FAILURES names a
// file, the failed tests go to that instead, for whoever prints it last of all.
//
//	go run .ci/gotest.go [arguments of go test]
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// event is what go test -json writes; ImportPath names what did not compile.
type event struct {
	Action, Package, ImportPath, Test, Output string
}

// report collects what tests write until they pass.
type report struct {
	verbose bool
	outputs map[[2]string][]string // by package and test
	order   [][2]string            // in which they have begun
	failed  []string
}

func main() {
	// An interrupt is for go test, which ends by it; then the report is written.
	signal.Ignore(os.Interrupt)
	cmd := exec.Command("go", append([]string{"test", "-json"}, os.Args[1:]...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() { _ = cmd.Process.Signal(<-term) }()
	r := report{verbose: slices.Contains(os.Args[1:], "-v"), outputs: map[[2]string][]string{}}
	for lines := bufio.NewReader(out); ; {
		line, readErr := lines.ReadBytes('\n')
		var e event
		switch {
		case json.Unmarshal(line, &e) == nil:
			r.take(e)
		case len(line) > 0:
			fmt.Print(string(line)) // no JSON: go test itself
		}
		if readErr != nil {
			break
		}
	}
	err = cmd.Wait()
	if err != nil {
		if err := r.write(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(max(1, exit.ExitCode()))
	case err != nil:
		os.Exit(1)
	}
}

func (r *report) take(e event) {
	key := [2]string{cmp.Or(e.Package, e.ImportPath), e.Test}
	switch e.Action {
	case "output", "build-output":
		if _, begun := r.outputs[key]; !begun {
			r.order = append(r.order, key)
		}
		r.outputs[key] = append(r.outputs[key], e.Output)
		if r.verbose || e.Action == "build-output" || e.Test == "" && !idle.MatchString(e.Output) || strings.HasPrefix(e.Output, "--- FAIL") {
			fmt.Print(e.Output)
		}
	case "pass", "skip":
		delete(r.outputs, key)
	case "fail":
		inIt := func(name string) bool { return strings.HasPrefix(name, e.Package+" ") }
		if e.Test != "" || !slices.ContainsFunc(r.failed, inIt) { // a package whose process died has no test that failed
			r.failed = append(r.failed, strings.TrimSpace(e.Package+" "+e.Test))
		}
	}
}

// write writes what has failed, or never ended, in the order in which it began. A package
// and a test of subtests have mostly nothing of their own to say.
func (r *report) write() error {
	to := io.Writer(os.Stdout)
	if path := os.Getenv("CI_FAILURES"); path != "" {
		file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		to = file
	}
	for _, key := range r.order {
		if text := brief(r.outputs[key]); text != "" {
			_, _ = fmt.Fprintf(to, "\n== FAILED %s %s\n%s", key[0], key[1], text)
		}
	}
	if len(r.failed) > 0 {
		_, _ = fmt.Fprintf(to, "\nfailed:\n  %s\n", strings.Join(r.failed, "\n  "))
	}
	return nil
}

var (
	// entry begins what a call of t.Log or t.Error writes, a goroutine's stack, or a case of ginkgo.
	entry = regexp.MustCompile(`^( +\S+\.go:\d+: |panic: |goroutine \d+ |WARNING: DATA RACE|--- |-{20,})`)
	// frame is a line that says nothing.
	frame = regexp.MustCompile(`^(=== (RUN|PAUSE|CONT|NAME)|PASS\n|FAIL|ok |exit status)`)
	// idle is what a package says that is no news while all goes well.
	idle = regexp.MustCompile(`^(PASS\n|-test.shuffle|\?.*\[no test files\])`)
)

// brief leaves the middle of a long entry out, as of a log that a test shows when it has
// failed, and most goroutines: the lines that say what was wrong stay.
func brief(output []string) string {
	const head, tail, most = 40, 10, 60
	var all strings.Builder
	var lines []string
	flush := func() {
		if cut := len(lines) - head - tail; len(lines) > most {
			lines = slices.Concat(lines[:head], []string{fmt.Sprintf("    [%d more lines are above]\n", cut)}, lines[head+cut:])
		}
		all.WriteString(strings.Join(lines, ""))
		lines = nil
	}
	goroutines := 0
	for line := range strings.Lines(strings.Join(output, "")) {
		if frame.MatchString(line) {
			continue
		}
		if entry.MatchString(line) {
			flush()
			if strings.HasPrefix(line, "goroutine ") {
				goroutines++
			}
		}
		if goroutines <= 8 {
			lines = append(lines, line)
		}
	}
	flush()
	text := all.String()
	if strings.HasPrefix(text, "--- FAIL") && strings.Count(text, "\n") == 1 {
		return ""
	}
	return text
}
