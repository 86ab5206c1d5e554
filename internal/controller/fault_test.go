package controller_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

// action is one RPC under test, about things that are named after n.
type action struct {
	// write is the operation by which the RPC changes the cloud.
	write string
	// reads are the operations with which it finds out.
	reads []string
	// prepare makes what the RPC needs; call is the RPC; count is how often
	// the cloud has what it is to achieve: exactly once when it has succeeded.
	prepare func(w *world, n string)
	call    func(ctx context.Context, w *world, n string) error
	count   func(w *world, n string) int
	// bad is the fault after which the thing itself is broken: asking again
	// does not mend it.
	bad string
}

// trouble is a fault of the cloud.
type trouble struct {
	fault admin.Fault
	// onRead tells that a read is hit rather than the write.
	onRead bool
	// broken tells that the outcome is an error state.
	broken bool
}

var troubles = map[string]trouble{
	"the connection breaks before the cloud acts": {fault: admin.Fault{DropBefore: true, Times: 1}},
	"the connection breaks after the cloud acted": {fault: admin.Fault{Drop: true, Times: 1}},
	"half of the answer arrives":                  {fault: admin.Fault{Truncate: true, Times: 1}},
	"503 before the cloud acts":                   {fault: admin.Fault{Before: 503, Times: 1}},
	"500 after the cloud acted":                   {fault: admin.Fault{After: 500, Times: 1}},
	"504 after the cloud acted":                   {fault: admin.Fault{After: 504, Times: 1}},
	"409 before the cloud acts":                   {fault: admin.Fault{Before: 409, Times: 1}},
	"429 before the cloud acts":                   {fault: admin.Fault{Before: 429, RetryAfter: time.Second, Times: 1}},
	"the answer takes longer than the call may":   {fault: admin.Fault{Delay: 1500 * time.Millisecond, Times: 1}},
	"what was started gets stuck":                 {fault: admin.Fault{Stuck: true, Times: 1}},
	"what was started ends in an error":           {fault: admin.Fault{Times: 1}, broken: true},
	"reads fail with 503":                         {fault: admin.Fault{Before: 503}, onRead: true},
	"reads break off":                             {fault: admin.Fault{Drop: true, Times: 3}, onRead: true},
	"reads take longer than the call may":         {fault: admin.Fault{Delay: 1500 * time.Millisecond, Times: 2}, onRead: true},
}

// again are the codes that make a sidecar ask again, and forget nothing.
var again = []codes.Code{codes.Aborted, codes.Unavailable, codes.DeadlineExceeded, codes.Canceled}

// faultQuotaGiB is how much may be stored during the faults.
const faultQuotaGiB = 10000

func TestEveryCallSurvivesEveryFault(t *testing.T) {
	t.Parallel()
	for _, method := range csi.Controller_ServiceDesc.Methods {
		if !slices.Contains(withoutFaults, method.MethodName) && !hasAction(method.MethodName) {
			t.Errorf("no action calls %s", method.MethodName)
		}
	}
	var combinations atomic.Int32
	// The actions wait most of the time, so that all run at once, whatever the
	// number of processors.
	var group sync.WaitGroup
	for name, a := range actions {
		group.Go(func() {
			t.Run(name, func(t *testing.T) { combinations.Add(a.survivesAll(t)) })
		})
	}
	group.Wait()
	t.Logf("%d combinations of calls and faults", combinations.Load())
}

// withoutFaults are the methods that ask nothing of a cloud.
var withoutFaults = []string{
	"ControllerGetCapabilities",
	// Not announced: each answers that it is not implemented.
	"ControllerListVolumeHealth", "ControllerGetVolumeHealth",
}

// hasAction reports whether an action is named after a method.
func hasAction(method string) bool {
	for name := range actions {
		if first, _, _ := strings.Cut(name, " "); first == method {
			return true
		}
	}
	return false
}

// survivesAll checks an action against every fault, and returns their number.
func (a action) survivesAll(t *testing.T) (n int32) {
	w := startWorld(t, devcloud.Fast())
	quotas := map[string]int64{"volumes": 1000, "gigabytes": faultQuotaGiB, "snapshots": 1000, "backups": 1000, "backup_gigabytes": 10000}
	if err := w.admin.SetQuotas(t.Context(), quotas); err != nil {
		t.Fatal(err)
	}
	for what, trouble := range troubles {
		n++
		t.Run(what, func(t *testing.T) {
			at := *w
			at.T = t
			a.survives(&at, trouble, fmt.Sprintf("%d-%s", n, w.Name()))
		})
	}
	return n
}

// survives checks one combination: no wrong success, an error that makes the
// caller ask again, and when the fault is over exactly one outcome.
func (a action) survives(w *world, trouble trouble, n string) {
	w.Helper()
	if a.prepare != nil {
		a.prepare(w, n)
	}
	before := w.dump()
	w.faults(a.faults(trouble)...)
	ctx, cancel := context.WithTimeout(w.Context(), time.Second)
	err := a.call(ctx, w, n)
	cancel()
	w.checkFirst(a, trouble, n, err)
	if err := w.admin.ClearFaults(w.Context()); err != nil {
		w.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for err = a.call(w.within(20*time.Second), w, n); err != nil; err = a.call(w.within(20*time.Second), w, n) {
		if trouble.broken && a.bad != "" {
			wantCode(w.T, err, codes.FailedPrecondition)
			return
		}
		if !slices.Contains(again, status.Code(err)) || time.Now().After(deadline) {
			w.Fatalf("repeated after the fault: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if count := a.count(w, n); count != 1 {
		w.Fatalf("%d outcomes in the end", count)
	}
	after := w.dump()
	if grown := len(after.Volumes) + len(after.Snapshots) + len(after.Backups) - len(before.Volumes) - len(before.Snapshots) - len(before.Backups); grown > 1 {
		w.Fatalf("%d things more than before", grown)
	}
}

// checkFirst judges the call during the fault.
func (w *world) checkFirst(a action, trouble trouble, n string, err error) {
	w.Helper()
	switch code := status.Code(err); {
	case err == nil:
		if count := a.count(w, n); count != 1 {
			w.Fatalf("success with %d outcomes", count)
		}
	case trouble.broken && a.bad != "":
		// Its second may not have been enough to find the cause. The repetition,
		// which has more time, has to tell it.
		if code != codes.FailedPrecondition && code != codes.DeadlineExceeded {
			w.Fatalf("what is broken is told as %v", err)
		}
	case !slices.Contains(again, code):
		w.Fatalf("%v does not make the caller ask again", err)
	}
}

// faults returns the plan for an action.
func (a action) faults(trouble trouble) []admin.Fault {
	f := trouble.fault
	if trouble.broken {
		switch a.write {
		case "attachment.create", "attachment.delete":
			f.Async = "vanish"
		case "volume.extend", "volume.delete", "snapshot.delete", "backup.delete":
			f.EndIn = a.bad
		default:
			f.EndIn = "error"
		}
	}
	if !trouble.onRead {
		f.Operation = a.write
		return []admin.Fault{f}
	}
	var plan []admin.Fault
	for _, op := range a.reads {
		f.Operation = op
		plan = append(plan, f)
	}
	return plan
}
