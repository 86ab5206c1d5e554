package tests

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// growsWhileWritten: a person edits the claim, and the pod that writes sees more
// room without having noticed anything.
func growsWhileWritten(s *scenario, fs string) {
	claim := s.claim("data", fs)
	w := s.writer("writer", withClaim(claim))
	blob := s.fill(w.pod, dataDir+"/blob", 16)
	before := w.advances()

	s.editClaim(claim, "1Gi", "2Gi")
	s.roomAtLeast(w.pod, 2*gib)
	s.capacity(claim, "2Gi")

	w.neverStopped()
	s.Logf("%d records were written while the volume grew, none failed", w.advances()-before)
	s.same(w.pod, dataDir+"/blob", 16, blob)
	s.cloudSize(claim, 2)
}

// growsExt4 does so with ext4 where the kernel allows it. Growing a mounted ext4
// takes CAP_SYS_RESOURCE, which some virtual machines don't have: there the
// volume grows at once, and the filesystem when it is staged next.
func growsExt4(s *scenario) {
	has, err := s.sysResource(s.Context())
	s.must(err, "reading the capabilities of the nodes")
	if has {
		growsWhileWritten(s, ext4)
		return
	}
	s.Log("this machine has no CAP_SYS_RESOURCE, without which no kernel grows an ext4 that is mounted: it has to grow with the next pod")
	claim := s.claim("data", ext4)
	w := s.writer("writer", withClaim(claim))
	blob := s.fill(w.pod, dataDir+"/blob", 16)

	s.editClaim(claim, "1Gi", "2Gi")
	until(s, s.claims(), claim, "to say that its filesystem waits", func(c *corev1.PersistentVolumeClaim) error {
		for _, condition := range c.Status.Conditions {
			if condition.Type == corev1.PersistentVolumeClaimNodeResizeError && strings.Contains(condition.Message, "grows when the volume is staged next") {
				return nil
			}
		}
		return fmt.Errorf("it says %q", conditions(c))
	})
	s.cloudSize(claim, 2)
	w.neverStopped()

	s.deletePod(w.pod)
	next := s.writer("next", withClaim(claim))
	s.roomAtLeast(next.pod, 2*gib)
	s.capacity(claim, "2Gi")
	s.same(next.pod, dataDir+"/blob", 16, blob)
	next.neverStopped()
}

// growsUnused: a claim that no pod uses grows, and the next pod sees it.
func growsUnused(s *scenario, fs string) {
	claim := s.claim("data", fs)
	blob := s.fill(s.running("first", withClaim(claim)), dataDir+"/blob", 16)
	s.deletePod("first")
	s.editClaim(claim, "1Gi", "2Gi")
	s.eventually("the volume to grow", func(context.Context) error {
		if v := s.cloudVolume(claim); v.Size != 2 {
			return fmt.Errorf("it has %d GiB", v.Size)
		}
		return nil
	})
	next := s.running("next", withClaim(claim))
	s.roomAtLeast(next, 2*gib)
	s.capacity(claim, "2Gi")
	s.same(next, dataDir+"/blob", 16, blob)
}

// cloudSize holds the cloud's volume of a claim to its size in GiB.
func (s *scenario) cloudSize(claim string, want int64) {
	s.Helper()
	if v := s.cloudVolume(claim); v.Size != want {
		s.Errorf("the cloud's volume %s has %d GiB, want %d", v.ID, v.Size, want)
	}
}

// sysResource tells whether the nodes may have CAP_SYS_RESOURCE.
func (s *scenario) sysResource(ctx context.Context) (bool, error) {
	const capability = 24 // CAP_SYS_RESOURCE in linux/capability.h
	out, err := s.cluster.Exec(ctx, s.cluster.Nodes[0].Name, "cat", "/proc/1/status")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(out)) {
		if mask, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return bits&(1<<capability) != 0, err
		}
	}
	return false, fmt.Errorf("no CapBnd in %q", out)
}
