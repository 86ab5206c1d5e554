// Package admin is how an operator changes and examines a plugin that runs: its log level
// and its profiles, by HTTP on a unix socket that belongs to the plugin's own user.
//
// The socket is none of TCP: a plugin of the node role has the network of its node, where
// a port on 127.0.0.1 is everybody's, and profiles of a process with credentials are not.
// "kubectl exec" runs the client beside the socket, since the images have no shell.
package admin

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Socket is the name of the socket, beside that of CSI.
const Socket = "admin.sock"

// LogLevel is how much a plugin logs.
type LogLevel struct {
	// Level is in force now; Usual is the one of the command line.
	Level zapcore.Level `json:"level"`
	Usual zapcore.Level `json:"usual"`
	// Until is when Usual comes into force again; zero for never.
	Until time.Time `json:"until,omitzero"`
}

// Print writes it for people.
func (l LogLevel) Print(w io.Writer) (err error) {
	switch {
	case !l.Until.IsZero():
		_, err = fmt.Fprintf(w, "%s until %s, then %s\n", l.Level, l.Until.Format(time.RFC3339), l.Usual)
	case l.Level != l.Usual:
		_, err = fmt.Fprintf(w, "%s until the plugin starts again, then %s\n", l.Level, l.Usual)
	default:
		_, err = fmt.Fprintln(w, l.Level)
	}
	return err
}

// Wrong tells that no level is wrong.
func (LogLevel) Wrong() bool { return false }

// change is the body of PUT /log-level. For is a time.Duration in words; empty for ever.
type change struct {
	Level zapcore.Level `json:"level"`
	For   string        `json:"for,omitempty"`
}

// Handler serves /log-level (GET and PUT) and the profiles of Client.Profile. It takes level for the one of
// the command line.
func Handler(level zap.AtomicLevel, logger *zap.Logger) http.Handler {
	d := &dial{level: level, usual: level.Level(), logger: logger}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /log-level", func(w http.ResponseWriter, _ *http.Request) { answer(w, d.read()) })
	mux.HandleFunc("PUT /log-level", d.change)
	mux.HandleFunc("GET /debug/pprof/{name}", profile)
	return mux
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // the client has gone if this fails
}

// dial turns the level, and turns it back.
type dial struct {
	level  zap.AtomicLevel
	usual  zapcore.Level
	logger *zap.Logger

	mu    sync.Mutex
	until time.Time
	back  *time.Timer
}

func (d *dial) read() LogLevel {
	d.mu.Lock()
	defer d.mu.Unlock()
	return LogLevel{Level: d.level.Level(), Usual: d.usual, Until: d.until}
}

func (d *dial) change(w http.ResponseWriter, r *http.Request) {
	const most = 1 << 10 // bytes of a body
	var to change
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, most)).Decode(&to); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var lasts time.Duration
	if to.For != "" {
		var err error
		if lasts, err = time.ParseDuration(to.For); err != nil || lasts <= 0 {
			http.Error(w, fmt.Sprintf("for %q: want a time as 10m or 1h30m", to.For), http.StatusBadRequest)
			return
		}
	}
	d.set(to.Level, lasts)
	answer(w, d.read())
}

// set changes the level for a time, for ever if that is 0.
func (d *dial) set(level zapcore.Level, lasts time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.back != nil {
		d.back.Stop()
	}
	d.back, d.until = nil, time.Time{}
	d.logger.Info("the log level changes", zap.Stringer("level", level), zap.Stringer("before", d.level.Level()), zap.Duration("for", lasts))
	d.level.SetLevel(level)
	if lasts == 0 {
		return
	}
	until := time.Now().Add(lasts)
	d.until = until
	d.back = time.AfterFunc(lasts, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.until.Equal(until) { // else somebody has changed it at this moment
			d.until = time.Time{}
			d.level.SetLevel(d.usual)
		}
	})
}

// profile writes a profile, as net/http/pprof does under the same paths. That package is
// not used: what it has for the differences of two profiles would be in the memory of each
// plugin.
func profile(w http.ResponseWriter, r *http.Request) {
	seconds, err := strconv.Atoi(cmp.Or(r.FormValue("seconds"), "10"))
	const most = 3600
	if err != nil || seconds < 1 || seconds > most {
		http.Error(w, fmt.Sprintf("seconds: want 1 to %d", most), http.StatusBadRequest)
		return
	}
	start, stop := pprof.StartCPUProfile, pprof.StopCPUProfile
	switch name := r.PathValue("name"); name {
	case "profile":
	case "trace":
		start, stop = trace.Start, trace.Stop
	default:
		known := pprof.Lookup(name)
		if known == nil {
			http.Error(w, fmt.Sprintf("there is no profile %q", name), http.StatusNotFound)
			return
		}
		_ = known.WriteTo(w, 0) // the client has gone if this fails
		return
	}
	if err := start(w); err != nil {
		http.Error(w, err.Error(), http.StatusConflict) // another one is being recorded
		return
	}
	defer stop()
	select {
	case <-time.After(time.Duration(seconds) * time.Second):
	case <-r.Context().Done():
	}
}
