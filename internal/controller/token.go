package controller

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// position is where a list goes on: after marker, in the cloud of that name.
// An empty marker is the beginning of that cloud.
type position struct {
	cloud, marker string
	// created is when the volume that marker names was created, which tells the
	// place when the volume is gone; zero where unknown.
	created time.Time
}

// token writes a position as "marker[@microseconds][:cloud]". The very
// beginning has none.
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

// page is the page that begins here.
func (p position) page(limit int) cloud.Page {
	return cloud.Page{Limit: limit, Stable: true, Marker: p.marker, MarkerCreated: p.created}
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
	place, name, _ := strings.Cut(token, ":")
	if !slices.Contains(names, name) {
		return position{}, status.Errorf(codes.Aborted, "starting token %q names cloud %q, which is not configured", token, name)
	}
	at := position{cloud: name}
	marker, created, timed := strings.Cut(place, "@")
	if marker != "" && (len(marker) != 36 || uuid.Validate(marker) != nil) {
		return position{}, badToken(token)
	}
	if at.marker = marker; timed {
		micros, err := strconv.ParseInt(created, 10, 64)
		if err != nil || marker == "" || strconv.FormatInt(micros, 10) != created {
			return position{}, badToken(token)
		}
		at.created = time.UnixMicro(micros).UTC()
	}
	return at, nil
}

func badToken(token string) error {
	return status.Errorf(codes.Aborted, "starting token %q is none of this driver's, start over", token)
}

// following returns the position after a page whose next marker is next, and
// whose last entry was created at the given time. When nothing follows, ok is
// false.
func (s *Server) following(at position, next string, created time.Time) (after position, ok bool) {
	if next != "" {
		return position{cloud: at.cloud, marker: next, created: created}, true
	}
	names := s.cloudNames()
	i := slices.Index(names, at.cloud) + 1
	if i == len(names) {
		return position{}, false
	}
	return position{cloud: names[i]}, true
}
