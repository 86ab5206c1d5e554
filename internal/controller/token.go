package controller

import (
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
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
	token := placeToken(p.marker, p.created)
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
func (c clouds) parsePosition(token string) (position, error) {
	if token == "" {
		if len(c) == 0 {
			return position{}, status.Error(codes.FailedPrecondition, "no cloud is configured")
		}
		return position{cloud: c[0].Name}, nil
	}
	place, name, _ := strings.Cut(token, ":")
	if c.find(name) < 0 {
		return position{}, status.Errorf(codes.Aborted, "starting token %q names cloud %q, which is not configured or not in use any more: start over", token, name)
	}
	marker, created, ok := parsePlace(place)
	if !ok {
		return position{}, badToken(token)
	}
	return position{cloud: name, marker: marker, created: created}, nil
}

// placeToken writes a place in the list of one cloud: "marker[@microseconds]".
func placeToken(marker string, created time.Time) string {
	if created.IsZero() {
		return marker
	}
	return marker + "@" + strconv.FormatInt(created.UnixMicro(), 10)
}

// parsePlace reads what placeToken writes.
func parsePlace(place string) (marker string, created time.Time, ok bool) {
	marker, text, timed := strings.Cut(place, "@")
	if marker != "" && (len(marker) != 36 || uuid.Validate(marker) != nil) {
		return "", created, false
	}
	if timed {
		micros, err := strconv.ParseInt(text, 10, 64)
		if err != nil || marker == "" || strconv.FormatInt(micros, 10) != text {
			return "", created, false
		}
		created = time.UnixMicro(micros).UTC()
	}
	return marker, created, true
}

// snapshotPage reads a token of a list of snapshots: a place among them, or,
// after volumes.BackupMarker, among the backups that follow them.
func snapshotPage(token string, limit int) (cloud.Page, error) {
	place, backups := strings.CutPrefix(token, volumes.BackupMarker)
	marker, created, ok := parsePlace(place)
	if !ok {
		return cloud.Page{}, badToken(token)
	}
	if backups {
		marker = volumes.BackupMarker + marker
	}
	return cloud.Page{Limit: limit, Marker: marker, MarkerCreated: created}, nil
}

func badToken(token string) error {
	return status.Errorf(codes.Aborted, "starting token %q is none of this driver's, start over", token)
}

// following returns the position after a page whose next marker is next, and
// whose last entry was created at the given time. When nothing follows, ok is
// false.
func (c clouds) following(at position, next string, created time.Time) (after position, ok bool) {
	if next != "" {
		return position{cloud: at.cloud, marker: next, created: created}, true
	}
	name, ok := c.after(at.cloud)
	return position{cloud: name}, ok
}
