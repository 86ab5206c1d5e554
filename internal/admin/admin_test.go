package admin

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/cinder-csi/cinder-csi/internal/report"
)

// The server lingers half a second on a connection whose request was longer than it took.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// serve answers on a socket until the test ends.
func serve(t *testing.T, level zap.AtomicLevel) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: Handler(level, zap.NewNop())}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return NewClient(socket)
}

func text(t *testing.T, l LogLevel) string {
	t.Helper()
	var out bytes.Buffer
	if err := report.Show(&out, l, report.Text); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

func TestTheLevelOfAPluginThatRunsIsChanged(t *testing.T) {
	level := zap.NewAtomicLevel()
	client := serve(t, level)
	now, err := client.LogLevel(t.Context())
	if err != nil || text(t, now) != "info" {
		t.Fatalf("at first: %v, %v", now, err)
	}
	if now, err = client.SetLogLevel(t.Context(), zap.DebugLevel, 0); err != nil || text(t, now) != "debug until the plugin starts again, then info" || level.Level() != zap.DebugLevel {
		t.Errorf("for ever: %v, %v, %v", now, err, level)
	}
	if now, err = client.SetLogLevel(t.Context(), zap.ErrorLevel, time.Hour); err != nil || level.Level() != zap.ErrorLevel ||
		!strings.HasPrefix(text(t, now), "error until 20") || !strings.HasSuffix(text(t, now), ", then info") {
		t.Errorf("for an hour: %v, %v, %v", now, err, level)
	}
	if now, err = client.SetLogLevel(t.Context(), zap.InfoLevel, 0); err != nil || text(t, now) != "info" || level.Level() != zap.InfoLevel {
		t.Errorf("back: %v, %v, %v", now, err, level)
	}
}

func TestALevelForATimeGoesBackByItself(t *testing.T) {
	level := zap.NewAtomicLevelAt(zap.WarnLevel)
	client := serve(t, level)
	for _, to := range []struct {
		level zapcore.Level
		lasts time.Duration
	}{{zap.ErrorLevel, time.Hour}, {zap.DebugLevel, time.Millisecond}} {
		if _, err := client.SetLogLevel(t.Context(), to.level, to.lasts); err != nil {
			t.Fatal(err)
		}
	}
	for level.Level() != zap.WarnLevel {
		if t.Context().Err() != nil {
			t.Fatal("it stays")
		}
		time.Sleep(time.Millisecond)
	}
	now, err := client.LogLevel(t.Context())
	if err != nil || text(t, now) != "warn" {
		t.Errorf("afterwards: %v, %v", now, err)
	}
}

func TestWhatMakesNoSenseIsRefused(t *testing.T) {
	level := zap.NewAtomicLevel()
	client := serve(t, level)
	for _, body := range []string{"", "debug", `{"level":"loud"}`, `{"level":"debug","for":"a while"}`, `{"level":"debug","for":"-1s"}`, `{"level":"debug","for":"` + strings.Repeat("1", 2000) + `s"}`} {
		if err := client.ask(t.Context(), http.MethodPut, "/log-level", []byte(body), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "400") || level.Level() != zap.InfoLevel {
			t.Errorf("%q: %v, %v", body, err, level)
		}
	}
	if err := client.ask(t.Context(), http.MethodGet, "/metrics", nil, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("it serves other things: %v", err)
	}
	if err := client.Profile(t.Context(), "wishes", 0, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a profile that doesn't exist: %v", err)
	}
}

func TestAProfileIsWritten(t *testing.T) {
	client := serve(t, zap.NewAtomicLevel())
	for _, name := range []string{"heap", "goroutine", "profile", "trace"} {
		var out bytes.Buffer
		if err := client.Profile(t.Context(), name, time.Second, &out); err != nil || out.Len() == 0 {
			t.Errorf("%s: %d bytes, %v", name, out.Len(), err)
		}
	}
}

func TestOneProfileOfAKindIsRecordedAtATime(t *testing.T) {
	client := serve(t, zap.NewAtomicLevel())
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		t.Fatal(err)
	}
	err := client.Profile(t.Context(), "profile", time.Second, &bytes.Buffer{})
	pprof.StopCPUProfile()
	if err == nil || !strings.Contains(err.Error(), "409") {
		t.Errorf("a second one: %v", err)
	}
	if err := client.Profile(t.Context(), "trace", 2*time.Hour, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("too long: %v", err)
	}
}

func TestAPluginThatIsNotThereIsToldByItsSocket(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	socket := filepath.Join(t.TempDir(), "s")
	if _, err := NewClient(socket).LogLevel(ctx); err == nil || !strings.Contains(err.Error(), socket) || !strings.Contains(err.Error(), "--admin-endpoint") || report.Status(err) != report.NoAnswer {
		t.Errorf("got %v", err)
	}
}
