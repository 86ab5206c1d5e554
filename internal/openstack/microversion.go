package openstack

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/utils"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// microversion is a version of Cinder's or Nova's API, as 1000 × major + minor;
// 0 stands for none.
type microversion int

// What the driver's features need of Cinder.
const (
	cinderMessages       microversion = 3_003
	cinderMessageFilters microversion = 3_005
	cinderAttachments    microversion = 3_027
	cinderExtendInUse    microversion = 3_042
	cinderBackupMetadata microversion = 3_043
	cinderFromBackup     microversion = 3_047
	cinderBackupZone     microversion = 3_051
	cinderTimeFilter     microversion = 3_060
	cinderForceless      microversion = 3_066
)

const (
	// cinderPreferred is asked for wherever the cloud has it: the last one
	// that changes an answer the driver reads or a request it sends. Newer
	// ones could change an answer in ways that nobody has tried.
	cinderPreferred = cinderForceless
	// novaPreferred is the first one that can attach a multiattach volume.
	// 2.71 makes Nova collect more about a server, 2.89 takes a field away,
	// and 2.101 answers an attachment without a body: none is of use here.
	novaPreferred microversion = 2_060
)

func parseMicroversion(s string) (microversion, bool) {
	before, after, ok := strings.Cut(s, ".")
	if !ok {
		return 0, false
	}
	major, err := strconv.Atoi(before)
	if err != nil || major < 1 || major > 9 {
		return 0, false
	}
	minor, err := strconv.Atoi(after)
	if err != nil || minor < 0 || minor > 999 {
		return 0, false
	}
	return microversion(major*1000 + minor), true
}

func (v microversion) major() int { return int(v) / 1000 }

// String returns what the header takes; it is empty for none.
func (v microversion) String() string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%d.%d", v/1000, v%1000)
}

// has reports whether the endpoint offers v.
func (e *endpoint) has(v microversion) bool {
	return e.newest != 0 && e.oldest <= v && v <= e.newest
}

// learn asks the endpoint for its microversions, unless they are known: once for all
// callers who need them at the same time.
func (e *endpoint) learn(ctx context.Context) error {
	if e.learned.Load() {
		return nil
	}
	_, err := await[struct{}](ctx, begin(ctx, e.conn.session.closing, &e.flight, func(ctx context.Context) (none struct{}, err error) {
		if e.learned.Load() {
			return none, nil
		}
		if err := e.discover(ctx); err != nil {
			return none, e.conn.cfg.serviceError(e.service, err)
		}
		// What plain requests are sent with: the preferred one, or the newest below it.
		switch {
		case e.has(e.preferred):
			e.plain = e.preferred
		case e.newest < e.preferred:
			e.plain = e.newest
		}
		e.learned.Store(true)
		return none, nil
	}))
	return err
}

// learnSoon is learn for a caller who can do without: one service that hangs is no
// reason to wait with the other.
func (e *endpoint) learnSoon(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return e.learn(ctx)
}

// use sets the microversion of a request that takes at least v, to the plain one
// if that is enough, and reports whether the endpoint has one that does. What the
// endpoint has is not known while it does not answer; the request then fails for that.
func (r *call) use(ctx context.Context, v microversion) bool {
	if r.endpoint.learn(ctx) != nil {
		return false
	}
	switch e := r.endpoint; {
	case e.plain >= v:
		r.version = e.plain
	case e.has(v):
		r.version = v
	default:
		return false
	}
	return true
}

// need is use with an ErrUnsupported that says what is needed and what there is.
func (r *call) need(ctx context.Context, v microversion, feature string) error {
	if err := r.endpoint.learn(ctx); err != nil {
		return r.failure(err)
	}
	if r.use(ctx, v) {
		return nil
	}
	found := "this cloud offers none"
	if r.endpoint.newest != 0 {
		found = fmt.Sprintf("this cloud has %s to %s", r.endpoint.oldest, r.endpoint.newest)
	}
	return &cloud.Error{
		Kind: cloud.ErrUnsupported, Operation: r.operation, Resource: r.resource,
		Message: fmt.Sprintf("%s needs %s microversion %s, and %s", feature, r.endpoint.service, v, found),
	}
}

// discover asks the endpoint for its microversions. An endpoint that does not
// know the question has none, which is how old ones and some gateways are; a
// cloud that has trouble answering is an error.
func (e *endpoint) discover(ctx context.Context) error {
	base, err := utils.BaseVersionedEndpoint(e.client.Endpoint)
	if err != nil {
		return err
	}
	a, err := fetch(ctx, &e.client, http.MethodGet, gophercloud.NormalizeURL(base), &gophercloud.RequestOpts{
		OkCodes: []int{http.StatusOK, http.StatusMultipleChoices},
	})
	var status gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &status) && status.Actual < 500 && status.Actual != http.StatusTooManyRequests {
		return nil
	}
	if err != nil {
		return err
	}
	e.oldest, e.newest = supported(a.body, novaOrCinder(e.client.Type))
	return nil
}

func novaOrCinder(serviceType string) int {
	if serviceType == computeType {
		return 2
	}
	return 3
}

// supported reads a version document, of one version or of several, and
// returns the range of the given major version.
func supported(body []byte, major int) (oldest, newest microversion) {
	type version struct {
		ID         string `json:"id"`
		Version    string `json:"version"`
		MaxVersion string `json:"max_version"`
		MinVersion string `json:"min_version"`
	}
	var document struct {
		Version  version   `json:"version"`
		Versions []version `json:"versions"`
	}
	if json.Unmarshal(body, &document) != nil {
		return oldest, newest
	}
	for _, v := range append(document.Versions, document.Version) {
		low, okLow := parseMicroversion(v.MinVersion)
		high, okHigh := parseMicroversion(cmp.Or(v.Version, v.MaxVersion))
		if okLow && okHigh && low.major() == major && high.major() == major {
			oldest, newest = low, high
		}
	}
	return oldest, newest
}
