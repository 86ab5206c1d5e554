package cluster

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// quietEvery is how often a long step says something where each word stays: in a
// log, not on a terminal.
const quietEvery = 20 * time.Second

// Progress tells a person what is being done and for how long.
type Progress struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	start    time.Time
	said     time.Time // when the current step said something last
	open     bool      // the terminal's line is not finished
}

// NewProgress writes to a file, which may be a terminal.
func NewProgress(out *os.File) *Progress {
	_, err := unix.IoctlGetTermios(int(out.Fd()), unix.TCGETS)
	return &Progress{out: out, terminal: err == nil, start: time.Now()}
}

// Step says that something is done, or begins.
func (p *Progress) Step(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.print(fmt.Sprintf(format, args...), true)
}

// Update says how far the current step is: on a terminal in place, elsewhere now
// and then.
func (p *Progress) Update(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.terminal && time.Since(p.said) < quietEvery {
		return
	}
	p.print(fmt.Sprintf(format, args...), !p.terminal)
}

func (p *Progress) print(text string, whole bool) {
	elapsed := time.Since(p.start).Round(time.Second)
	line := fmt.Sprintf("[%6s] %s", elapsed, text)
	if p.open {
		line = "\r\x1b[K" + line
	}
	if whole {
		line += "\n"
	}
	p.open, p.said = !whole, time.Now()
	_, _ = io.WriteString(p.out, line) // whoever doesn't want to read it isn't told
}

// Write makes lines that somebody else reports into steps.
func (p *Progress) Write(text []byte) (int, error) {
	p.Step("%s", strings.TrimRight(string(text), "\n"))
	return len(text), nil
}

// Elapsed is the time since the beginning.
func (p *Progress) Elapsed() time.Duration { return time.Since(p.start).Round(time.Second) }
