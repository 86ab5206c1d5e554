// Package events tells in Kubernetes' events what is wrong with the driver as long as it
// is so, and when it is over.
//
// It looks at a state rather than being told of what happens: no call of the driver knows
// of it, waits for it or fails by it, and what the API server didn't take is tried with the
// next look. What is wrong is one event, whose count and message are updated now and then.
//
// client-go's recorder would do the same with an update for every repetition, a message
// that never changes, and Kubernetes' whole core/v1, which each node would have in its
// memory, too.
package events

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cinder-csi/cinder-csi/internal/kube"
)

const (
	// lookEvery is the pause between looks.
	lookEvery = 15 * time.Second
	// settle is how long something has to be wrong before it is told: a cloud that is
	// being connected to, or fails for a request, is none.
	settle = 30 * time.Second
	// repeatEvery is the pause between updates of what goes on being wrong. API servers
	// keep an event for an hour (--event-ttl).
	repeatEvery = 20 * time.Minute
	// most is how many things that are wrong at a time are told of.
	most = 100
	// longest is the length of a message, in bytes.
	longest = 1024
	// writeTimeout bounds a request.
	writeTimeout = 10 * time.Second
)

// Notice is one thing that is wrong, or may have been.
type Notice struct {
	// Reason and Of say which: the same of both is the same thing.
	Reason, Of string
	// Message is for people: what is wrong, since when or why, and what to do.
	Message string
	// Well tells that it isn't wrong. Where an event has told that it was, another one tells
	// its end, by the reason Over and with OverMessage; none where Over is empty. The end of
	// what is not known any more isn't told.
	Well              bool
	Over, OverMessage string
}

// Object is what the events are about.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
	UID        string `json:"uid,omitempty"`
}

// Config says what to tell, and where.
type Config struct {
	// Kubernetes takes the verbs create and patch on events.
	Kubernetes *kube.Client
	// About is the object of the events; those of one without a namespace are in default.
	About Object
	// Component is who tells, and Instance which one of several.
	Component, Instance string
	// Look returns what is wrong now, and what is well. It makes no requests.
	Look   func() []Notice
	Logger *zap.Logger
	// LookEvery, Settle and RepeatEvery are for those in a hurry; 15 s, 30 s and 20 min
	// where they are 0.
	LookEvery, Settle, RepeatEvery time.Duration
}

// teller remembers what is wrong, and what it has told of it.
type teller struct {
	Config
	wrong map[string]*matter
}

// matter is a thing that is wrong.
type matter struct {
	Notice
	since time.Time
	// event is the name of the event, empty before there is one; count is how often it was
	// told, and last when.
	event string
	count int
	last  time.Time
}

// Run tells until ctx ends.
func Run(ctx context.Context, cfg Config) {
	t := &teller{Config: cfg, wrong: map[string]*matter{}}
	t.Settle, t.RepeatEvery = cmp.Or(t.Settle, settle), cmp.Or(t.RepeatEvery, repeatEvery)
	ticker := time.NewTicker(cmp.Or(t.LookEvery, lookEvery))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			t.look(ctx)
		}
	}
}

// look compares what is wrong now with what was wrong before, and tells the difference.
func (t *teller) look(ctx context.Context) {
	now, well := map[string]Notice{}, map[string]Notice{}
	for _, n := range t.Look() {
		switch key := n.Reason + " " + n.Of; {
		case n.Well && t.wrong[key] != nil:
			well[key] = n
		case !n.Well && len(now) < most:
			now[key] = n
		}
	}
	for key, n := range now {
		if t.wrong[key] == nil {
			t.wrong[key] = &matter{since: time.Now()}
		}
		t.wrong[key].Notice = n
	}
	for _, key := range slices.Sorted(maps.Keys(t.wrong)) {
		m := t.wrong[key]
		_, still := now[key]
		var err error
		switch {
		case still && time.Since(m.since) >= t.Settle && time.Since(m.last) >= t.RepeatEvery:
			err = t.tell(ctx, m)
		case !still && m.event != "" && well[key].Over != "":
			over := &matter{Notice: Notice{Reason: well[key].Over, Message: well[key].OverMessage}}
			err = t.create(ctx, over, "Normal")
		}
		switch {
		case err != nil:
			t.Logger.Warn("an event can't be made, which is tried again", zap.String("reason", m.Reason), zap.Error(err))
		case !still:
			delete(t.wrong, key)
		}
	}
}

// tell makes the event of a thing that is wrong, or updates it. One that is gone, since
// the API server has forgotten it, is made anew.
func (t *teller) tell(ctx context.Context, m *matter) error {
	if m.event == "" {
		return t.create(ctx, m, "Warning")
	}
	patch, err := json.Marshal(map[string]any{"count": m.count + 1, "lastTimestamp": metav1.Now(), "message": cut(m.Message)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err = t.Kubernetes.Of(kube.Events, t.namespace()).Patch(ctx, m.event, types.MergePatchType, patch, metav1.PatchOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return t.create(ctx, m, "Warning")
	case err != nil:
		return err
	}
	m.count, m.last = m.count+1, time.Now()
	return nil
}

func (t *teller) create(ctx context.Context, m *matter, level string) error {
	now := metav1.Now()
	name := fmt.Sprintf("%s.%x", t.About.Name, now.UnixNano())
	text, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Event",
		"metadata":       map[string]any{"name": name, "namespace": t.namespace()},
		"involvedObject": t.About,
		"type":           level, "reason": m.Reason, "message": cut(m.Message),
		"source":             map[string]any{"component": t.Component, "host": t.Instance},
		"reportingComponent": t.Component, "reportingInstance": t.Instance,
		"firstTimestamp": now, "lastTimestamp": now, "count": 1,
	})
	if err != nil {
		return err
	}
	event := &unstructured.Unstructured{}
	if err := event.UnmarshalJSON(text); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if _, err := t.Kubernetes.Of(kube.Events, t.namespace()).Create(ctx, event, metav1.CreateOptions{}); err != nil {
		return err
	}
	m.event, m.count, m.last = name, 1, time.Now()
	return nil
}

// namespace is where the events are: where their object is.
func (t *teller) namespace() string { return cmp.Or(t.About.Namespace, metav1.NamespaceDefault) }

// cut returns as much of a message as an event takes.
func cut(message string) string {
	if len(message) <= longest {
		return message
	}
	const ellipsis = "…"
	message = message[:longest-len(ellipsis)]
	for !utf8.ValidString(message) {
		message = message[:len(message)-1]
	}
	return strings.TrimSpace(message) + ellipsis
}
