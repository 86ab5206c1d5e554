package fault_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func nothing() []string { return nil }

func TestAFaultIsTheSameAfterJSON(t *testing.T) {
	want := fault.Fault{
		ID: "x", Operation: "volume.*", Resource: "r", Skip: 1, Times: 2, Probability: 0.5, DropBefore: true, Delay: 1500 * time.Millisecond,
		Before: 404, After: 500, Body: "b", RetryAfter: time.Second, Drop: true, Truncate: true, Stuck: true, EndIn: "error", Async: fault.Ghost,
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got fault.Fault
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s\n%s", diff, data)
	}
	if err := json.Unmarshal([]byte(`{"delay": "soon"}`), &got); err == nil {
		t.Error("a delay called soon")
	}
}

func TestTheFirstFaultThatHitsDecides(t *testing.T) {
	plan := fault.NewPlan([]fault.Fault{{Operation: "a", Times: 1, Before: 1}, {Operation: "a", Resource: "r", Before: 2}, {Before: 3}}, nil)
	var got []int
	for _, resources := range [][]string{nil, nil, {"r"}} {
		got = append(got, plan.Match("a", func() []string { return resources }).Before)
	}
	if diff := cmp.Diff([]int{1, 3, 2}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAProbabilityIsKept(t *testing.T) {
	plan := fault.NewPlan([]fault.Fault{{Probability: 0.3, Before: 500}}, nil)
	hits := 0
	for range 5000 {
		if plan.Match("x", nothing) != nil {
			hits++
		}
	}
	if hits < 1300 || hits > 1700 {
		t.Errorf("%d hits of 5000", hits)
	}
}

func TestHoldEndsWhenTheFaultLeavesThePlan(t *testing.T) {
	var saved [][]fault.Fault
	plan := fault.NewPlan([]fault.Fault{{Stuck: true}}, func(f []fault.Fault) { saved = append(saved, f) })
	f := plan.Match("x", nothing)
	done := make(chan error, 1)
	go func() { done <- plan.Hold(t.Context(), f.ID) }()
	plan.Set([]fault.Fault{{ID: f.ID, Stuck: true}, {Before: 404}}) // still there
	select {
	case err := <-done:
		t.Fatalf("let go: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	plan.Set(nil)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(saved) != 2 {
		t.Errorf("saved %v", saved)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	plan.Set([]fault.Fault{{ID: "y"}})
	if err := plan.Hold(ctx, "y"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNonsenseIsFound(t *testing.T) {
	for name, f := range map[string]fault.Fault{
		"pattern": {Operation: "["}, "probability": {Probability: 2}, "status": {Before: 99}, "times": {Times: -1}, "async": {Async: "x"},
	} {
		if f.Check() == nil {
			t.Errorf("a wrong %s passes", name)
		}
	}
}
