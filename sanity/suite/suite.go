// Package suite is what every run of csi-sanity has in common: how it is
// started from a Go test, and what it may leave out.
package suite

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"
	"k8s.io/klog/v2"
)

// Run runs the cases that the package has registered with Ginkgo.
func Run(t *testing.T) {
	// The suite tells each snapshot that it deletes.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	gomega.RegisterFailHandler(ginkgo.Fail)
	config, reporter := ginkgo.GinkgoConfiguration()
	reporter.NoColor = true // go test is no terminal
	reporter.Succinct = !reporter.Verbose && !reporter.VeryVerbose
	ginkgo.RunSpecs(t, "csi-sanity", config, reporter)
}

// notAnnounced returns the reasons of the cases about what the driver doesn't
// announce.
func notAnnounced() []string {
	return []string{
		"ControllerPublishVolume.readonly field not supported",
		"GroupControllerService not supported",
		"VolumeGroupSnapshots not supported",
		"SNAPSHOT_ACCESSIBILITY_CONSTRAINTS not supported",
		"ControllerGetVolumeHealth not supported",
		"ControllerListVolumeHealth not supported",
		"NodeGetVolumeHealth not supported",
		"NodeGetStorageHealth not supported",
	}
}

// Judge says how many cases passed. It fails the run for a case that skipped
// itself for another reason than that the driver doesn't announce what it is
// about, or one of the further reasons.
func Judge(report ginkgo.Report, further ...string) {
	may := append(notAnnounced(), further...)
	var passed, failed, skipped int
	for _, spec := range report.SpecReports {
		if spec.LeafNodeType != types.NodeTypeIt {
			continue
		}
		switch spec.State {
		case types.SpecStatePassed:
			passed++
		case types.SpecStatePending:
			// Disabled by csi-test itself.
		case types.SpecStateSkipped:
			reason := strings.TrimSpace(spec.FailureMessage())
			if reason == "" && chosen(report.SuiteConfig) {
				continue // not among those that were asked for
			}
			skipped++
			gomega.Expect(slices.Contains(may, reason)).To(gomega.BeTrue(), "%s was skipped: %q", spec.FullText(), reason)
		default:
			failed++
		}
	}
	_, _ = fmt.Fprintf(os.Stdout, "\ncsi-sanity: %d passed, %d failed, %d skipped (not announced)\n", passed, failed, skipped)
}

// chosen tells whether a person has asked for some of the cases.
func chosen(config types.SuiteConfig) bool {
	return len(config.FocusStrings)+len(config.SkipStrings)+len(config.FocusFiles)+len(config.SkipFiles) > 0
}
