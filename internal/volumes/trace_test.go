package volumes_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	api "go.opentelemetry.io/otel/trace"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// recordSpans returns what keeps all spans of the test.
func recordSpans(t *testing.T) *tracetest.SpanRecorder {
	t.Helper()
	spans, before := tracetest.NewSpanRecorder(), otel.GetTracerProvider()
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans)))
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	return spans
}

func named(spans *tracetest.SpanRecorder, name string) (found []trace.ReadOnlySpan) {
	for _, span := range spans.Ended() {
		if span.Name() == name {
			found = append(found, span)
		}
	}
	return found
}

func linked(from trace.ReadOnlySpan, to trace.ReadOnlySpan) bool {
	return slices.ContainsFunc(from.Links(), func(l trace.Link) bool { return l.SpanContext.SpanID() == to.SpanContext().SpanID() })
}

// Each wait has a link to the poll that ended it, and that poll one to each wait that it
// was for.
func TestWaitsAndPollsHaveLinksToEachOther(t *testing.T) {
	spans := recordSpans(t)
	r := overHTTP(t, volumes.Options{Cloud: "a"})
	r.faults(admin.Fault{Operation: "volume.create", Stuck: true})
	ctx := r.within(time.Minute)
	var group sync.WaitGroup
	for i := range 5 {
		group.Go(func() {
			ctx, call := otel.Tracer("test").Start(ctx, "call")
			defer call.End()
			if _, err := r.Create(ctx, volumes.CreateRequest{Name: fmt.Sprint("pvc-", i), SizeGiB: 1}); err != nil {
				t.Error(err)
			}
		})
	}
	r.until(func(d admin.Dump) bool { return len(d.Volumes) == 5 && len(named(spans, "poll volumes")) > 1 })
	r.faults()
	group.Wait()
	calls, waits, polls := named(spans, "call"), named(spans, "wait volume_create"), named(spans, "poll volumes")
	if len(calls) != 5 || len(waits) != 5 {
		t.Fatalf("%d calls, %d waits", len(calls), len(waits))
	}
	for _, wait := range waits {
		if !slices.ContainsFunc(calls, func(call trace.ReadOnlySpan) bool { return call.SpanContext().SpanID() == wait.Parent().SpanID() }) {
			t.Errorf("the wait is not part of a call")
		}
		if !slices.ContainsFunc(polls, func(poll trace.ReadOnlySpan) bool {
			return len(wait.Links()) == 1 && linked(wait, poll) && linked(poll, wait)
		}) {
			t.Errorf("%d links, none to a poll that has one back", len(wait.Links()))
		}
		attributes := fmt.Sprint(wait.Attributes())
		for _, key := range []string{"cinder.volume.id", "cinder_csi.operation"} {
			if !slices.ContainsFunc(wait.Attributes(), func(kv attribute.KeyValue) bool { return string(kv.Key) == key && kv.Value.AsString() != "" }) {
				t.Errorf("no %s in %s", key, attributes)
			}
		}
	}
	for _, poll := range polls {
		if poll.Parent().IsValid() || len(poll.Links()) == 0 {
			t.Errorf("a poll for %d waits is part of the trace of one", len(poll.Links()))
		}
	}
}

// A call that waits for its turn, and one for a server, say so.
func TestTurnsAreTraced(t *testing.T) {
	spans := recordSpans(t)
	r := overHTTP(t, volumes.Options{})
	r.faults(admin.Fault{Operation: "attachment.create", Delay: 100 * time.Millisecond})
	server := r.dump().Servers[0].ID
	a, b := r.create(volumes.CreateRequest{Name: "a"}), r.create(volumes.CreateRequest{Name: "b"})
	var group sync.WaitGroup
	for _, id := range []string{a.ID, b.ID} {
		group.Go(func() {
			ctx, call := otel.Tracer("test").Start(r.within(time.Minute), "call")
			defer call.End()
			if _, err := r.Attach(ctx, id, server); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if turns := named(spans, "turn at server"); len(turns) == 0 {
		t.Error("none waited for its turn")
	}
}

// Where nobody traces a call, its waits and the polls for it are not traced.
func TestNothingIsTracedForACallThatIsNot(t *testing.T) {
	spans := recordSpans(t)
	r := overHTTP(t, volumes.Options{})
	ctx := api.ContextWithSpan(r.within(time.Minute), api.SpanFromContext(t.Context()))
	v, err := r.Create(ctx, volumes.CreateRequest{Name: "pvc", SizeGiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(ctx, v.ID); err != nil {
		t.Fatal(err)
	}
	for _, span := range spans.Ended() {
		if what, _, _ := strings.Cut(span.Name(), " "); slices.Contains([]string{"wait", "poll", "turn"}, what) {
			t.Errorf("span %q", span.Name())
		}
	}
}
