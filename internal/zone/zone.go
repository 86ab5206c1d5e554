// Package zone knows the label by which Kubernetes calls an availability zone.
package zone

import (
	"regexp"
	"strings"
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
