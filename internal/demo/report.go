package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// report writes what a person sees: a table that grows by a line per step,
// with a moving line for the running one where the output is a terminal.
type report struct {
	out   io.Writer
	style style
	// broken is told when the output can't be written to any more.
	broken func(error)

	mu      sync.Mutex
	running *running
	frame   int
}

// running is the step that is under way.
type running struct {
	step   string
	since  time.Time
	detail string
	stop   chan struct{}
	ended  chan struct{}
}

// row is a finished step.
type row struct {
	step     string
	took     time.Duration
	requests int
	outcome  string
	failed   bool
}

func newReport(out io.Writer, s style) *report {
	return &report{out: out, style: s}
}

// Line writes a line of text above whatever is moving.
func (r *report) Line(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.print(fmt.Sprintf(format, args...))
}

// Fact writes a line of the head: a name and what it stands for.
func (r *report) Fact(name, text string) {
	r.Line("  %s %s", r.style.dim(pad(name, 7)), text)
}

// Note writes a line about something that happens beside the steps.
func (r *report) Note(text string) {
	r.Line("  %s %s", r.style.note(), r.style.yellow(text))
}

// Volume begins the table of one volume.
func (r *report) Volume(name string) {
	r.Line("")
	head := fmt.Sprintf("%10s  %8s  %s", "time", "requests", "outcome")
	r.Line("  %s%s", r.style.bold(pad(name, r.style.markWidth()+1+nameWidth)), r.style.dim(head))
}

// Total ends the table of one volume.
func (r *report) Total(took time.Duration, requests int) {
	r.Line("%s", r.style.dim("  "+r.columns(strings.Repeat(" ", r.style.markWidth()), row{step: "total", took: took, requests: requests})))
}

// Begin shows that a step is under way.
func (r *report) Begin(step string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = &running{step: step, since: time.Now(), stop: make(chan struct{}), ended: make(chan struct{})}
	if !r.style.Live {
		close(r.running.ended)
		return
	}
	r.draw()
	go r.spin(r.running)
}

// Detail says what the running step is doing just now.
func (r *report) Detail(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running == nil {
		return
	}
	r.running.detail = text
	if r.style.Live {
		r.draw()
	}
}

// End turns the running step into a row of the table.
func (r *report) End(finished row) {
	r.quiet()
	r.mu.Lock()
	defer r.mu.Unlock()
	mark := r.style.ok()
	if finished.failed {
		mark = r.style.failed()
		finished.outcome = r.style.red(finished.outcome)
	}
	r.print("  " + r.columns(mark, finished))
}

// quiet ends the moving line, if there is one.
func (r *report) quiet() {
	r.mu.Lock()
	run := r.running
	r.running = nil
	r.mu.Unlock()
	if run == nil {
		return
	}
	close(run.stop)
	<-run.ended
	if r.style.Live {
		r.put(clearLine)
	}
}

const (
	// nameWidth holds the longest name of a step.
	nameWidth = 9
	clearLine = "\r\x1b[K"
)

func (r *report) columns(mark string, f row) string {
	line := fmt.Sprintf("%s %s%10s  %8d  %s", mark, pad(f.step, nameWidth), shortTime(f.took), f.requests, f.outcome)
	return strings.TrimRight(line, " ")
}

// print writes a whole line; the moving one makes room and comes back below.
func (r *report) print(line string) {
	if r.running != nil && r.style.Live {
		line = clearLine + line
	}
	r.put(line + "\n")
	if r.running != nil && r.style.Live {
		r.draw()
	}
}

func (r *report) put(text string) {
	if _, err := io.WriteString(r.out, text); err != nil && r.broken != nil {
		r.broken(err)
	}
}

// draw rewrites the moving line. It never is wider than the terminal: a line
// that wraps can't be rewritten.
func (r *report) draw() {
	run := r.running
	text := fmt.Sprintf("%s%10s  %8s  %s", pad(run.step, nameWidth), shortTime(time.Since(run.since)), "", run.detail)
	room := r.style.Width - 4 - r.style.markWidth()
	r.put(clearLine + "  " + r.style.cyan(r.style.spinner(r.frame)) + " " + cut(strings.TrimRight(text, " "), room))
}

func (r *report) spin(run *running) {
	defer close(run.ended)
	tick := time.NewTicker(80 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-run.stop:
			return
		case <-tick.C:
		}
		r.mu.Lock()
		if r.running == run {
			r.frame++
			r.draw()
		}
		r.mu.Unlock()
	}
}

// shortTime writes a duration as a person reads it: 7 ms, 412 ms, 3.42 s.
func shortTime(d time.Duration) string {
	switch {
	case d < 999500*time.Microsecond:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.2f s", d.Seconds())
	default:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	}
}

// pad fills text with spaces up to width runes.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// cut shortens text to at most width runes.
func cut(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	return string(runes[:max(0, width)])
}
