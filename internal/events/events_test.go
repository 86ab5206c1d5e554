package events_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/events"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/kube/kubetest"
)

type event struct {
	Metadata       struct{ Name, Namespace string }
	InvolvedObject events.Object
	Type, Reason   string
	Message        string
	Count          int
	LastTimestamp  time.Time
	Source         struct{ Component, Host string }
}

// rig is a teller whose API server keeps events, and whose state a test sets.
type rig struct {
	mu      sync.Mutex
	wrong   []events.Notice
	looks   int
	events  map[string]*event
	writes  []string
	refuses int // a status, -1 hangs
}

func newRig(t *testing.T, about events.Object, repeat time.Duration) *rig {
	t.Helper()
	return newRigThatSettles(t, about, repeat, 20*time.Millisecond)
}

func newRigThatSettles(t *testing.T, about events.Object, repeat, settle time.Duration) *rig {
	t.Helper()
	r := &rig{events: map[string]*event{}}
	server := kubetest.New(t, "token")
	server.Instead(r.serve)
	client, err := kube.New(kube.Options{Kubeconfig: server.Kubeconfig(t, "token"), QPS: 10000, Burst: 10000})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		events.Run(ctx, events.Config{
			Kubernetes: client, About: about, Component: "driver", Instance: "pod-1", Logger: zap.NewNop(), Look: r.look,
			LookEvery: time.Millisecond, Settle: settle, RepeatEvery: repeat,
		})
	})
	t.Cleanup(func() { cancel(); done.Wait(); client.Close() })
	return r
}

func (r *rig) look() []events.Notice {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looks++
	return r.wrong
}

