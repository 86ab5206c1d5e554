// Package sanity runs the official csi-sanity suite against the driver: over
// gRPC on unix sockets, with the development cloud over HTTP behind it, and
// loop devices, mkfs and mounts under it.
package sanity

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"github.com/cinder-csi/cinder-csi/sanity/suite"
)

const gib = int64(1) << 30

func TestSanity(t *testing.T) {
	suite.Run(t)
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

var _ = ginkgo.ReportAfterSuite("what ran", func(report ginkgo.Report) { suite.Judge(report) })
