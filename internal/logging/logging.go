// Package logging carries the logger of a request in its context.
package logging

import (
	"context"

	"go.uber.org/zap"
)

type key struct{}

// Into returns a context that carries logger.
func Into(ctx context.Context, logger *zap.Logger) context.Context {
	return context.WithValue(ctx, key{}, logger)
}

// From returns the logger that ctx carries, or one that discards everything.
func From(ctx context.Context) *zap.Logger {
	if l, ok := ctx.Value(key{}).(*zap.Logger); ok {
		return l
	}
	return zap.NewNop()
}
