package upstream

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// tellEvery is how often somebody who waits is told how far things are.
const tellEvery = 30 * time.Second

// progress passes the suite's output on to a log, and tells a reader how many
// specs are done, and at once which one failed.
type progress struct {
	mu             sync.Mutex
	out, log       io.Writer
	stage          string
	start          time.Time
	total          int
	passed, failed int
	rest           []byte
	// failure: the next line that is about a spec is the name of one that failed.
	failure bool
	done    chan struct{}
	ended   sync.WaitGroup
}

func newProgress(out, log io.Writer, stage Stage) *progress {
	p := &progress{out: out, log: log, stage: stage.Name, total: len(stage.Specs), start: time.Now(), done: make(chan struct{})}
	_, _ = fmt.Fprintf(out, "%s: %d specs, %d at a time\n", stage.Name, p.total, stage.Procs)
	p.ended.Go(p.tick)
	return p
}

func (p *progress) tick() {
	ticker := time.NewTicker(tellEvery)
	defer ticker.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-ticker.C:
			p.mu.Lock()
			p.tell()
			p.mu.Unlock()
		}
	}
}

// end tells where it ended.
func (p *progress) end() {
	close(p.done)
	p.ended.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tell()
}

func (p *progress) tell() {
	_, _ = fmt.Fprintf(p.out, "%8s  %s: %d passed, %d failed, of at most %d\n", p.elapsed(), p.stage, p.passed, p.failed, p.total)
}

func (p *progress) elapsed() time.Duration { return time.Since(p.start).Round(time.Second) }

// Write takes output of ginkgo.
func (p *progress) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest = append(p.rest, data...)
	for {
		line, rest, whole := bytes.Cut(p.rest, []byte("\n"))
		if !whole {
			break
		}
		p.rest = rest
		p.read(string(line))
	}
	return p.log.Write(data) //nolint:wrapcheck // a writer passes on
}

// read understands the lines that begin what ginkgo has to say about a spec.
func (p *progress) read(line string) {
	switch {
	case strings.HasPrefix(line, "• [") && strings.HasSuffix(line, "seconds]"):
		if p.failure = strings.Contains(line, "[FAILED]") || strings.Contains(line, "[PANICKED]") || strings.Contains(line, "[TIMEDOUT]"); p.failure {
			p.failed++
		} else {
			p.passed++
		}
	case p.failure && strings.Contains(line, specPrefix):
		p.failure = false
		_, name, _ := strings.Cut(line, specPrefix)
		_, _ = fmt.Fprintf(p.out, "%8s  FAILED: %s\n", p.elapsed(), name)
	}
}
