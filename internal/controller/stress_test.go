package controller_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

const (
	stressVolumes = 200
	stressServers = 20
	stressCallers = 50
	// stressLimit ends what hangs. All of it takes a quarter of a minute on a quiet machine.
	stressLimit = 5 * time.Minute
)

// stress is a crowd of callers that behave badly.
type stress struct {
	*world
	calls, cancelled, repeated atomic.Int64
}

func TestManyVolumesWithCallersThatRepeatAndCancelAtRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("STRESS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("STRESS_SEED: %v", err)
		}
	}
	t.Logf("STRESS_SEED=%d", seed)
	s := &stress{world: newWorld(t, devcloud.Fast(), func(cloud *devcloud.Config, _ *controller.Config) {
		for n := range stressServers {
			cloud.Servers = append(cloud.Servers, devcloud.Server{Name: fmt.Sprintf("stress%d", n)})
		}
	})}
	if err := s.admin.SetQuotas(t.Context(), map[string]int64{"volumes": 2 * stressVolumes, "gigabytes": 4 * stressVolumes}); err != nil {
		t.Fatal(err)
	}
	s.resetRequests()
	ctx, cancel := context.WithTimeout(t.Context(), stressLimit)
	defer cancel()
	start := time.Now()
	numbers := make(chan int)
	var group sync.WaitGroup
	for caller := range stressCallers {
		group.Go(func() {
			dice := rand.New(rand.NewPCG(seed, uint64(caller)))
			for n := range numbers {
				if err := s.live(ctx, dice, n); err != nil {
					t.Errorf("volume %d: %v", n, err)
				}
			}
		})
	}
	for n := range stressVolumes {
		numbers <- n
	}
	close(numbers)
	group.Wait()
	s.judge(time.Since(start))
}

// live takes a volume through its life, whatever happens to single calls.
func (s *stress) live(ctx context.Context, dice *rand.Rand, n int) error {
	var id string
	var mu sync.Mutex
	node := s.server(fmt.Sprintf("stress%d", n%stressServers))
	steps := []struct {
		name string
		call func(ctx context.Context) error
	}{
		{"create", func(ctx context.Context) error {
			resp, err := s.CreateVolume(ctx, request(fmt.Sprintf("pvc-%d", n), 1))
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if got := resp.GetVolume().GetVolumeId(); id != "" && id != got {
				return fmt.Errorf("two volumes of one name: %s and %s", id, got)
			}
			id = resp.GetVolume().GetVolumeId()
			return nil
		}},
		{"publish", func(ctx context.Context) error {
			_, err := s.ControllerPublishVolume(ctx, publishRequest(id, node))
			return err
		}},
		{"expand", func(ctx context.Context) error {
			resp, err := s.ControllerExpandVolume(ctx, expandRequest(id, 2))
			if err == nil && resp.GetCapacityBytes() != 2*gib {
				return fmt.Errorf("grown to %d bytes", resp.GetCapacityBytes())
			}
			return err
		}},
		{"unpublish", func(ctx context.Context) error {
			_, err := s.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: node})
			return err
		}},
		{"delete", func(ctx context.Context) error {
			_, err := s.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
			return err
		}},
	}
	for _, step := range steps {
		if err := s.insist(ctx, dice, step.call); err != nil {
			return fmt.Errorf("%s %s: %w", step.name, id, err)
		}
	}
	return nil
}

// insist calls until it succeeds, as a sidecar does: now and then it gives a
// call up early, makes it twice at once, or once more after its success.
func (s *stress) insist(ctx context.Context, dice *rand.Rand, call func(context.Context) error) error {
	for {
		err := s.once(ctx, dice, call)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("not done within %v: %w", stressLimit, err)
		case err != nil && !slices.Contains(again, status.Code(err)):
			return err
		case err == nil && dice.IntN(10) > 0:
			return nil
		}
		s.repeated.Add(1)
		time.Sleep(time.Duration(dice.IntN(30)) * time.Millisecond)
	}
}

func (s *stress) once(ctx context.Context, dice *rand.Rand, call func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if dice.IntN(5) == 0 {
		s.cancelled.Add(1)
		stop := time.AfterFunc(time.Duration(dice.IntN(60))*time.Millisecond, cancel)
		defer stop.Stop()
	}
	s.calls.Add(1)
	if dice.IntN(5) > 0 {
		return call(ctx)
	}
	s.calls.Add(1)
	twin := make(chan error, 1)
	go func() { twin <- call(ctx) }()
	err := call(ctx)
	if other := <-twin; other != nil {
		return other
	}
	return err
}

// judge looks at what is left and at what it has cost.
func (s *stress) judge(took time.Duration) {
	s.Helper()
	spent, left := s.requests(), s.dump()
	s.Logf("%d calls, %d of them cancelled, %d repeated; %d requests in %v: %v",
		s.calls.Load(), s.cancelled.Load(), s.repeated.Load(), spent.Total, took.Round(time.Millisecond), spent.Operations)
	if len(left.Volumes) != 0 {
		s.Errorf("%d volumes are left: %v", len(left.Volumes), left.Volumes)
	}
	for _, server := range left.Servers {
		if len(server.Disks) != 0 {
			s.Errorf("server %s still has %d disks", server.Name, len(server.Disks))
		}
	}
	if made := spent.Answers["volume.create"]["202"]; made != stressVolumes {
		s.Errorf("%d volumes were made", made)
	}
	// A call may cost two requests of its own, a wait its share of the polls:
	// one a second for the cloud and one for each server, and a few at once
	// after a quiet time.
	polls := (1 + stressServers) * (took.Seconds() + 3)
	if limit := 2*s.calls.Load() + int64(polls); spent.Total > limit {
		s.Errorf("%d requests, at most %d are allowed", spent.Total, limit)
	}
}
