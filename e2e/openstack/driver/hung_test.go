package driver

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/status"
)

// attacher repeats calls as the sidecar of that name does: so many at once, each
// with the chart's timeout, with pauses that double after each failure.
type attacher struct {
	workers chan struct{}
}

// chartTimeout is what the chart lets a call of the attacher take.
const chartTimeout = 4 * time.Minute

// longestPause bounds the pauses, so that the end is seen soon: the sidecar's own
// grow to minutes.
const longestPause = 16 * time.Second

// insist calls until that succeeds or ctx ends, and returns how long it took, the
// wait for a worker included, and how often it was called.
func (a *attacher) insist(ctx context.Context, call func(ctx context.Context) error) (took time.Duration, calls int, err error) {
	start := time.Now()
	for pause := time.Second; ; pause = min(2*pause, longestPause) {
		select {
		case a.workers <- struct{}{}:
		case <-ctx.Done():
			return time.Since(start), calls, ctx.Err()
		}
		attempt, cancel := context.WithTimeout(ctx, chartTimeout)
		err = call(attempt)
		cancel()
		<-a.workers
		calls++
		if err == nil {
			return time.Since(start), calls, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return time.Since(start), calls, fmt.Errorf("last answer %s: %w", status.Convert(err).Message(), ctx.Err())
		}
	}
}

// createAll makes so many volumes, some at once, and sees to their end.
func (r *rig) createAll(name string, count int) []string {
	r.Helper()
	ids, errs := make([]string, count), make([]error, count)
	var wg sync.WaitGroup
	turns := make(chan struct{}, 6)
	for i := range count {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			errs[i] = insist(func() error {
				got, err := r.CreateVolume(r.Context(), request(fmt.Sprintf("%s-%d", name, i)))
				ids[i] = got.GetVolume().GetVolumeId()
				return err
			})
		})
	}
	wg.Wait()
	r.Cleanup(func() {
		var wg sync.WaitGroup
		for _, id := range ids {
			if id != "" {
				wg.Go(func() { r.remove(id) })
			}
		}
		wg.Wait()
	})
	for _, err := range errs {
		r.must(err)
	}
	return ids
}

// TestHungServerBesideHealthyOnes: the compute of one host hangs while 25 volumes
// are wanted on its server and others are to leave it. The servers of the other
// host get and lose their volumes all the same, with fewer workers than there are
// calls for the server that hangs. When the host goes on, all that
// was asked for is done, and nothing is left.
//
// The host goes on before Nova's API gives up on the attachment that it has been
// sent: what comes of that, a ghost, is another test's.
func TestHungServerBesideHealthyOnes(t *testing.T) {
	const (
		compute = "nova-compute-fake1"
		workers = 20
		hangs   = 45 * time.Second
	)
	r := start(t, "cloud.conf")
	hung := r.boot("hung", "nova")
	healthy := []string{r.boot("healthy-1", "az2"), r.boot("healthy-2", "az2"), r.boot("healthy-3", "az2")}
	leaving, coming, others := r.createAll("leaving", 5), r.createAll("coming", 25), r.createAll("other", 12)
	for _, id := range leaving {
		r.attach(id, hung, false)
	}
	signal := func(s syscall.Signal) { r.must(r.stack.Supervisor().Signal(context.Background(), compute, s)) }
	signal(syscall.SIGSTOP)
	wake := sync.OnceFunc(func() { signal(syscall.SIGCONT) })
	t.Cleanup(wake)
	hungAt := time.Now()
	sidecar := &attacher{workers: make(chan struct{}, workers)}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()

	var slow, fast sync.WaitGroup
	patient := func(what, id string, call func(ctx context.Context) error) {
		slow.Go(func() {
			took, calls, err := sidecar.insist(ctx, call)
			if err != nil {
				t.Errorf("%s %s: after %s and %d calls: %v", what, id, took, calls, err)
			}
		})
	}
	for _, id := range leaving {
		patient("detach", id, func(ctx context.Context) error { return r.unpublish(ctx, id, hung) })
	}
	for _, id := range coming {
		patient("attach", id, func(ctx context.Context) error { return r.publish(ctx, id, hung, false) })
	}
	took, gone := make([]time.Duration, len(others)), make([]time.Duration, len(others))
	var done atomic.Int32 // of the attachments to healthy servers
	for i, id := range others {
		time.Sleep(2 * time.Second)
		fast.Go(func() {
			server := healthy[i%len(healthy)]
			var err error
			took[i], _, err = sidecar.insist(ctx, func(ctx context.Context) error { return r.publish(ctx, id, server, false) })
			if err == nil {
				done.Add(1)
				gone[i], _, err = sidecar.insist(ctx, func(ctx context.Context) error { return r.unpublish(ctx, id, server) })
			}
			if err != nil {
				t.Errorf("healthy: volume %s: %v", id, err)
			}
		})
	}
	time.Sleep(time.Until(hungAt.Add(hangs)))
	// An attachment to a healthy server waits for a worker: 30 calls for the server
	// that hangs hold 20 of them for some ten seconds each, and come again after their
	// pauses. With a driver that lets each wait as long as its caller does, none was
	// done before the host went on: the median was 122 s.
	if got := int(done.Load()); got < len(others)/2 {
		t.Errorf("%d of %d healthy attachments were done in the %s in which the other server hung, want half of them", got, len(others), hangs)
	}
	wake()
	awake := time.Now()
	fast.Wait()
	slow.Wait()
	t.Logf("| all done %.0f s after the host that hung for %s went on", time.Since(awake).Seconds(), hangs)
	for what, times := range map[string][]time.Duration{"attachments": took, "detachments": gone} {
		slices.Sort(times)
		t.Logf("| %d %s of healthy servers beside one that hangs: median %.1f s, worst %.1f s", len(times), what, times[len(times)/2].Seconds(), times[len(times)-1].Seconds())
	}
	if got := len(r.listed(hung)); got != len(coming) {
		t.Errorf("Nova lists %d volumes, want %d", got, len(coming))
	}
	for _, id := range leaving {
		r.is(id, "available/0", 1)
	}
	for _, id := range coming {
		r.is(id, "in-use/1", 1)
		patient("detach", id, func(ctx context.Context) error { return r.unpublish(ctx, id, hung) })
	}
	slow.Wait()
	for _, server := range append(healthy, hung) {
		if left := r.listed(server); len(left) > 0 {
			t.Errorf("Nova still lists %v on %s", left, server)
		}
	}
	for _, id := range slices.Concat(leaving, coming, others) {
		r.is(id, "available/0", 1)
	}
}
