package tests

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// How long a scenario waits for one thing, for everything to be cleaned up, and
// for others to finish what needs the driver no more. The slowest of them, a pod
// whose node has lost its power, took 30 s on two cores with a load of 20.
const (
	patience     = 4 * time.Minute
	tidyPatience = 6 * time.Minute
	settling     = time.Minute
)

// scenario is one test in a namespace of its own.
type scenario struct {
	*testing.T
	*environment
	namespace string
	patience  time.Duration
	began     time.Time
}

// story is a scenario's name, a sentence, and what happens in it.
type story struct {
	sentence string
	play     func(*scenario)
}

// oneByOne plays stories one after another.
func oneByOne(t *testing.T, stories []story) {
	for _, story := range stories {
		t.Run(story.sentence, func(t *testing.T) { play(t, story) })
	}
}

// sideBySide plays stories that don't disturb each other at the same time, as
// many as -parallel allows.
func sideBySide(t *testing.T, stories []story) {
	for _, story := range stories {
		t.Run(story.sentence, func(t *testing.T) {
			t.Parallel()
			play(t, story)
		})
	}
}

func play(t *testing.T, story story) {
	env, err := connected()
	if err != nil {
		t.Fatal(err)
	}
	s := &scenario{T: t, environment: env, patience: patience, began: time.Now()}
	ns, err := env.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "e2e-", Annotations: map[string]string{"description": story.sentence},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("making a namespace: %v", err)
	}
	s.namespace = ns.Name
	t.Cleanup(s.end)
	// While a namespace has no service account, the API refuses every pod.
	until(s, env.kube.CoreV1().ServiceAccounts(ns.Name), "default", "to be made", func(*corev1.ServiceAccount) error { return nil })
	story.play(s)
}

// must ends the scenario where err says that something failed.
func (s *scenario) must(err error, doing string, args ...any) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", fmt.Sprintf(doing, args...), err)
	}
}

// afterwards calls undo at the end, before the namespace goes.
func (s *scenario) afterwards(doing string, undo func(context.Context) error) {
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), tidyPatience)
		defer cancel()
		if err := undo(ctx); err != nil {
			s.Errorf("%s: %v", doing, err)
		}
	})
}

// end tells why the scenario failed, if it did, removes its namespace, and
// holds the cloud to having forgotten all of it.
func (s *scenario) end() {
	if s.Failed() {
		s.diagnose()
	}
	ctx, cancel := context.WithTimeout(context.Background(), tidyPatience)
	defer cancel()
	volumes, err := s.persistentVolumes(ctx)
	if err != nil {
		s.Errorf("listing the persistent volumes of %s: %v", s.namespace, err)
	}
	if err := s.removeNamespace(ctx); err != nil {
		s.Errorf("removing namespace %s: %v", s.namespace, err)
		s.diagnose()
		return
	}
	for _, check := range []func(context.Context, []corev1.PersistentVolume) error{s.volumesGone, s.nothingOnTheNodes, s.nothingInTheCloud} {
		if err := check(ctx, volumes); err != nil {
			s.Errorf("after the end of namespace %s: %v", s.namespace, err)
			s.diagnose()
			return
		}
	}
}

func (s *scenario) removeNamespace(ctx context.Context) error {
	namespaces := s.kube.CoreV1().Namespaces()
	err := namespaces.Delete(ctx, s.namespace, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return awaitGone(ctx, namespaces, s.namespace, func(ns *corev1.Namespace) error {
		var why []string
		for _, c := range ns.Status.Conditions {
			if c.Status == corev1.ConditionTrue {
				why = append(why, c.Message)
			}
		}
		return fmt.Errorf("it is %s: %s", ns.Status.Phase, strings.Join(why, "; "))
	})
}

// persistentVolumes returns those whose claim is, or was, in the namespace.
func (s *scenario) persistentVolumes(ctx context.Context) ([]corev1.PersistentVolume, error) {
	list, err := s.kube.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(pv corev1.PersistentVolume) bool {
		return pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.Namespace != s.namespace
	}), nil
}

// handleOf returns the cloud's id of a volume.
func handleOf(pv corev1.PersistentVolume) string {
	if pv.Spec.CSI == nil {
		return ""
	}
	return pv.Spec.CSI.VolumeHandle
}
