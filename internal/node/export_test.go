package node

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
)

// SplitFlags is splitFlags.
func SplitFlags(group string) []string { return splitFlags(group) }

// Abnormal returns how the condition of a volume is noted.
func Abnormal(metrics prometheus.Registerer) func(volumeID, found string) {
	o := newObserver(metrics, &blockdev.Loop{})
	return func(volumeID, found string) { o.abnormal.note(volumeID, condition(found)) }
}

// NextAfter tells what a survey says of a stage at a path at which something happens
// after the survey has looked there.
func (s *Server) NextAfter(ctx context.Context, volumeID, path string, happens func()) (string, error) {
	at, err := s.inspect(path)
	if err != nil {
		return "", err
	}
	happens()
	next, err := s.nextAt(ctx, volumeID, at)
	return next.String(), err
}
