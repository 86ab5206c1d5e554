package volumes_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/volumes/cloudtest"
)

// broken is a cloud some of whose servers change nothing.
type broken struct {
	*cloudtest.Cloud
	servers map[string]bool
	how     string

	mu       sync.Mutex
	inFlight map[string]int
	worst    int
}

// The ways in which servers are broken.
const (
	// hangs: nova-compute does not answer. Attaching takes Nova's 60 s of
	// rpc_response_timeout and ends in 500, detaching is accepted and never done.
	hangs = "hangs"
	// dies: nova-compute ends after it has answered; what was accepted is never done.
	dies      = "dies"
	locked    = "is locked"
	rebooting = "is busy all the time"
)

func (b *broken) fails(ctx context.Context, serverID, volumeID string) (bool, error) {
	if !b.servers[serverID] {
		return false, nil
	}
	b.mu.Lock()
	b.inFlight[serverID]++
	b.worst = max(b.worst, b.inFlight[serverID])
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.inFlight[serverID]--
	}()
	switch b.how {
	case hangs:
		time.Sleep(time.Minute)
		return true, &cloud.Error{Kind: cloud.ErrUnavailable, Operation: "attach volume", Resource: volumeID, StatusCode: 500, Uncertain: true, Message: "MessagingTimeout"}
	case locked:
		return true, &cloud.Error{Kind: cloud.ErrServerState, Operation: "attach volume", Resource: volumeID, StatusCode: 409, Message: "Instance is locked"}
	case rebooting:
		return true, &cloud.Error{Kind: cloud.ErrConflict, Operation: "attach volume", Resource: volumeID, StatusCode: 409, Message: "Cannot 'attach_volume' instance while it is in task_state rebooting"}
	}
	b.Set(volumeID, func(v *cloud.Volume) { v.Status = cloud.VolumeReserved })
	return true, nil
}

func (b *broken) AttachVolume(ctx context.Context, serverID, volumeID string) (*cloud.ServerAttachment, error) {
	if fails, err := b.fails(ctx, serverID, volumeID); fails {
		return &cloud.ServerAttachment{}, err
	}
	return b.Cloud.AttachVolume(ctx, serverID, volumeID)
}

func (b *broken) DetachVolume(ctx context.Context, serverID, volumeID string) error {
	if b.servers[serverID] && (b.how == hangs || b.how == dies) {
		b.Set(volumeID, func(v *cloud.Volume) { v.Status = cloud.VolumeDetaching })
		return nil
	}
	if fails, err := b.fails(ctx, serverID, volumeID); fails {
		return err
	}
	return b.Cloud.DetachVolume(ctx, serverID, volumeID)
}

// item is a VolumeAttachment in the attacher's queue.
type item struct {
	volume, server string
	wanted         time.Time
	pause          time.Duration
}

// attacher works as external-attacher does: workers of the chart's number, each call
// with the chart's timeout; whatever the code of an error, the item comes back after
// a pause that doubles from 1 s to 5 min (client-go's ItemExponentialFailureRateLimiter
// with --retry-interval-start and --retry-interval-max; csi_handler.go requeues on
// every error of ControllerPublishVolume and ControllerUnpublishVolume).
type attacher struct {
	due chan *item

	mu   sync.Mutex
	lags []time.Duration
}

const (
	attacherWorkers = 50
	attacherTimeout = 4 * time.Minute
)

// work calls until ctx ends, and keeps how long items took whose call succeeded.
func (a *attacher) work(ctx context.Context, call func(ctx context.Context, i *item) error) {
	for {
		var i *item
		select {
		case <-ctx.Done():
			return
		case i = <-a.due:
		}
		limited, done := context.WithTimeout(ctx, attacherTimeout)
		err := call(limited, i)
		done()
		if err != nil {
			pause := i.pause
			i.pause = min(2*i.pause, 5*time.Minute)
			time.AfterFunc(pause, func() { a.due <- i })
			continue
		}
		a.mu.Lock()
		a.lags = append(a.lags, time.Since(i.wanted))
		a.mu.Unlock()
	}
}

// Of a hundred servers some are broken, and 25 volumes are to be attached to, or
// detached from, each of them. Every 5 s a pod comes to another one.
func TestServersThatAreBrokenCostTheirOwnPodsOnly(t *testing.T) {
	const minutes, each, pods = 20, 25, 240
	for _, how := range []string{hangs, dies, locked, rebooting} {
		for _, detach := range []bool{false, true} {
			for _, n := range []int{1, 2, 4, 10} {
				t.Run(fmt.Sprintf("%d of 100 servers: each %s, detaching: %t", n, how, detach), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						c := &broken{Cloud: cloudtest.New(), servers: map[string]bool{}, how: how, inFlight: map[string]int{}}
						c.Latency = cloudtest.Latency{Request: 10 * time.Millisecond, Attach: time.Second, Detach: time.Second}
						s := volumes.New(c, volumes.Options{Cluster: cluster})
						ctx, cancel := context.WithCancel(t.Context())
						a := &attacher{due: make(chan *item, 1000)}
						add := func(server string) {
							v := cloud.Volume{Status: cloud.VolumeAvailable, SizeGiB: 1}
							if detach {
								v.Status, v.Attachments = cloud.VolumeInUse, []cloud.Attachment{{ServerID: server}}
							}
							a.due <- &item{volume: c.Add(v), server: server, wanted: time.Now(), pause: time.Second}
						}
						for range n {
							id := c.AddServer()
							c.servers[id] = true
							for range each {
								add(id)
							}
						}
						var good []string
						for range 100 - n {
							good = append(good, c.AddServer())
						}
						var group sync.WaitGroup
						for range attacherWorkers {
							group.Go(func() {
								a.work(ctx, func(ctx context.Context, i *item) error {
									if detach {
										return s.Detach(ctx, i.volume, i.server)
									}
									_, err := s.Attach(ctx, i.volume, i.server)
									return err
								})
							})
						}
						for i := range pods {
							add(good[i%len(good)])
							time.Sleep(minutes * time.Minute / pods)
						}
						time.Sleep(30 * time.Second)
						cancel()
						group.Wait()
						slices.Sort(a.lags)
						if len(a.lags) != pods {
							t.Fatalf("%d of %d done", len(a.lags), pods)
						}
						median, worst := a.lags[pods/2].Round(10*time.Millisecond), a.lags[pods-1].Round(10*time.Millisecond)
						t.Logf("median %v, worst %v; at most %d requests in flight to a broken server", median, worst, c.worst)
						if median > 1500*time.Millisecond || worst > 25*time.Second {
							t.Errorf("median %v, worst %v", median, worst)
						}
						if c.worst > 1 {
							t.Errorf("%d requests in flight to one server", c.worst)
						}
					})
				})
			}
		}
	}
}

