package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"log"
	"strings"
	"testing"

	"go.uber.org/zap"
	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2"
)

func TestAKeyIsWrittenOnceInALine(t *testing.T) {
	for _, test := range []struct {
		name string
		log  func(*zap.Logger)
		want string
	}{
		{"of a call and of a line", func(l *zap.Logger) {
			l.With(zap.String("volumeID", "1"), zap.String("pvc", "a")).Info("m", zap.String("volumeID", "2"))
		}, `"pvc":"a","volumeID":"2"`},
		{"of two callers", func(l *zap.Logger) {
			l.With(zap.String("volumeID", "1")).With(zap.String("volumeID", "2"), zap.Int("n", 1)).Info("m")
		}, `"volumeID":"2","n":1`},
		{"twice in one line", func(l *zap.Logger) { l.Info("m", zap.String("a", "1"), zap.String("a", "2")) }, `"a":"2"`},
		{"none twice", func(l *zap.Logger) { l.With(zap.String("a", "1")).Info("m", zap.String("b", "2")) }, `"a":"1","b":"2"`},
		{"an error", func(l *zap.Logger) { l.With(zap.Error(errors.New("1"))).Info("m", zap.Error(errors.New("2"))) }, `"error":"2"`},
		{"one that others add to", func(l *zap.Logger) {
			shared := l.With(zap.String("a", "1"))
			shared.With(zap.String("a", "2"))
			shared.Info("m", zap.String("b", "3"))
		}, `"a":"1","b":"3"`},
	} {
		var out bytes.Buffer
		logger, _ := New(&out, JSON, 1)
		test.log(logger)
		if _, fields, _ := strings.Cut(strings.TrimSpace(out.String()), `"msg":"m",`); fields != test.want+"}" {
			t.Errorf("%s: %s, want %s", test.name, out.String(), test.want)
		}
	}
}

func TestTheLevelChangesWhileTheLoggerIsInUse(t *testing.T) {
	for _, test := range []struct {
		verbosity int
		first     bool
	}{{0, false}, {3, false}, {4, true}, {9, true}} {
		var out bytes.Buffer
		logger, level := New(&out, Console, test.verbosity)
		used := logger.With(zap.String("requestID", "1"))
		used.Debug("first")
		level.SetLevel(zap.DebugLevel)
		used.Debug("second")
		level.SetLevel(zap.ErrorLevel)
		used.Warn("third")
		if got := out.String(); strings.Contains(got, "first") != test.first || !strings.Contains(got, "second") || strings.Contains(got, "third") {
			t.Errorf("-v=%d: %s", test.verbosity, got)
		}
	}
}

func TestLibrariesWriteToTheSameLog(t *testing.T) {
	var out bytes.Buffer
	logger, _ := New(&out, JSON, 1)
	Libraries(logger)
	defer Libraries(zap.NewNop())
	klog.Info("of klog")
	klog.ErrorS(errors.New("why"), "of klog, too", "pod", "a/b")
	grpclog.Info("chatter of gRPC")
	grpclog.Warning("of gRPC")
	log.Print("of net/http")
	var said []string
	for line := range strings.Lines(out.String()) {
		var entry struct{ Msg, Level string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Level == "" {
			t.Errorf("not an entry: %q", line)
		}
		said = append(said, entry.Msg)
	}
	if all := strings.Join(said, "; "); all != "of klog; of klog, too; of gRPC; of net/http" {
		t.Errorf("the log says %q", all)
	}
}
