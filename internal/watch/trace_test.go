package watch_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/cinder-csi/cinder-csi/internal/watch"
)

// recorded returns the spans of what a test does, by their names.
func recorded(t *testing.T, test func()) map[string][]trace.ReadOnlySpan {
	t.Helper()
	recorder, before := tracetest.NewSpanRecorder(), otel.GetTracerProvider()
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(recorder)))
	defer otel.SetTracerProvider(before)
	test()
	spans := make(map[string][]trace.ReadOnlySpan)
	for _, span := range recorder.Ended() {
		spans[span.Name()] = append(spans[span.Name()], span)
	}
	return spans
}

// Of three waiters two are traced: polls have links to those alone, and each of the two has
// one to the poll that it was answered by.
func TestPollsAndWaitersHaveLinksToEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans := recorded(t, func() {
			s := newSource()
			w := watch.New(watch.Options[int, bool]{Name: "things", Ask: s.ask, Few: 2})
			var group sync.WaitGroup
			for key := range 3 {
				s.start(key, 2*time.Second)
				group.Go(func() {
					ctx := t.Context()
					if key > 0 {
						traced, span := otel.Tracer("test").Start(ctx, "waiter")
						defer span.End()
						ctx = traced
					}
					if _, err := w.Wait(ctx, key, "create", isDone); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
		})
		polls, waiters := spans["poll things"], spans["waiter"]
		if len(polls) < 2 || len(waiters) != 2 {
			t.Fatalf("%d polls, %d waiters", len(polls), len(waiters))
		}
		last := polls[len(polls)-1]
		for _, waiter := range waiters {
			if links := waiter.Links(); len(links) != 1 || links[0].SpanContext.SpanID() != last.SpanContext().SpanID() {
				t.Errorf("%v", links)
			}
		}
		for _, poll := range polls {
			if links := poll.Links(); len(links) != 2 || poll.Parent().IsValid() || poll.Status().Code != codes.Unset {
				t.Errorf("%v, %v", links, poll.Status())
			}
		}
	})
}

func TestAPollThatFailsSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans := recorded(t, func() {
			s, broken := newSource(), errors.New("broken")
			s.setFail(broken)
			w := watch.New(watch.Options[int, bool]{Name: "things", Ask: s.ask, Final: func(err error) bool { return errors.Is(err, broken) }})
			ctx, span := otel.Tracer("test").Start(t.Context(), "waiter")
			defer span.End()
			if _, err := w.Wait(ctx, 1, "", isDone); !errors.Is(err, broken) {
				t.Error(err)
			}
		})
		polls := spans["poll things"]
		if len(polls) != 1 || polls[0].Status().Code != codes.Error || len(spans["waiter"][0].Links()) != 1 {
			t.Errorf("%v", spans)
		}
	})
}