// While a volume waits for a server that doesn't let it go, the server that is to have it
// takes others at once.
func TestAServerThatHangsHoldsUpNoOther(t *testing.T) {
	in(t, func(w *world) {
		held := w.cloud.Add(cloud.Volume{Name: "held", SizeGiB: 1, Status: cloud.VolumeDetaching, Attachments: []cloud.Attachment{{ServerID: w.cloud.AddServer()}}})
		ctx, cancel := context.WithTimeout(w.Context(), 20*time.Minute)
		defer cancel()
		var group sync.WaitGroup
		group.Go(func() {
			for ctx.Err() == nil {
				limited, done := context.WithTimeout(ctx, attacherTimeout)
				if _, err := w.service.Attach(limited, held, w.server); err == nil {
					w.Error("it is attached")
				}
				done()
			}
		})
		for i := range 6 {
			time.Sleep(3*time.Minute + 10*time.Second)
			begun := time.Now()
			w.attach(w.create(volumes.CreateRequest{Name: fmt.Sprint("pvc-", i)}).ID, w.server)
			if took := time.Since(begun); took > 5*time.Second {
				w.Errorf("volume %d is attached after %v", i, took)
			}
		}
		group.Wait()
	})
}

// Each of ten servers has the volume as soon as those before it have, also in a cluster
// that is at work on other volumes.
func TestTenServersThatShareAVolumeGetItInTurn(t *testing.T) {
	for _, busy := range []int{0, 20} {
		for _, takes := range []time.Duration{3 * time.Second, 8 * time.Second} {
			t.Run(fmt.Sprintf("%v each, beside %d others", takes, busy), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { tenShareAVolume(t, takes, busy) })
			})
		}
	}
}

func tenShareAVolume(t *testing.T, takes time.Duration, busy int) {
	c := cloudtest.New()
	c.Latency = cloudtest.Latency{Request: 10 * time.Millisecond, Create: 300 * time.Millisecond, Attach: takes}
	s := volumes.New(c, volumes.Options{Cluster: cluster})
	v, err := s.Create(t.Context(), volumes.CreateRequest{Name: "shared", SizeGiB: 1, Type: "multiattach", Multiattach: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var group, others sync.WaitGroup
	for range busy {
		server := c.AddServer()
		others.Go(func() {
			for ctx.Err() == nil {
				if _, err := s.Attach(ctx, c.Add(cloud.Volume{Status: cloud.VolumeAvailable, SizeGiB: 1}), server); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	var mu sync.Mutex
	var order []int
	begun := time.Now()
	for n := range 10 {
		server := c.AddServer()
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), attacherTimeout)
			defer cancel()
			_, err := s.Attach(ctx, v.ID, server)
			mu.Lock()
			defer mu.Unlock()
			order = append(order, n)
			if took, most := time.Since(begun), time.Second+time.Duration(len(order))*(takes+time.Second); err != nil || took > most {
				t.Errorf("server %d: after %v of %v: %v", n, took, most, err)
			}
		})
		synctest.Wait()
	}
	group.Wait()
	stop()
	others.Wait()
	if !slices.IsSorted(order) {
		t.Errorf("in the order %v", order)
	}
}

// A hundred servers that want one volume, which hangs, leave workers to others.
func TestAVolumeThatManyServersWantLeavesRoomForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &broken{Cloud: cloudtest.New(), servers: map[string]bool{}, how: hangs, inFlight: map[string]int{}}
		s := volumes.New(c, volumes.Options{Cluster: cluster})
		shared := c.Add(cloud.Volume{Status: cloud.VolumeAvailable, SizeGiB: 1, Multiattach: true})
		var group sync.WaitGroup
		var mu sync.Mutex
		refused, long := 0, 0
		var servers []string
		for n := range 100 {
			servers = append(servers, c.AddServer())
			c.servers[servers[n]] = true
		}
		for _, server := range servers {
			group.Go(func() {
				begun := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), attacherTimeout)
				defer cancel()
				_, err := s.Attach(ctx, shared, server)
				mu.Lock()
				defer mu.Unlock()
				if errors.Is(err, volumes.ErrBusy) && time.Since(begun) < time.Second {
					refused++
				}
				if time.Since(begun) > 2*time.Minute {
					long++
				}
			})
			synctest.Wait()
		}
		group.Wait()
		if refused < 80 || long > 5 {
			t.Errorf("%d of 100 were sent back at once, and %d waited long", refused, long)
		}
	})
}
