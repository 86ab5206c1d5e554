package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
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
	major, minor, err := utils.ParseMicroversion(s)
	return microversion(major*1000 + minor), err == nil && major > 0 && major < 10 && minor >= 0 && minor < 1000
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
	return e.newest != 0 && e.lowest <= v && v <= e.newest
}

// learn asks the endpoint for its microversions, unless they are known: once for all
// callers who need them at the same time.
func (e *endpoint) learn(ctx context.Context) error {
	_, err := e.asked.get(ctx, e.conn.closing, forever, func(ctx context.Context) (none struct{}, err error) {
		if e.lowest, e.newest, err = e.discover(ctx); err != nil {
			return none, e.conn.cfg.serviceError(e.name, err)
		}
		// What normal requests are sent with: the preferred one, or the newest below it.
		if !e.withoutMicroversion && e.lowest <= e.preferred {
			e.normal = min(e.newest, e.preferred)
		}
		return none, nil
	})
	return err
}

// learnSoon is learn for a caller who can do without: one service that hangs is no
// reason to wait with the other.
func (e *endpoint) learnSoon(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return e.learn(ctx)
}

// use sets the microversion of a request that takes at least v, to the normal one
// if that is enough, and reports whether the endpoint has one that does. What the
// endpoint has is not known while it does not answer; the request then fails for that.
func (r *call) use(ctx context.Context, v microversion) bool {
	if r.endpoint.learn(ctx) != nil {
		return false
	}
	switch e := r.endpoint; {
	case e.normal >= v:
		r.version = e.normal
	case e.has(v):
		r.version = v
	default:
		return false
	}
	return true
}

// negotiate chooses the microversion of a request to an endpoint that has told its own. Its
// ErrUnsupported says what is needed and what there is.
func (r *call) negotiate(ctx context.Context) error {
	switch e := r.endpoint; {
	case r.needs == 0 && r.version == 0:
		r.version = e.normal
	case r.needs == 0 || r.use(ctx, r.needs):
	case r.dares && e.newest == 0:
		r.version = r.needs
	default:
		found := "this cloud tells none"
		if e.newest != 0 {
			found = fmt.Sprintf("this cloud has %s to %s", e.lowest, e.newest)
		}
		return &cloud.Error{
			Kind: cloud.ErrUnsupported, Operation: r.operation, Resource: r.resource,
			Message: fmt.Sprintf("%s needs %s microversion %s, and %s", r.feature, e.name, r.needs, found),
		}
	}
	return nil
}

// documentPatience is how long an endpoint may take to tell its versions. Cinder and Nova
// read them from no database.
const documentPatience = 5 * time.Second

// discover finds out the microversions of an endpoint:
//
//	the version document    a list, asked for with   the endpoint has
//	                        the preferred one
//	has a range             -                        that range
//	has none, or there      the answer names it      what each such API has, up to that one
//	is none: HTML, 404,     406 with a range         that range
//	503, nothing in time    another answer           none that it tells
//	                        5xx, 429, none           is not known yet: an error
//
// An API without a range in its document does not exist: a gateway before it is at fault.
// Where the catalog's URL names no version, the list has to show that the driver's is there.
func (e *endpoint) discover(ctx context.Context) (lowest, newest microversion, err error) {
	if lowest, newest = e.document(ctx); newest != 0 {
		return lowest, newest, nil
	}
	accept := []int{http.StatusOK, http.StatusNotAcceptable}
	a, err := fetch(onErrand(ctx, versionsRequest), e.at(e.preferred), http.MethodGet, e.client.ServiceURL(e.list)+"?limit=1", &gophercloud.RequestOpts{OkCodes: accept})
	var status gophercloud.ErrUnexpectedResponseCode
	switch {
	case errors.As(err, &status) && status.Actual < 500 && status.Actual != http.StatusTooManyRequests && !e.completed:
		return 0, 0, nil
	case err != nil:
		return 0, 0, err
	case a.status == http.StatusOK && strings.HasSuffix(a.header.Get("OpenStack-API-Version"), " "+e.preferred.String()):
		return e.oldest, e.preferred, nil
	}
	if m := offered.FindSubmatch(a.body); m != nil {
		lowest, newest = e.between(string(m[1]), string(m[2]))
	}
	return lowest, newest, nil
}

// offered is what Cinder and Nova say in a 406.
var offered = regexp.MustCompile(`(?i)minimum is ([0-9.]+[0-9]) and maximum is ([0-9.]+[0-9])`)

// document reads the version document of an endpoint; the range is zero where there is no
// such document.
func (e *endpoint) document(ctx context.Context) (lowest, newest microversion) {
	u, err := url.Parse(e.client.Endpoint)
	if err != nil {
		return 0, 0
	}
	_, end := lastVersion(u.Path)
	u.Path, u.RawPath = u.Path[:end], ""
	ctx, cancel := context.WithTimeout(ctx, documentPatience)
	defer cancel()
	found, err := utils.GetServiceVersions(onErrand(ctx, versionsRequest), e.client.ProviderClient, gophercloud.NormalizeURL(u.String()), true)
	if err != nil {
		return 0, 0
	}
	for _, v := range found {
		if v.MinMajor == e.major && v.MaxMajor == e.major {
			return microversion(v.MinMajor*1000 + v.MinMinor), microversion(v.MaxMajor*1000 + v.MaxMinor)
		}
	}
	return 0, 0
}

// between reads a range of microversions, zero unless it is one of the API's major version.
func (e *endpoint) between(from, to string) (lowest, newest microversion) {
	lowest, okLow := parseMicroversion(from)
	newest, okHigh := parseMicroversion(to)
	if !okLow || !okHigh || lowest.major() != e.major || newest.major() != e.major {
		return 0, 0
	}
	return lowest, newest
}
