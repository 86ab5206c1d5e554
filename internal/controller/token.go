package controller

import (
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// position is where a list goes on: after marker, in the cloud of that name.
// An empty marker is the beginning of that cloud.
type position struct {
	cloud, marker string
}

// token writes a position as "marker[:cloud]". The very beginning has none.
func (p position) token() string {
	if p.cloud == "" {
		return p.marker
	}
	return p.marker + ":" + p.cloud
}

// parsePosition reads a token. An empty one is the beginning of the first cloud.
func (s *Server) parsePosition(token string) (position, error) {
	names := s.cloudNames()
	if token == "" {
		if len(names) == 0 {
			return position{}, status.Error(codes.FailedPrecondition, "no cloud is configured")
		}
		return position{cloud: names[0]}, nil
	}
	marker, cloud, _ := strings.Cut(token, ":")
	if !slices.Contains(names, cloud) {
		return position{}, status.Errorf(codes.Aborted, "starting token %q names cloud %q, which is not configured", token, cloud)
	}
	return position{cloud: cloud, marker: marker}, nil
}

// following returns the position after a page whose next marker is next. When
// nothing follows, ok is false.
func (s *Server) following(at position, next string) (after position, ok bool) {
	if next != "" {
		return position{cloud: at.cloud, marker: next}, true
	}
	names := s.cloudNames()
	i := slices.Index(names, at.cloud) + 1
	if i == len(names) {
		return position{}, false
	}
	return position{cloud: names[i]}, true
}
