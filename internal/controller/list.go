package controller

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

// mostEntries is about how many entries one answer holds where the caller does
// not limit them, so that neither memory nor the size of a message grows with
// their number: as many as Cinder puts on a page.
const mostEntries = 1000

// position is where a list goes on: after marker, in the cloud of that name.
// An empty marker is the beginning of that cloud.
type position struct {
	cloud, marker string
	// created is when what the marker names was created, which tells the place when
	// that is gone; zero where unknown.
	created time.Time
}

// tokens are positions as text: "[backup/][marker[@microseconds]][:cloud]". Backups
// follow the snapshots of a cloud.
var tokens = regexp.MustCompile(`^(` + volumes.BackupMarker + `)?(?:([0-9a-fA-F-]{36})(?:@(0|-?[1-9][0-9]{0,17}))?)?(?::((?s:.+)))?$`)

// token is the text of a position. The very beginning has none.
func (p position) token() string {
	token := p.marker
	if !p.created.IsZero() {
		token += "@" + strconv.FormatInt(p.created.UnixMicro(), 10)
	}
	if p.cloud != "" {
		token += ":" + p.cloud
	}
	return token
}

// parseToken reads a token, or returns Aborted, upon which the caller starts over.
func parseToken(token string) (p position, err error) {
	parts := tokens.FindStringSubmatch(token)
	if parts == nil {
		return p, status.Errorf(codes.Aborted, "starting token %q is none of this driver's, start over", token)
	}
	p.marker, p.cloud = parts[1]+parts[2], parts[4]
	if micros, err := strconv.ParseInt(parts[3], 10, 64); err == nil {
		p.created = time.UnixMicro(micros).UTC()
	}
	return p, nil
}

// page is the page that begins here.
func (p position) page(limit int) cloud.Page {
	return cloud.Page{Limit: limit, Stable: true, Marker: p.marker, MarkerCreated: p.created}
}

// full reports whether an answer with n entries is to end before the list does.
func full(n, limit int) bool { return limit > 0 && n > 0 || n >= mostEntries }

// ListVolumes returns the volumes of all clouds and where each is published,
// page by page: a page of Cinder's is read, answered and forgotten. A cloud that does
// not answer is an error and never left out: what is not in the list passes for not
// attached.
func (s *Server) ListVolumes(ctx context.Context, req *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	from, err := parseToken(req.GetStartingToken())
	if err != nil {
		return nil, err
	}
	limit := int(req.GetMaxEntries())
	if limit < 0 {
		return nil, status.Errorf(codes.InvalidArgument, "max_entries %d is negative", limit)
	}
	all, release := s.cfg.Source.All(ctx)
	defer release()
	i := 0
	if req.GetStartingToken() != "" {
		i = slices.IndexFunc(all, func(one Cloud) bool { return one.Name == from.cloud })
	}
	switch {
	case len(all) == 0:
		return nil, status.Error(codes.FailedPrecondition, "no cloud is configured")
	case i < 0:
		return nil, status.Errorf(codes.Aborted, "starting token %q names cloud %q, which is not configured or not in use any more: start over",
			req.GetStartingToken(), from.cloud)
	}
	resp := &csi.ListVolumesResponse{}
	for {
		if all[i].Err != nil {
			return nil, statusOf(all[i].Err)
		}
		found, next, err := all[i].Service.List(ctx, from.page(limit))
		if err != nil {
			return nil, statusOfPage(err, from.token())
		}
		for j := range found {
			resp.Entries = append(resp.Entries, &csi.ListVolumesResponse_Entry{
				Volume: s.existing(&found[j]),
				Status: &csi.ListVolumesResponse_VolumeStatus{PublishedNodeIds: publishedNodes(&found[j])},
			})
		}
		switch {
		case next != "":
			from = position{cloud: all[i].Name, marker: next}
			if n := len(found); n > 0 && found[n-1].ID == next {
				from.created = found[n-1].CreatedAt
			}
		case i+1 < len(all):
			i++
			from = position{cloud: all[i].Name}
		default:
			return resp, nil
		}
		if full(len(resp.Entries), limit) {
			resp.NextToken = from.token()
			return resp, nil
		}
	}
}

// ListSnapshots returns one snapshot, those of one volume, or all, of the cloud
// that the secret names; backups count as snapshots.
func (s *Server) ListSnapshots(ctx context.Context, req *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	from, err := parseToken(req.GetStartingToken())
	if err != nil && req.GetSnapshotId() == "" {
		return nil, err
	}
	limit := int(req.GetMaxEntries())
	if limit < 0 {
		return nil, status.Errorf(codes.InvalidArgument, "max_entries %d is negative", limit)
	}
	return inCloud(ctx, s, req, func(service *volumes.Service) (*csi.ListSnapshotsResponse, error) {
		if req.GetSnapshotId() != "" {
			return oneSnapshot(ctx, service, req)
		}
		resp := &csi.ListSnapshotsResponse{}
		for {
			found, next, err := service.ListSnapshots(ctx, req.GetSourceVolumeId(), from.page(limit))
			if err != nil {
				return nil, statusOfPage(err, from.token())
			}
			for i := range found {
				resp.Entries = append(resp.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: describe(&found[i])})
			}
			if next.Marker == "" {
				return resp, nil
			}
			from = position{marker: next.Marker, created: next.MarkerCreated}
			if full(len(resp.Entries), limit) {
				resp.NextToken = from.token()
				return resp, nil
			}
		}
	})
}

// oneSnapshot answers for a snapshot's id: what does not exist is no error here.
func oneSnapshot(ctx context.Context, service *volumes.Service, req *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	resp := &csi.ListSnapshotsResponse{}
	snapshot, err := service.GetSnapshot(ctx, req.GetSnapshotId())
	switch {
	case errors.Is(err, cloud.ErrNotFound):
	case err != nil:
		return nil, err
	case req.GetSourceVolumeId() == "" || strings.EqualFold(req.GetSourceVolumeId(), snapshot.VolumeID):
		resp.Entries = []*csi.ListSnapshotsResponse_Entry{{Snapshot: describe(snapshot)}}
	}
	return resp, nil
}
