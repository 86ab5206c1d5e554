package controller

import (
	"context"
	"errors"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// ListSnapshots returns one snapshot, those of one volume, or all, of the cloud
// that the secret names; backups count as snapshots.
func (s *Server) ListSnapshots(ctx context.Context, req *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	limit := int(req.GetMaxEntries())
	if limit < 0 {
		return nil, status.Errorf(codes.InvalidArgument, "max_entries %d is negative", limit)
	}
	service, release, err := s.cloud(ctx, req.GetSecrets())
	if err != nil {
		return nil, err
	}
	defer release()
	if req.GetSnapshotId() != "" {
		return oneSnapshot(ctx, service, req)
	}
	page, err := snapshotPage(req.GetStartingToken(), limit)
	if err != nil {
		return nil, err
	}
	resp := &csi.ListSnapshotsResponse{}
	for {
		found, next, err := service.ListSnapshots(ctx, req.GetSourceVolumeId(), page)
		if err != nil {
			return nil, statusOfPage(err, placeToken(page.Marker, page.MarkerCreated))
		}
		for i := range found {
			resp.Entries = append(resp.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: describe(&found[i])})
		}
		switch {
		case next.Marker == "":
			return resp, nil
		case limit > 0 && len(resp.Entries) > 0, len(resp.Entries) >= mostEntries:
			resp.NextToken = placeToken(next.Marker, next.MarkerCreated)
			return resp, nil
		}
		page = next
	}
}

// oneSnapshot answers for a snapshot's id: what does not exist is no error here.
func oneSnapshot(ctx context.Context, service *volumes.Service, req *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	resp := &csi.ListSnapshotsResponse{}
	snapshot, err := service.GetSnapshot(ctx, req.GetSnapshotId())
	switch {
	case errors.Is(err, cloud.ErrNotFound):
		return resp, nil
	case err != nil:
		return nil, statusOf(err)
	case req.GetSourceVolumeId() == "" || strings.EqualFold(req.GetSourceVolumeId(), snapshot.VolumeID):
		resp.Entries = []*csi.ListSnapshotsResponse_Entry{{Snapshot: describe(snapshot)}}
	}
	return resp, nil
}
