package tests

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// journal is the file into which a writer writes.
const journal = dataDir + "/journal"

// writing is what a writer runs: it appends numbers, one after another, each on
// the disk before the next, and complains of each that it can't write. Started
// again it goes on after the last number.
const writing = `
n=0
[ -s ` + journal + ` ] && n=$(tail -n 1 ` + journal + `)
while :; do
	n=$((n + 1))
	echo $n | dd of=` + journal + ` oflag=append conv=notrunc,fsync 2>/tmp/why || echo "writing $n failed: $(cat /tmp/why)"
	sleep 0.1
done
`

// writer is a pod that never stops writing.
type writer struct {
	*scenario
	pod         string
	uid         string
	containerID string
}

// writer makes a pod that writes and waits until it does.
func (s *scenario) writer(name string, options ...podOption) *writer {
	s.Helper()
	s.pod(name, writing, options...)
	return s.watchWriter(name)
}

// watchWriter remembers a pod that writes, to tell later whether it is the same.
func (s *scenario) watchWriter(name string) *writer {
	s.Helper()
	pod := s.ready(name)
	w := &writer{scenario: s, pod: name, uid: string(pod.UID), containerID: pod.Status.ContainerStatuses[0].ContainerID}
	w.advances()
	return w
}

// records returns how many numbers the journal has.
func (w *writer) records(ctx context.Context) (int, error) {
	out, err := w.try(ctx, w.pod, "wc -l < "+journal)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(out)
}

// advances waits until some more numbers are written, and returns how many
// there are.
func (w *writer) advances() int {
	w.Helper()
	first, now := -1, 0
	w.eventually("pod "+w.pod+" to write", func(ctx context.Context) (err error) {
		if now, err = w.records(ctx); err != nil {
			return err
		}
		if first < 0 {
			first = now
		}
		if now < first+3 {
			return fmt.Errorf("it had written %d records and now %d", first, now)
		}
		return nil
	})
	return now
}

// neverStopped proves that the pod is the same one, wasn't restarted, still
// writes, that no write failed and that none is missing.
func (w *writer) neverStopped() {
	w.Helper()
	w.advances()
	pod, err := w.pods().Get(w.Context(), w.pod, metav1.GetOptions{})
	w.must(err, "reading pod %s", w.pod)
	status := pod.Status.ContainerStatuses[0]
	if string(pod.UID) != w.uid || status.ContainerID != w.containerID || status.RestartCount != 0 {
		w.Fatalf("pod %s was restarted: uid %s, was %s; container %s, was %s; %d restarts", w.pod, pod.UID, w.uid, status.ContainerID, w.containerID, status.RestartCount)
	}
	complaints, err := w.pods().GetLogs(w.pod, &corev1.PodLogOptions{}).DoRaw(w.Context())
	w.must(err, "reading the log of pod %s", w.pod)
	if len(complaints) > 0 {
		w.Fatalf("pod %s could not always write: %s", w.pod, complaints)
	}
	w.complete()
}

// complete proves that the journal has every number.
func (w *writer) complete() {
	w.Helper()
	w.run(w.pod, `awk '$1 != NR { print "record " NR " is " $0 > "/dev/stderr"; exit 1 }' `+journal)
}
