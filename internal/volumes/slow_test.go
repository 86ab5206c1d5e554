package volumes_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
	"github.com/cinder-csi/cinder-csi/internal/volumes/cloudtest"
)

// serial is a cloud whose nova-compute works on one attachment of a server at a time:
// the request for the next one is not answered before that.
type serial struct {
	*cloudtest.Cloud
	mu    sync.Mutex
	turns map[string]chan struct{}
}

// inTurn makes a request when the server is free. What it accepts keeps it busy.
func (s *serial) inTurn(serverID string, takes time.Duration, request func() error) error {
	s.mu.Lock()
	if s.turns[serverID] == nil {
		s.turns[serverID] = make(chan struct{}, 1)
	}
	turn := s.turns[serverID]
	s.mu.Unlock()
	turn <- struct{}{}
	err := request()
	if err != nil {
		takes = 0
	}
	time.AfterFunc(takes, func() { <-turn })
	return err
}

func (s *serial) AttachVolume(ctx context.Context, serverID, volumeID string) (entry *cloud.ServerAttachment, err error) {
	err = s.inTurn(serverID, s.Latency.Attach, func() error {
		entry, err = s.Cloud.AttachVolume(context.WithoutCancel(ctx), serverID, volumeID)
		return err
	})
	return entry, err
}

func (s *serial) DetachVolume(ctx context.Context, serverID, volumeID string) error {
	return s.inTurn(serverID, s.Latency.Detach, func() error {
		return s.Cloud.DetachVolume(context.WithoutCancel(ctx), serverID, volumeID)
	})
}

// A server that is slow, and not broken, gets all of its volumes within the time that the
// cloud needs and a few of the pauses of the caller.
func TestASlowServerGetsItsVolumes(t *testing.T) {
	for _, c := range []struct {
		volumes int
		takes   time.Duration
		most    time.Duration
	}{
		{1, 40 * time.Second, 80 * time.Second},
		{1, time.Minute, 2 * time.Minute},
		{1, 100 * time.Second, 200 * time.Second},
		{10, 15 * time.Second, 6 * time.Minute},
		{10, 40 * time.Second, 25 * time.Minute},
		{25, 5 * time.Second, 4 * time.Minute},
	} {
		for _, detach := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d volumes, each %v, detaching: %t", c.volumes, c.takes, detach), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					slow := &serial{Cloud: cloudtest.New(), turns: map[string]chan struct{}{}}
					slow.Latency = cloudtest.Latency{Request: 10 * time.Millisecond, Attach: c.takes, Detach: c.takes}
					s := volumes.New(slow, volumes.Options{Cluster: cluster})
					server := slow.AddServer()
					ctx, cancel := context.WithCancel(t.Context())
					a := &attacher{due: make(chan *item, 1000)}
					for range c.volumes {
						v := cloud.Volume{Status: cloud.VolumeAvailable, SizeGiB: 1}
						if detach {
							v.Status, v.Attachments = cloud.VolumeInUse, []cloud.Attachment{{ServerID: server}}
						}
						a.due <- &item{volume: slow.Add(v), server: server, wanted: time.Now(), pause: time.Second}
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
					time.Sleep(time.Hour)
					cancel()
					group.Wait()
					if len(a.lags) != c.volumes {
						t.Fatalf("%d of %d done", len(a.lags), c.volumes)
					}
					t.Logf("done after %v", a.lags)
					if worst := a.lags[c.volumes-1]; worst > c.most {
						t.Errorf("the last was done after %v of %v", worst.Round(time.Second), c.most)
					}
				})
			})
		}
	}
}
