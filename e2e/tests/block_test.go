package tests

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// growsAsBlock: a pod with a raw block volume sees it grow, and what it wrote
// stays, also on another node.
func growsAsBlock(s *scenario) {
	here, there, err := s.twins()
	s.must(err, "choosing nodes")
	claim := s.claim("data", ext4, asBlock)
	pod := s.running("first", withBlock(claim), onNode(here))
	content := s.fill(pod, dataDevice, 16)
	s.editClaim(claim, "1Gi", "2Gi")
	s.eventually("the pod to see a device of 2 GiB", func(ctx context.Context) error {
		size, err := s.deviceSize(ctx, pod)
		if err == nil && size != 2*gib {
			err = fmt.Errorf("it sees %d bytes", size)
		}
		return err
	})
	s.capacity(claim, "2Gi")
	s.run(pod, "dd if=/dev/urandom of="+dataDevice+" bs=1048576 seek=2040 count=8 conv=notrunc,fsync 2>&1")
	s.same(pod, dataDevice, 16, content)
	s.deletePod(pod)
	s.same(s.running("next", withBlock(claim), onNode(there)), dataDevice, 16, content)
}

// isShared: a raw block volume of a type for more than one server is used by
// pods on two nodes at once, and each reads what the other writes.
func isShared(s *scenario) {
	here, there, err := s.twins()
	s.must(err, "choosing nodes")
	claim := s.claim("data", multiattach, asBlock, withAccess(corev1.ReadWriteMany))
	left := s.running("left", withBlock(claim), onNode(here))
	right := s.running("right", withBlock(claim), onNode(there))
	s.attachedTo(claim, here, there)
	for i, pair := range [][2]string{{left, right}, {right, left}} {
		word := fmt.Sprintf("message %d from %s", i, pair[0])
		s.run(pair[0], fmt.Sprintf("printf '%%-512s' '%s' | dd of=%s bs=512 seek=%d conv=notrunc,fsync 2>&1", word, dataDevice, 2048*(i+1)))
		got := s.run(pair[1], fmt.Sprintf("dd if=%s bs=512 skip=%d count=1 2>/dev/null", dataDevice, 2048*(i+1)))
		if got != word {
			s.Errorf("%s wrote %q and %s read %q", pair[0], word, pair[1], got)
		}
	}
	s.deletePod(left)
	s.eventually("the volume to leave "+here, func(context.Context) error {
		if v := s.cloudVolume(claim); len(v.Attachments) != 1 {
			return fmt.Errorf("it has attachments %v", v.Attachments)
		}
		return nil
	})
	s.attachedTo(claim, there)
	s.run(right, "dd if=/dev/zero of="+dataDevice+" bs=1048576 count=1 conv=notrunc,fsync 2>&1")
}
