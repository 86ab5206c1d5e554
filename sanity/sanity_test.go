// Package sanity runs the official csi-sanity suite against the driver: over
// gRPC on unix sockets, with the development cloud over HTTP behind it, and
// loop devices, mkfs and mounts under it.
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
)

const gib = int64(1) << 30

func TestSanity(t *testing.T) {
	// The suite tells each snapshot that it deletes.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	gomega.RegisterFailHandler(ginkgo.Fail)
	suite, reporter := ginkgo.GinkgoConfiguration()
	reporter.NoColor = true // go test is no terminal
	reporter.Succinct = !reporter.Verbose && !reporter.VeryVerbose
	ginkgo.RunSpecs(t, "csi-sanity", suite, reporter)
}

// Every volume kind goes through the whole suite, on one cloud and one driver.
var (
	ext4  = config("mount")
	xfs   = config("mount")
	block = config("block")

	running *environment
)

var (
	_ = ginkgo.Describe("ext4 volumes", func() { sanity.GinkgoTest(ext4) })
	_ = ginkgo.Describe("xfs volumes", func() { sanity.GinkgoTest(xfs) })
	_ = ginkgo.Describe("raw block volumes", func() { sanity.GinkgoTest(block) })
)

var _ = ginkgo.BeforeSuite(func() {
	if os.Geteuid() != 0 {
		ginkgo.Fail("the suite makes filesystems on loop devices and mounts them: run it as root")
	}
	var err error
	running, err = start()
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	ginkgo.DeferCleanup(func() { gomega.Expect(running.stop()).To(gomega.Succeed()) })
	for name, c := range map[string]*sanity.TestConfig{"ext4": ext4, "xfs": xfs, "block": block} {
		c.ControllerAddress = running.controllerSocket
		c.Address = running.nodeSocket
		if name == "xfs" {
			c.Address = running.xfsNodeSocket
		}
		c.TargetPath = filepath.Join(running.dir, name+"-target")
		c.StagingPath = filepath.Join(running.dir, name+"-staging")
	}
})

func config(accessType string) *sanity.TestConfig {
	c := sanity.NewTestConfig()
	c.TestVolumeSize = gib
	c.TestVolumeExpandSize = 2 * gib
	c.TestVolumeAccessType = accessType
	c.TestNodeVolumeAttachLimit = true
	c.TestVolumeMutableParameters = map[string]string{"type": "standard", "metadata/owner": "sanity"}
	return &c
}

// mayBeSkipped are the cases about what the driver does not announce. A case
// that is skipped for another reason fails the run.
var mayBeSkipped = []string{
	"ControllerPublishVolume.readonly field not supported",
	"GroupControllerService not supported",
	"VolumeGroupSnapshots not supported",
	"SNAPSHOT_ACCESSIBILITY_CONSTRAINTS not supported",
	"ControllerGetVolumeHealth not supported",
	"ControllerListVolumeHealth not supported",
	"NodeGetVolumeHealth not supported",
	"NodeGetStorageHealth not supported",
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
			skipped++
			reason := strings.TrimSpace(spec.FailureMessage())
			gomega.Expect(slices.Contains(mayBeSkipped, reason)).To(gomega.BeTrue(), "%s was skipped: %s", spec.FullText(), reason)
		default:
			failed++
		}
	}
	_, _ = fmt.Fprintf(os.Stdout, "csi-sanity: %d passed, %d failed, %d skipped (not announced)\n", passed, failed, skipped)
})
