package controller

import (
	"context"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// mostEntries is about how many volumes one answer holds where the caller does
// not limit them, so that neither memory nor the size of a message grows with
// their number: as many as Cinder puts on a page.
const mostEntries = 1000

// ListVolumes returns the volumes of all clouds and where each is published,
// page by page: a page of Cinder's is read, answered and forgotten. A cloud that does
// not answer is an error and never left out: what is not in the list passes for not
// attached.
func (s *Server) ListVolumes(ctx context.Context, req *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	limit := int(req.GetMaxEntries())
	if limit < 0 {
		return nil, status.Errorf(codes.InvalidArgument, "max_entries %d is negative", limit)
	}
	known, release := s.cfg.Source.All(ctx)
	defer release()
	all := clouds(known)
	at, err := all.parsePosition(req.GetStartingToken())
	if err != nil {
		return nil, err
	}
	resp := &csi.ListVolumesResponse{}
	for {
		here := all[all.find(at.cloud)]
		if here.Err != nil {
			return nil, statusOf(here.Err)
		}
		found, next, err := here.Service.List(ctx, at.page(limit))
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
		at, more = all.following(at, next, lastCreated(found, next))
		switch {
		case !more:
			return resp, nil
		case limit > 0 && len(resp.Entries) > 0, len(resp.Entries) >= mostEntries:
			resp.NextToken = at.token()
			return resp, nil
		}
	}
}

// lastCreated returns when the volume that the next page comes after was
// created, zero where the page does not tell.
func lastCreated(page []cloud.Volume, next string) time.Time {
	if n := len(page); n > 0 && page[n-1].ID == next {
		return page[n-1].CreatedAt
	}
	return time.Time{}
}
