package volumes_test

import (
	"context"
	"slices"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// strict is the core of a logger that allows each key once in a line, and none that means
// the same as another.
type strict struct {
	t    *testing.T
	keys []string
}

// strictly returns a context whose logger has the keys of a call's request already.
func strictly(ctx context.Context, t *testing.T, request ...string) context.Context {
	return logging.Into(ctx, zap.New(strict{t: t, keys: append([]string{"requestID", "method"}, request...)}))
}

func (s strict) Enabled(zapcore.Level) bool { return true }
func (s strict) Sync() error                { return nil }

func (s strict) With(fields []zapcore.Field) zapcore.Core {
	s.keys = slices.Clone(s.keys)
	for _, f := range fields {
		s.keys = append(s.keys, f.Key)
	}
	return s
}

func (s strict) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return checked.AddCore(entry, s)
}

func (s strict) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	with, _ := s.With(fields).(strict)
	for i, key := range with.keys {
		if slices.Contains(with.keys[:i], key) {
			s.t.Errorf("%q has %s twice", entry.Message, key)
		}
		if slices.Contains([]string{"volume", "volume_id", "node", "node_id", "id", "server", "snapshot", "backup", "took"}, key) {
			s.t.Errorf("%q has the key %s", entry.Message, key)
		}
	}
	return nil
}