func (r *rig) serve(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes = append(r.writes, req.Method+" "+req.URL.Path)
	if r.refuses != 0 {
		if r.refuses > 0 {
			kubetest.Status(w, r.refuses, "Forbidden", "refused", "")
		} else {
			r.mu.Unlock()
			<-req.Context().Done()
			r.mu.Lock()
		}
		return
	}
	body, _ := io.ReadAll(req.Body)
	e := &event{}
	switch req.Method {
	case http.MethodPost:
		_ = json.Unmarshal(body, e)
		r.events[e.Metadata.Name] = e
	case http.MethodPatch:
		if e = r.events[path.Base(req.URL.Path)]; e == nil {
			kubetest.Status(w, http.StatusNotFound, "NotFound", "no such event", path.Base(req.URL.Path))
			return
		}
		_ = json.Unmarshal(body, e)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"kind":"Event","apiVersion":"v1","metadata":{"name":%q}}`, e.Metadata.Name)
}

func (r *rig) set(wrong ...events.Notice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = wrong
}

// until waits for a state of the events.
func (r *rig) until(t *testing.T, met func(map[string]*event) bool) {
	t.Helper()
	for {
		r.mu.Lock()
		ok := met(r.events)
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatal("it doesn't happen")
		case <-time.After(time.Millisecond):
		}
	}
}

// passes waits until the teller has looked some more times.
func (r *rig) passes(looks int) {
	r.mu.Lock()
	from := r.looks
	r.mu.Unlock()
	for {
		r.mu.Lock()
		now := r.looks
		r.mu.Unlock()
		if now >= from+looks {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (r *rig) written() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.writes...)
}

func having(reason string, count int) func(map[string]*event) bool {
	return func(all map[string]*event) bool {
		for _, e := range all {
			if e.Reason == reason && e.Count >= count {
				return true
			}
		}
		return false
	}
}

func pod() events.Object {
	return events.Object{APIVersion: "v1", Kind: "Pod", Namespace: "storage", Name: "controller-1", UID: "uid-1"}
}

func down(why string) events.Notice {
	return events.Notice{Reason: "CloudUnavailable", Of: "a", Message: "cloud a: " + why}
}

func up() events.Notice {
	return events.Notice{Reason: "CloudUnavailable", Of: "a", Well: true, Over: "CloudAvailable", OverMessage: "cloud a works"}
}

func TestWhatStaysWrongIsOneEventAndItsEndAnother(t *testing.T) {
	r := newRig(t, pod(), time.Hour)
	r.set(down("refused"))
	r.until(t, having("CloudUnavailable", 1))
	for i := range 100 {
		r.set(down(fmt.Sprintf("refused %d", i)))
		r.passes(1)
	}
	if got := r.written(); len(got) != 1 || got[0] != "POST /api/v1/namespaces/storage/events" {
		t.Errorf("requests: %v", got)
	}
	r.set(up())
	r.until(t, having("CloudAvailable", 1))
	r.passes(50)
	if got := r.written(); len(got) != 2 {
		t.Errorf("requests: %v", got)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		want := map[string]string{"CloudUnavailable": "Warning", "CloudAvailable": "Normal"}[e.Reason]
		if e.InvolvedObject != pod() || e.Type != want || e.Source.Component != "driver" || e.Source.Host != "pod-1" || e.Metadata.Namespace != "storage" {
			t.Errorf("%+v", e)
		}
	}
}

// The cloud of a secret that is used no more, and one that nobody asks anything, may be as
// unavailable as before.
func TestTheEndOfWhatIsNotKnownAnyMoreIsNotTold(t *testing.T) {
	r := newRig(t, pod(), time.Hour)
	r.set(down("refused"))
	r.until(t, having("CloudUnavailable", 1))
	r.set()
	r.passes(50)
	r.set(up())
	r.passes(50)
	if got := r.written(); len(got) != 1 {
		t.Errorf("requests: %v", got)
	}
}

func TestWhatGoesOnIsCountedAndToldAnew(t *testing.T) {
	r := newRig(t, pod(), 10*time.Millisecond)
	r.set(down("refused"))
	r.until(t, having("CloudUnavailable", 3))
	r.set(down("times out"))
	r.until(t, func(all map[string]*event) bool {
		for _, e := range all {
			if strings.Contains(e.Message, "times out") {
				return len(all) == 1
			}
		}
		return false
	})
	// The API server forgets events after a while.
	r.mu.Lock()
	clear(r.events)
	r.mu.Unlock()
	r.until(t, having("CloudUnavailable", 1))
}

func TestWhatPassesQuicklyIsNotTold(t *testing.T) {
	r := newRigThatSettles(t, pod(), time.Hour, time.Hour)
	for range 20 {
		r.set(down("refused"))
		r.passes(2)
		r.set(up())
		r.passes(2)
	}
	if got := r.written(); len(got) > 0 {
		t.Errorf("requests: %v", got)
	}
}

func TestAnAPIServerThatRefusesIsTriedAgain(t *testing.T) {
	for name, status := range map[string]int{"forbidden": 403, "failing": 500} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pod(), time.Hour)
			r.mu.Lock()
			r.refuses = status
			r.mu.Unlock()
			r.set(down("refused"))
			for len(r.written()) < 2 {
				time.Sleep(time.Millisecond)
			}
			r.mu.Lock()
			r.refuses = 0
			r.mu.Unlock()
			r.until(t, having("CloudUnavailable", 1))
		})
	}
}

// A driver that stops isn't held up by an API server that hangs.
func TestAnAPIServerThatHangsHoldsNothingUp(t *testing.T) {
	r := newRig(t, pod(), time.Hour)
	r.mu.Lock()
	r.refuses = -1
	r.mu.Unlock()
	r.set(down("refused"))
	for len(r.written()) < 1 {
		time.Sleep(time.Millisecond)
	}
}

func TestEventsOfWhatHasNoNamespaceAreInDefault(t *testing.T) {
	r := newRig(t, events.Object{APIVersion: "storage.k8s.io/v1", Kind: "CSIDriver", Name: "driver"}, time.Hour)
	r.set(down(strings.Repeat("ä", 2000)))
	r.until(t, having("CloudUnavailable", 1))
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Metadata.Namespace != "default" || len(e.Message) > 1024 || !utf8.ValidString(e.Message) || !strings.HasSuffix(e.Message, "…") {
			t.Errorf("%+v", e)
		}
	}
}

// Any number of things that are wrong costs a bounded number of requests and little memory.
func TestTheNumberOfEventsIsBounded(t *testing.T) {
	r := newRig(t, pod(), time.Hour)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	many := make([]events.Notice, 10000)
	for i := range many {
		many[i] = events.Notice{Reason: "Wrong", Of: fmt.Sprint(i), Message: "wrong"}
	}
	r.set(many...)
	r.until(t, func(all map[string]*event) bool { return len(all) >= 100 })
	r.passes(50)
	if n := len(r.written()); n != 100 {
		t.Errorf("%d requests", n)
	}
	r.set()
	r.passes(10)
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("heap grew by %d KiB, the test's own API server included", (int64(after.HeapAlloc)-int64(before.HeapAlloc))/1024)
}
