package tests

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// diagnose tells in the test's log what a person would look at first.
func (s *scenario) diagnose() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var b strings.Builder
	fmt.Fprintf(&b, "namespace %s as it was found:\n", s.namespace)
	words := s.describe(ctx, &b)
	s.events(ctx, &b)
	s.driverLogs(ctx, &b, words)
	s.Log(b.String())
}

// describe writes the pods, claims, volumes and attachments, and returns the
// words by which the driver's log lines about them are known.
func (s *scenario) describe(ctx context.Context, b *strings.Builder) []string {
	words := []string{s.namespace}
	if pods, err := s.pods().List(ctx, metav1.ListOptions{}); err == nil {
		for _, p := range pods.Items {
			fmt.Fprintf(b, "  pod %s: %v, deleted %v\n", p.Name, or(notReady(&p), "ready on "+p.Spec.NodeName), p.DeletionTimestamp)
		}
	}
	if claims, err := s.claims().List(ctx, metav1.ListOptions{}); err == nil {
		for _, c := range claims.Items {
			fmt.Fprintf(b, "  claim %s: %s, %v, volume %s, conditions %v, resize %v, deleted %v, finalizers %v\n", c.Name, c.Status.Phase,
				c.Status.Capacity, c.Spec.VolumeName, conditions(&c), c.Status.AllocatedResourceStatuses, c.DeletionTimestamp, c.Finalizers)
			words = append(words, "pvc-"+string(c.UID))
		}
	}
	volumes, _ := s.persistentVolumes(ctx)
	for _, pv := range volumes {
		fmt.Fprintf(b, "  volume %s: %s, %v, handle %s, deleted %v, finalizers %v\n", pv.Name, pv.Status.Phase, pv.Spec.Capacity, handleOf(pv), pv.DeletionTimestamp, pv.Finalizers)
		words = append(words, pv.Name, handleOf(pv))
	}
	if attachments, err := s.kube.StorageV1().VolumeAttachments().List(ctx, metav1.ListOptions{}); err == nil {
		for _, a := range attachments.Items {
			if name := a.Spec.Source.PersistentVolumeName; name != nil && slices.Contains(words, *name) {
				fmt.Fprintf(b, "  attachment %s of %s to %s: attached %t, errors %v %v, deleted %v\n", a.Name, *name, a.Spec.NodeName,
					a.Status.Attached, a.Status.AttachError, a.Status.DetachError, a.DeletionTimestamp)
			}
		}
	}
	if snaps, err := s.snapshots.SnapshotV1().VolumeSnapshots(s.namespace).List(ctx, metav1.ListOptions{}); err == nil {
		for _, snap := range snaps.Items {
			status, _ := json.Marshal(snap.Status)
			fmt.Fprintf(b, "  snapshot %s: %s, deleted %v, finalizers %v\n", snap.Name, status, snap.DeletionTimestamp, snap.Finalizers)
			words = append(words, "snapshot-"+string(snap.UID), "snapcontent-"+string(snap.UID))
		}
	}
	return words
}

func or(err error, good string) string {
	if err != nil {
		return err.Error()
	}
	return good
}

// events writes the events of the namespace, oldest first.
func (s *scenario) events(ctx context.Context, b *strings.Builder) {
	list, err := s.kube.CoreV1().Events(s.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		fmt.Fprintf(b, "  events: %v\n", err)
		return
	}
	at := func(e corev1.Event) time.Time {
		if !e.LastTimestamp.IsZero() {
			return e.LastTimestamp.Time
		}
		return e.EventTime.Time
	}
	slices.SortFunc(list.Items, func(x, y corev1.Event) int { return at(x).Compare(at(y)) })
	for _, e := range list.Items {
		fmt.Fprintf(b, "  event %s %s/%s ×%d %s: %s\n", at(e).Format(time.TimeOnly), strings.ToLower(e.InvolvedObject.Kind), e.InvolvedObject.Name, max(1, e.Count), e.Reason, e.Message)
	}
}

// mostLines is how many lines of one container's log are shown.
const mostLines = 60

// driverLogs writes what the driver and its sidecars have logged, since the
// scenario began, about any of the words.
func (s *scenario) driverLogs(ctx context.Context, b *strings.Builder, words []string) {
	pods, err := s.kube.CoreV1().Pods(driverNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		fmt.Fprintf(b, "  the driver's pods: %v\n", err)
		return
	}
	slices.SortFunc(pods.Items, func(x, y corev1.Pod) int { return cmp.Compare(x.Name, y.Name) })
	for _, pod := range pods.Items {
		if !strings.HasPrefix(pod.Name, controllerName+"-") && !strings.HasPrefix(pod.Name, nodeName+"-") {
			continue
		}
		for _, c := range pod.Spec.Containers {
			since := metav1.NewTime(s.began)
			raw, err := s.kube.CoreV1().Pods(driverNamespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: c.Name, SinceTime: &since}).DoRaw(ctx)
			if err != nil {
				fmt.Fprintf(b, "  log of %s/%s: %v\n", pod.Name, c.Name, err)
				continue
			}
			if about := linesAbout(raw, words); len(about) > 0 {
				fmt.Fprintf(b, "  log of %s/%s on %s:\n    %s\n", pod.Name, c.Name, pod.Spec.NodeName, strings.Join(about, "\n    "))
			}
		}
	}
}

// linesAbout returns the last lines in which one of the words occurs.
func linesAbout(log []byte, words []string) []string {
	var lines []string
	for scanner := bufio.NewScanner(bytes.NewReader(log)); scanner.Scan(); {
		line := scanner.Text()
		if slices.ContainsFunc(words, func(word string) bool { return word != "" && strings.Contains(line, word) }) {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-mostLines):]
}
