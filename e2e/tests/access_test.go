package tests

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// isForOnePod: a ReadWriteOncePod volume is refused to a second pod, by the
// scheduler, for as long as the first has it.
func isForOnePod(s *scenario) {
	claim := s.claim("data", ext4, withAccess(corev1.ReadWriteOncePod))
	first := s.running("first", withClaim(claim))
	blob := s.fill(first, dataDir+"/blob", 4)
	s.pod("second", idle, withClaim(claim))
	s.unschedulable("second", "ReadWriteOncePod")
	s.deletePod(first)
	s.ready("second")
	s.same("second", dataDir+"/blob", 4, blob)
}

// isForItsGroup: a volume belongs to the group that the pod asks for, so that a
// user who isn't root can write.
func isForItsGroup(s *scenario) {
	claim := s.claim("data", ext4)
	as := func(user, group int64) podOption {
		return func(spec *corev1.PodSpec) {
			spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user, RunAsGroup: &user, FSGroup: &group}
		}
	}
	pod := s.running("first", withClaim(claim), as(1000, 2000))
	s.run(pod, "echo hello > "+dataDir+"/mine")
	if got := s.run(pod, "stat -c %u:%g "+dataDir+"/mine"); got != "1000:2000" {
		s.Errorf("a file belongs to %s, want 1000:2000", got)
	}
	s.deletePod(pod)
	// What is there changes hands with the next pod that asks for another group.
	next := s.running("next", withClaim(claim), as(1001, 3000))
	if got := s.run(next, "stat -c %u:%g "+dataDir+"/mine"); got != "1000:3000" {
		s.Errorf("a file that was there belongs to %s, want 1000:3000", got)
	}
	s.run(next, "echo hello >> "+dataDir+"/mine")
}

// isReadOnly: pods that mount a volume read-only read and can't write, whether
// the volume or only the mount is so, and beside one that can.
func isReadOnly(s *scenario) {
	here, _, err := s.twins()
	s.must(err, "choosing a node")
	claim := s.claim("data", xfs)
	author := s.running("author", withClaim(claim), onNode(here))
	blob := s.fill(author, dataDir+"/blob", 4)
	mount := func(spec *corev1.PodSpec) { spec.Containers[0].VolumeMounts[0].ReadOnly = true }
	volume := func(spec *corev1.PodSpec) { spec.Volumes[0].PersistentVolumeClaim.ReadOnly = true }
	check := func(name string, options ...podOption) {
		pod := s.running(name, append([]podOption{withClaim(claim), onNode(here)}, options...)...)
		s.same(pod, dataDir+"/blob", 4, blob)
		if out, err := s.try(s.Context(), pod, "echo no > "+dataDir+"/no"); err == nil || !strings.Contains(err.Error(), "Read-only") {
			s.Errorf("pod %s wrote to a read-only volume: %q, %v", pod, out, err)
		}
	}
	check("mount", mount)
	check("volume", volume)
	s.run(author, "echo yes > "+dataDir+"/yes")
	for _, pod := range []string{author, "mount", "volume"} {
		s.deletePod(pod)
	}
	check("alone", volume) // now it is staged for reading only
}
