package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// kill ends a component as a crash would; its supervisor starts it again.
func (f *fleet) kill(component, why string) {
	f.mu.Lock()
	c := f.children[component]
	f.reasons[component] = why
	f.mu.Unlock()
	if component == Devcloud {
		// What it has counted is gone with it.
		f.meter.readLast()
	}
	if c != nil && !c.Kill() {
		f.report.Note(component + " was to be killed and is not running")
	}
}

// died is told by the supervisors that a program has ended.
func (f *fleet) died(name, reason string, again bool) {
	f.mu.Lock()
	why := f.reasons[name]
	delete(f.reasons, name)
	f.mu.Unlock()
	if name == Devcloud {
		f.meter.restarted()
	}
	if why == "" {
		why = "ended unexpectedly (" + reason + ")"
	}
	if !again {
		f.write("%s: %s; given up", name, why)
		if last := f.tail(name, 1); len(last) > 0 {
			reason += ": " + last[0]
		}
		f.failed(&RunError{Err: errors.New(reason)})
		return
	}
	f.write("%s: %s, %s; started again", name, why, reason)
	if f.ready.Load() {
		f.report.Note(name + " " + why + "; started again")
	}
}

// repeated is told of every CSI call that is going to be repeated.
func (f *fleet) repeated(method string, err error) {
	f.mu.Lock()
	f.repeats++
	f.mu.Unlock()
	f.write("repeat %s: %v", method, err)
	f.report.Detail(method + " is repeated")
}

// takeRepeats returns how many calls were repeated since it was asked last.
func (f *fleet) takeRepeats() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.repeats
	f.repeats = 0
	return n
}

// write adds a line to the demo's own log.
func (f *fleet) write(format string, args ...any) {
	_, _ = fmt.Fprintf(f.journal, time.Now().Format("15:04:05.000 ")+format+"\n", args...)
}

// stopPlugins ends the plugins, which no call is left for.
func (f *fleet) stopPlugins() error {
	var failed error
	for _, p := range f.plugins {
		failed = errors.Join(failed, p.conn.Close())
	}
	f.plugins = nil
	return errors.Join(failed, f.stop(Controller, Node1, Node2))
}

// close ends all programs, the plugins first, and unmounts what they have
// left mounted, before the cloud takes the disks away.
func (f *fleet) close() error {
	failed := f.stopPlugins()
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	failed = errors.Join(failed, f.home.unmountAll(ctx), f.stop(Devcloud))
	return errors.Join(failed, f.journal.Close())
}

// suspect names the program whose log has most to say about a failure: the
// one that does not run, else the one called last.
func (f *fleet) suspect() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, c := range f.children {
		if c.Err() != nil {
			return name
		}
	}
	if name := f.gun.lastCalled(); name != "" {
		return name
	}
	return Devcloud
}

// stop ends programs for good, all at the same time.
func (f *fleet) stop(names ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	results := make(chan error, len(names))
	for _, name := range names {
		f.mu.Lock()
		c := f.children[name]
		delete(f.children, name)
		f.mu.Unlock()
		go func() {
			if c == nil {
				results <- nil
				return
			}
			results <- c.Stop(ctx)
		}()
	}
	var failed error
	for range names {
		failed = errors.Join(failed, <-results)
	}
	return failed
}

// tail returns the last lines of a program's log, none where it is empty.
func (f *fleet) tail(name string, lines int) []string {
	const most = 64 << 10
	log, err := os.Open(f.home.log(name))
	if err != nil {
		return nil
	}
	defer func() { _ = log.Close() }()
	if st, err := log.Stat(); err == nil && st.Size() > most {
		_, _ = log.Seek(-most, io.SeekEnd)
	}
	buf := make([]byte, most)
	n, _ := io.ReadFull(log, buf) // shorter than the buffer is no error here
	text := strings.TrimRight(string(buf[:n]), "\n")
	if text == "" {
		return nil
	}
	all := strings.Split(text, "\n")
	return all[max(0, len(all)-lines):]
}
