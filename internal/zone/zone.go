// Package zone knows the labels by which Kubernetes knows an availability zone.
package zone

import (
	"fmt"
	"regexp"
	"strings"
)

const (
	// Key is the label of a Node, and the key of topologies, that carries the zone.
	// PersistentVolumes refer to it: it can never change.
	Key = "topology.cinder.csi.openstack.org/zone"
	// WellKnownKey is the label that Kubernetes itself gives a Node in a zone. The templates
	// by which an autoscaler makes the first Node of a group have no other.
	WellKnownKey = "topology.kubernetes.io/zone"
)

// maxLabel is the longest value of a Kubernetes label.
const maxLabel = 63

// Label makes a value of a Kubernetes label out of the name of a zone: runs of
// other characters than letters, digits, '-', '_' and '.' become one '-',
// neither end is punctuation, and there are at most 63 characters. Nodes and
// persistent volumes have carried labels made this way for years, so that the
// rule can never change.
func Label(zone string) string {
	label := regexp.MustCompile(`[^-a-zA-Z0-9_.]+`).ReplaceAllString(zone, "-")
	label = strings.Trim(label, "-_.")
	if len(label) > maxLabel {
		label = strings.Trim(label[:maxLabel], "-_.")
	}
	return label
}

// Relabel returns the command by which an administrator gives a Node another zone.
// PersistentVolumes keep the zone that they were made in.
func Relabel(node, key, label string) string {
	return fmt.Sprintf("kubectl label node %s %s=%s --overwrite", node, key, label)
}
