package sanity

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"
	"k8s.io/klog/v2"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/stack"
)

const gib = int64(1) << 30

func TestSanity(t *testing.T) {
	if _, err := stack.Load(stack.Dir()); err != nil {
		if os.Getenv("CINDER_CSI_OPENSTACK_REQUIRED") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	// The suite tells each snapshot that it deletes.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	gomega.RegisterFailHandler(ginkgo.Fail)
	suite, reporter := ginkgo.GinkgoConfiguration()
	reporter.NoColor = true // go test is no terminal
	reporter.Succinct = !reporter.Verbose && !reporter.VeryVerbose
	ginkgo.RunSpecs(t, "csi-sanity", suite, reporter)
}

// Both kinds of volumes go through the whole suite.
var (
	mount = config("mount")
	block = config("block")

	running *environment
)

var (
	_ = ginkgo.Describe("ext4 volumes", func() { sanity.GinkgoTest(mount) })
	_ = ginkgo.Describe("raw block volumes", func() { sanity.GinkgoTest(block) })
)

var _ = ginkgo.BeforeSuite(func(ctx ginkgo.SpecContext) {
	var err error
	running, err = start(ctx)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	ginkgo.DeferCleanup(func() { gomega.Expect(running.stop()).To(gomega.Succeed()) })
	for name, c := range map[string]*sanity.TestConfig{"ext4": mount, "block": block} {
		c.ControllerAddress = running.controller
		c.Address = running.guest.Socket()
		// These are folders of the guest.
		c.TargetPath = filepath.Join("/var/lib/sanity", name, "target")
		c.StagingPath = filepath.Join("/var/lib/sanity", name, "staging")
		c.CreateTargetDir, c.CreateStagingDir = running.makeDir, running.makeDir
		c.RemoveTargetPath, c.RemoveStagingPath = running.removeDir, running.removeDir
		c.CheckPath = running.checkPath
	}
})

func config(accessType string) *sanity.TestConfig {
	c := sanity.NewTestConfig()
	c.TestVolumeSize = gib
	c.TestVolumeExpandSize = 2 * gib
	c.TestVolumeAccessType = accessType
	c.TestVolumeParameters = map[string]string{"type": "standard"}
	c.TestVolumeMutableParameters = map[string]string{"type": "fast", "metadata/owner": "sanity"}
	// Repeating a call ten times would be the same ten requests to the cloud.
	c.IdempotentCount = 3
	return &c
}

// mayBeSkipped are the cases about what the driver does not announce, and the
// one that is skipped for a reason of this cloud's. A case that is skipped for
// another reason fails the run.
var mayBeSkipped = []string{
	"ControllerPublishVolume.readonly field not supported",
	"GroupControllerService not supported",
	"VolumeGroupSnapshots not supported",
	"SNAPSHOT_ACCESSIBILITY_CONSTRAINTS not supported",
	"ControllerGetVolumeHealth not supported",
	"ControllerListVolumeHealth not supported",
	"NodeGetVolumeHealth not supported",
	"NodeGetStorageHealth not supported",
	// A guest takes 26 volumes, and that many attachments one after the other
	// take minutes where QEMU emulates the processor. The contract table has
	// Nova's refusal, and the suite against devcloud this case.
	"testnodevolumeattachlimit not enabled",
}

var _ = ginkgo.ReportAfterSuite("what ran", func(report ginkgo.Report) {
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
			if reason == "" {
				continue // left out by -ginkgo.focus
			}
			skipped++
			gomega.Expect(slices.Contains(mayBeSkipped, reason)).To(gomega.BeTrue(), "%s was skipped: %s", spec.FullText(), reason)
		default:
			failed++
		}
	}
	_, _ = fmt.Fprintf(os.Stdout, "csi-sanity: %d passed, %d failed, %d skipped (not announced)\n", passed, failed, skipped)
})
