package volumes_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/volumes/cloudtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const cluster = "test"

// world is a cloud with one server and the service under test.
type world struct {
	*testing.T
	cloud   *cloudtest.Cloud
	service *volumes.Service
	server  string
}

// in runs a test in a cloud that takes time, on a clock that does not.
func in(t *testing.T, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		c := cloudtest.New()
		c.Latency = cloudtest.Latency{
			Request: 10 * time.Millisecond, Create: 300 * time.Millisecond, Delete: 150 * time.Millisecond,
			Attach: time.Second, Detach: 800 * time.Millisecond, Extend: 200 * time.Millisecond,
			Snapshot: 400 * time.Millisecond, Backup: 15 * time.Second,
		}
		w := &world{T: t, cloud: c, service: volumes.New(c, volumes.Options{Cluster: cluster})}
		w.server = c.AddServer()
		test(w)
	})
}

// within returns a context with a deadline, and with a logger that is strict about keys.
func (w *world) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(strictly(w.Context(), w.T), d)
	w.Cleanup(cancel)
	return ctx
}

func (w *world) create(req volumes.CreateRequest) *cloud.Volume {
	w.Helper()
	if req.SizeGiB == 0 {
		req.SizeGiB = 1
	}
	v, err := w.service.Create(strictly(w.within(time.Minute), w.T, "name"), req)
	if err != nil {
		w.Fatal(err)
	}
	return v
}

func (w *world) attach(id, server string) {
	w.Helper()
	if _, err := w.service.Attach(strictly(w.within(time.Minute), w.T, "volumeID", "nodeID"), id, server); err != nil {
		w.Fatal(err)
	}
}

// get returns the state of a volume, without a request.
func (w *world) get(id string) cloud.Volume {
	w.Helper()
	for _, v := range w.cloud.Volumes() {
		if v.ID == id {
			return v
		}
	}
	w.Fatalf("volume %s is gone", id)
	return cloud.Volume{}
}

// spent returns the requests since the last call that were not polls, and the
// number of polls: of those reads that only watching makes.
func (w *world) spent(polls ...string) string {
	counts := w.cloud.Requests()
	var parts []string
	for _, op := range slices.Sorted(maps.Keys(counts)) {
		if !slices.Contains(polls, op) {
			parts = append(parts, fmt.Sprintf("%s:%d", op, counts[op]))
		}
	}
	return strings.Join(parts, " ")
}

// spentCreating is spent for a call of Create that makes a volume. It lists once, to
// find an earlier attempt; the other lists are its polls, which look for others of the
// name. Lists of types and zones are kept by the client, which this cloud has none of.
func (w *world) spentCreating() string {
	w.Helper()
	counts := w.cloud.Requests()
	if n := counts["volume.list"] - 1; n < 1 || n > 3 || counts["volume.get"] > 0 {
		w.Errorf("%d lists and %d other polls", n, counts["volume.get"])
	}
	var parts []string
	for _, op := range slices.Sorted(maps.Keys(counts)) {
		if !slices.Contains([]string{"volume.list", "type.list", "type.get", "zone.list"}, op) {
			parts = append(parts, fmt.Sprintf("%s:%d", op, counts[op]))
		}
	}
	return strings.Join(parts, " ")
}

func (w *world) wantError(err, want error, words ...string) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Fatalf("got %v, want %v", err, want)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			w.Fatalf("%q does not say %q", err, word)
		}
	}
}

// unavailable is an answer that leaves open whether the cloud has acted.
var unavailable = cloud.ErrUnavailable
