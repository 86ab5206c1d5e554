package controller

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// ListVolumes returns the volumes of all clouds and where each is published.
// With max_entries a page is one page of Cinder's.
func (s *Server) ListVolumes(ctx context.Context, req *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	limit := int(req.GetMaxEntries())
	if limit < 0 {
		return nil, status.Errorf(codes.InvalidArgument, "max_entries %d is negative", limit)
	}
	at, err := s.parsePosition(req.GetStartingToken())
	if err != nil {
		return nil, err
	}
	resp := &csi.ListVolumesResponse{}
	for {
		page := cloud.Page{Limit: limit, Marker: at.marker}
		found, next, err := s.cfg.Clouds[at.cloud].List(ctx, page)
		if err != nil {
			return nil, statusOfPage(err, at.token())
		}
		for i := range found {
			resp.Entries = append(resp.Entries, &csi.ListVolumesResponse_Entry{
				Volume: s.existing(&found[i]),
				Status: &csi.ListVolumesResponse_VolumeStatus{PublishedNodeIds: publishedNodes(&found[i])},
			})
		}
		var more bool
		at, more = s.following(at, next)
		switch {
		case !more:
			return resp, nil
		case limit > 0 && len(resp.Entries) > 0:
			resp.NextToken = at.token()
			return resp, nil
		}
	}
}
