package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

// load is a number of volumes that are taken through their lives, so many at a
// time: created, attached, grown where expand is set, detached, deleted.
type load struct {
	volumes, atOnce int
	expand          bool
	// old are volumes that exist already; where there are some, each life also
	// attaches and detaches one of them.
	old []string
}

// outcome is what a load has cost.
type outcome struct {
	requests admin.Requests
	took     time.Duration
	lags     lags
}

// lags are the times between the cloud being done and calls returning.
type lags struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *lags) note(lag time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, lag)
}

// quantile leaves out the first fifth, in which the driver learns how long this
// cloud takes.
func (l *lags) quantile(q float64) time.Duration {
	some := slices.Clone(l.all[len(l.all)/5:])
	slices.Sort(some)
	return some[int(q*float64(len(some)-1))].Round(time.Millisecond)
}

// run puts the load on the driver.
func (s *stack) run(l load) *outcome {
	s.Helper()
	s.must(s.admin.ResetRequests(s.Context()))
	o := &outcome{}
	start := time.Now()
	each(l.volumes, l.atOnce, func(n int) error {
		id, err := s.live(fmt.Sprintf("life-%d-%d", start.UnixNano(), n), s.servers[n%len(s.servers)], l.expand, &o.lags)
		if err != nil {
			return fmt.Errorf("volume %d, %s: %w", n, id, err)
		}
		if len(l.old) > 0 {
			return s.visit(l.old[n*len(l.old)/l.volumes], s.servers[n%len(s.servers)], &o.lags)
		}
		return nil
	}, s.Error)
	o.took, o.requests = time.Since(start), s.requests()
	return o
}

// live takes one volume through its life.
func (s *stack) live(name, server string, expand bool, l *lags) (id string, err error) {
	ctx, cancel := context.WithTimeout(s.Context(), 5*time.Minute)
	defer cancel()
	if id, err = s.create(ctx, name, nil); err != nil {
		return id, fmt.Errorf("create: %w", err)
	}
	l.note(s.ends.since(id))
	if err := s.publish(ctx, id, server); err != nil {
		return id, fmt.Errorf("publish: %w", err)
	}
	l.note(s.ends.since(id))
	if expand {
		if err := s.expand(ctx, id); err != nil {
			return id, fmt.Errorf("expand: %w", err)
		}
		l.note(s.ends.since(id))
	}
	if err := s.unpublish(ctx, id, server); err != nil {
		return id, fmt.Errorf("unpublish: %w", err)
	}
	l.note(s.ends.since(id))
	if err := s.remove(ctx, id); err != nil {
		return id, fmt.Errorf("delete: %w", err)
	}
	l.note(s.ends.since(id))
	return id, nil
}

// visit attaches and detaches a volume that exists.
func (s *stack) visit(id, server string, l *lags) error {
	ctx, cancel := context.WithTimeout(s.Context(), 5*time.Minute)
	defer cancel()
	if err := s.publish(ctx, id, server); err != nil {
		return fmt.Errorf("publish old volume %s: %w", id, err)
	}
	l.note(s.ends.since(id))
	if err := s.unpublish(ctx, id, server); err != nil {
		return fmt.Errorf("unpublish old volume %s: %w", id, err)
	}
	l.note(s.ends.since(id))
	return nil
}

var capability = &csi.VolumeCapability{
	AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
	AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
}

func (s *stack) create(ctx context.Context, name string, from *csi.VolumeContentSource) (string, error) {
	resp, err := s.driver.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: gib},
		VolumeCapabilities: []*csi.VolumeCapability{capability}, VolumeContentSource: from,
	})
	return resp.GetVolume().GetVolumeId(), err
}

func (s *stack) publish(ctx context.Context, id, server string) error {
	_, err := s.driver.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: id, NodeId: server, VolumeCapability: capability})
	return err
}

func (s *stack) unpublish(ctx context.Context, id, server string) error {
	_, err := s.driver.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: server})
	return err
}

func (s *stack) expand(ctx context.Context, id string) error {
	_, err := s.driver.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: 2 * gib}})
	return err
}

func (s *stack) remove(ctx context.Context, id string) error {
	_, err := s.driver.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
	return err
}

// listAll reads all pages and returns the number of volumes on them.
func (s *stack) listAll() (n int) {
	s.Helper()
	for token := ""; ; {
		page, err := s.driver.ListVolumes(s.Context(), &csi.ListVolumesRequest{StartingToken: token})
		s.must(err)
		n += len(page.GetEntries())
		if token = page.GetNextToken(); token == "" {
			return n
		}
	}
}

func (s *stack) snapshot(ctx context.Context, name, volumeID string) (string, error) {
	resp, err := s.driver.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volumeID})
	return resp.GetSnapshot().GetSnapshotId(), err
}
