// Package inspect looks at volumes from all sides: Kubernetes, Cinder and Nova. It changes
// nothing anywhere. It says where the sides disagree, why that can be, and the commands by
// which an operator mends it.
package inspect

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/report"
)

// Sources are the sides that are looked at.
type Sources struct {
	// Kubernetes is nil where it can't be reached; KubernetesErr says why.
	Kubernetes    *kube.Client
	KubernetesErr error
	// Clouds are those of cloud.conf.
	Clouds []Cloud
}

// Cloud is one cloud.
type Cloud struct {
	// Name is that of its section; "default" for the one without a name.
	Name string
	// Client is nil where the cloud can't be reached; Err says why.
	Client cloud.Inspector
	Err    error
}

// Finding is something that somebody has to mend, or should know.
type Finding struct {
	// Kind names the row of the table that found it.
	Kind string `json:"kind"`
	// Note tells that nothing is wrong: it is only good to know.
	Note bool `json:"note,omitempty"`
	// What is the case, and why that can be.
	What string `json:"what"`
	Why  string `json:"why,omitempty"`
	// Cure are commands, in their order. Lines that begin with # say what to see to.
	Cure []string `json:"cure,omitempty"`
}

// Unseen is what could not be looked at.
type Unseen []string

func (u *Unseen) add(what string, err error) {
	if text := fmt.Sprintf("%s: %s", what, plain(err.Error())); !slices.Contains(*u, text) {
		*u = append(*u, text)
	}
}

// Err is the error of a look that has not seen everything; nil for nothing.
func (u Unseen) Err() error {
	if len(u) == 0 {
		return nil
	}
	return errors.New("could not look everywhere: the answer says where not")
}

// plain is text from elsewhere in one line, without what a terminal would obey.
func plain(text string) string {
	return strings.Join(strings.Fields(report.Plain(text)), " ")
}

// word is text from elsewhere as one word of a command, whatever a shell would see in it.
func word(text string) string {
	if text = plain(text); strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-") == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// words are texts from elsewhere as words of a command.
func words(texts ...string) string {
	var all []string
	for _, text := range texts {
		all = append(all, word(text))
	}
	return strings.Join(all, " ")
}
