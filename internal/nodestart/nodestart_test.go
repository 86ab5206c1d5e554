package nodestart_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/cinder-csi/cinder-csi/internal/nodestart"
)

const (
	driver = "cinder.csi.openstack.org"
	key    = driver + "/agent-not-ready"
)

func tick() <-chan time.Time { return time.After(5 * time.Millisecond) }

// run has replicas at work until the test ends, and returns what they log.
func run(t *testing.T, api *apiserver, replicas int) (ctx context.Context, logs *observer.ObservedLogs) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	core, logs := observer.New(zapcore.InfoLevel)
	var all sync.WaitGroup
	for range replicas {
		client := api.client(t)
		all.Go(func() {
			if err := nodestart.Run(ctx, nodestart.Config{Kubernetes: client, Driver: driver, Taint: key, Logger: zap.New(core)}); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { cancel(); all.Wait() })
	return ctx, logs
}

func TestTheTaintGoesWhenTheLimitIsKnown(t *testing.T) {
	api := newAPIServer(t)
	foreign := taintObject("example.org/other", "", "NoSchedule")
	for _, name := range []string{"ready", "late", "absent", "unlimited", "other"} {
		api.put("nodes", nodeObject(name, foreign, taintObject(key, "any", "NoExecute"), taintObject("example.org/third", "", "NoSchedule"), taintObject(key, "", "NoSchedule")))
	}
	api.put("csinodes", csiNodeObject("ready", 25))
	api.put("csinodes", csiNodeWith("late"))
	api.put("csinodes", csiNodeObject("unlimited", 0))
	api.put("csinodes", csiNodeWith("other", map[string]any{"name": "other.example.org", "nodeID": "other", "allocatable": map[string]any{"count": 3}}))
	ctx, _ := run(t, api, 1)
	kept := []string{"example.org/other", "example.org/third"}
	tainted := []string{"example.org/other", key, "example.org/third", key}
	without := func(name string) func() bool {
		return func() bool { return slices.Equal(api.taints(name), kept) }
	}
	eventually(t, ctx, without("ready"))

	// The others are looked at, too, by the time that this one is done.
	api.put("csinodes", csiNodeObject("late", 25))
	eventually(t, ctx, without("late"))
	for _, name := range []string{"absent", "unlimited", "other"} {
		if diff := cmp.Diff(tainted, api.taints(name)); diff != "" {
			t.Errorf("%s has lost a taint before the driver's limit is known there:\n%s", name, diff)
		}
	}
	// It is registered, and tells its limit with the next NodeGetInfo.
	api.put("csinodes", csiNodeObject("unlimited", 1))
	eventually(t, ctx, without("unlimited"))
	// A node joins whose kubelet is slow: first the Node, then the CSINode, then the driver.
	api.put("csinodes", csiNodeObject("absent", 7))
	eventually(t, ctx, without("absent"))
}

// A taint comes back with a Node that is made anew, and where something else sets it
// late, as a controller of machines that does so after the kubelet has joined.
func TestATaintThatComesBackGoesAgain(t *testing.T) {
	api := newAPIServer(t)
	api.put("nodes", nodeObject("node", taintObject(key, "", "NoExecute")))
	api.put("csinodes", csiNodeObject("node", 25))
	ctx, _ := run(t, api, 1)
	gone := func() bool { return len(api.taints("node")) == 0 }
	eventually(t, ctx, gone)
	api.put("nodes", nodeObject("node", taintObject(key, "", "NoExecute")))
	eventually(t, ctx, gone)

	// The Node is made anew while the CSINode of the one before is still there.
	fresh := nodeObject("node", taintObject(key, "", "NoExecute"))
	fresh["metadata"].(map[string]any)["uid"] = "another"
	api.remove("nodes", "node")
	api.put("nodes", fresh)
	api.put("nodes", nodeObject("witness", taintObject(key, "", "NoExecute")))
	api.put("csinodes", csiNodeObject("witness", 25))
	eventually(t, ctx, func() bool { return len(api.taints("witness")) == 0 })
	if gone() {
		t.Error("the taint is removed by the word of the CSINode of another Node")
	}
	api.remove("csinodes", "node")
	registered := csiNodeObject("node", 25)
	registered["metadata"].(map[string]any)["ownerReferences"].([]any)[0].(map[string]any)["uid"] = "another"
	api.put("csinodes", registered)
	eventually(t, ctx, gone)
}

// Whatever else changes the taints at the same time, nothing of it is lost.
func TestNobodysTaintIsLost(t *testing.T) {
	api := newAPIServer(t)
	ctx, _ := run(t, api, 2)
	var everybody sync.WaitGroup
	const all = 50
	for i := range all {
		everybody.Go(func() {
			name := fmt.Sprintf("node-%d", i)
			api.put("nodes", nodeObject(name, taintObject(key, "", "NoExecute"), taintObject("one", "", "NoSchedule")))
			api.put("csinodes", csiNodeObject(name, 25))
			api.mu.Lock()
			defer api.mu.Unlock()
			// Another controller puts its taint in front.
			now := api.objects["nodes"][name]
			fresh := nodeObject(name, taintObject("two", "", "NoSchedule"))
			fresh["spec"].(map[string]any)["taints"] = append(fresh["spec"].(map[string]any)["taints"].([]any), now["spec"].(map[string]any)["taints"].([]any)...)
			api.store("nodes", fresh)
		})
	}
	everybody.Wait()
	for i := range all {
		name := fmt.Sprintf("node-%d", i)
		eventually(t, ctx, func() bool { return !slices.Contains(api.taints(name), key) })
		if diff := cmp.Diff([]string{"two", "one"}, api.taints(name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// An API server that refuses, fails or hangs is asked again, and told of in the log.
func TestAnAPIServerThatFailsIsAskedAgain(t *testing.T) {
	for name, status := range map[string]int{"forbidden": http.StatusForbidden, "failing": http.StatusInternalServerError, "hanging": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := newAPIServer(t)
			api.put("nodes", nodeObject("node", taintObject(key, "", "NoExecute")))
			api.put("csinodes", csiNodeObject("node", 25))
			api.answers("patch nodes", status)
			ctx, logs := run(t, api, 1)
			eventually(t, ctx, func() bool { return api.count()["patch nodes"] > 1 })
			for _, entry := range logs.All() {
				if entry.Level != zapcore.WarnLevel || entry.ContextMap()["name"] != "node" || entry.ContextMap()["error"] == nil {
					t.Errorf("log: %v", entry)
				}
			}
			if logs.Len() == 0 {
				t.Error("nothing is logged")
			}
			api.works()
			eventually(t, ctx, func() bool { return len(api.taints("node")) == 0 })
		})
	}
}

func TestAWatchThatIsRefusedIsTriedAgain(t *testing.T) {
	api := newAPIServer(t)
	for _, what := range []string{"watch nodes", "list nodes", "watch csinodes", "list csinodes"} {
		api.answers(what, http.StatusForbidden)
	}
	api.put("nodes", nodeObject("node", taintObject(key, "", "NoExecute")))
	api.put("csinodes", csiNodeObject("node", 25))
	ctx, logs := run(t, api, 1)
	eventually(t, ctx, func() bool {
		return logs.FilterField(zap.String("resource", "v1/nodes")).Len() > 0 && logs.FilterField(zap.String("resource", "storage.k8s.io/v1/csinodes")).Len() > 0
	})
	api.works()
	eventually(t, ctx, func() bool { return len(api.taints("node")) == 0 })
}

// Hundreds of nodes join while two replicas run: two watches of each replica, and a
// patch of each node that one of the two wins.
func TestEachNodeCostsOnePatchAndNoRequestOtherwise(t *testing.T) {
	const all = 300
	for _, old := range []bool{false, true} {
		t.Run(fmt.Sprintf("old=%v", old), func(t *testing.T) {
			api := newAPIServer(t)
			api.old = old
			// Half of them are there before the driver starts, and have no taint any more.
			for i := range all {
				name := fmt.Sprintf("old-%d", i)
				api.put("nodes", nodeObject(name, taintObject("example.org/other", "", "NoSchedule")))
				api.put("csinodes", csiNodeObject(name, 25))
			}
			ctx, logs := run(t, api, 1)
			// What joins before that is in a list, which may be acted on before the watch begins.
			watches := 1
			if old {
				watches = 2 // it asks for a watch with a list first, and then for pages
			}
			eventually(t, ctx, func() bool {
				return api.count()["watch nodes"] == watches && api.count()["watch csinodes"] == watches
			})
			api.put("nodes", nodeObject("first", taintObject(key, "", "NoExecute")))
			api.put("csinodes", csiNodeObject("first", 25))
			eventually(t, ctx, func() bool { return len(api.taints("first")) == 0 })
			started := api.count()
			if old {
				if lists := started["list nodes"]; lists != all/100 {
					t.Errorf("to start: %v", started)
				}
			} else if diff := cmp.Diff(map[string]int{"watch nodes": 1, "watch csinodes": 1, "patch nodes": 1}, started); diff != "" {
				t.Errorf("to start:\n%s", diff)
			}
			for i := range all {
				name := fmt.Sprintf("new-%d", i)
				api.put("nodes", nodeObject(name, taintObject(key, "", "NoExecute")))
				api.put("csinodes", csiNodeObject(name, 25))
			}
			eventually(t, ctx, func() bool { return api.count()["patch nodes"] == all+1 })
			eventually(t, ctx, func() bool { return len(api.taints(fmt.Sprintf("new-%d", all-1))) == 0 })
			eventually(t, ctx, func() bool { return logs.FilterField(zap.String("taint", key)).Len() > all }) // after the answers
			after := api.count()
			delete(after, "patch nodes")
			delete(started, "patch nodes")
			if diff := cmp.Diff(started, after); diff != "" {
				t.Errorf("%d nodes have joined, and cost besides their patches:\n%s", all, diff)
			}
			if n := logs.FilterField(zap.String("taint", key)).Len(); n != all+1 {
				t.Errorf("%d lines in the log", n)
			}
			var mem runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&mem)
			t.Logf("requests %v, of which patches %d; heap with the test's own cluster %d KiB", api.count(), api.count()["patch nodes"], mem.HeapAlloc/1024)
		})
	}
}
