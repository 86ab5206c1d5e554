package tests

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// fill writes so many MiB of random bytes to a file, or a device, and returns
// their checksum.
func (s *scenario) fill(pod, path string, mib int) string {
	s.Helper()
	s.run(pod, fmt.Sprintf("dd if=/dev/urandom of=%s bs=1048576 count=%d conv=notrunc,fsync 2>/tmp/dd || { cat /tmp/dd >&2; exit 1; }", path, mib))
	return s.sum(pod, path, mib)
}

// sum returns the checksum of the first MiB of a file or device.
func (s *scenario) sum(pod, path string, mib int) string {
	s.Helper()
	return s.run(pod, fmt.Sprintf("dd if=%s bs=1048576 count=%d 2>/dev/null | sha256sum | cut -c1-64", path, mib))
}

// same holds a file, or a device, to the checksum it had.
func (s *scenario) same(pod, path string, mib int, want string) {
	s.Helper()
	if got := s.sum(pod, path, mib); got != want {
		s.Fatalf("%s in pod %s has checksum %s, it was %s", path, pod, got, want)
	}
}

// roomAtLeast waits until the filesystem in a pod has so many bytes, less what
// it needs for itself, and proves that a file fits that didn't before.
func (s *scenario) roomAtLeast(pod string, size int64) {
	s.Helper()
	const overhead = 128 << 20 // the most that one of the filesystems keeps of 2 GiB
	s.eventually(fmt.Sprintf("pod %s to see a filesystem of %d bytes", pod, size), func(ctx context.Context) error {
		have, err := s.room(ctx, pod)
		if err == nil && have < size-overhead {
			err = fmt.Errorf("it sees %d bytes", have)
		}
		return err
	})
	s.run(pod, fmt.Sprintf("fallocate -l %d %s/large && rm %[2]s/large", size-size/4, dataDir))
}

// room returns the size of the filesystem in a pod.
func (s *scenario) room(ctx context.Context, pod string) (int64, error) {
	out, err := s.try(ctx, pod, "df -k "+dataDir+" | awk 'END {print $(NF-4)}'")
	if err != nil {
		return 0, err
	}
	kib, err := strconv.ParseInt(out, 10, 64)
	return kib << 10, err
}

// deviceSize returns the size of the device in a pod.
func (s *scenario) deviceSize(ctx context.Context, pod string) (int64, error) {
	out, err := s.try(ctx, pod, "blockdev --getsize64 "+dataDevice)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(out), 10, 64)
}
