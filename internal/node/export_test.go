package node

import (
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
