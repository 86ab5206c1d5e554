package rest

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Microversion is a version of an API within its major one.
type Microversion struct{ Major, Minor int }

// ParseMicroversion reads "3.70".
func ParseMicroversion(s string) (Microversion, error) {
	major, minor, ok := strings.Cut(s, ".")
	if ok {
		a, errA := strconv.Atoi(major)
		b, errB := strconv.Atoi(minor)
		if errA == nil && errB == nil && a > 0 && b >= 0 {
			return Microversion{a, b}, nil
		}
	}
	return Microversion{}, fmt.Errorf("%q is no microversion", s)
}

// String writes "3.70".
func (v Microversion) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// AtLeast reports whether v is minor or newer within its major version.
func (v Microversion) AtLeast(minor int) bool { return v.Minor >= minor }

func (v Microversion) less(o Microversion) bool {
	return v.Major < o.Major || v.Major == o.Major && v.Minor < o.Minor
}

// ErrFormat tells that a request asks for a version that can't be read.
var ErrFormat = errors.New("no microversion")

// Names reports whether a request that asks for versions asks for one of that
// service.
func Names(h http.Header, service string) bool {
	asked := h.Values("OpenStack-API-Version")
	for _, value := range asked {
		for _, part := range strings.Split(value, ",") {
			if words := strings.Fields(part); len(words) == 2 && words[0] == service {
				return true
			}
		}
	}
	return len(asked) == 0
}

// Negotiate returns the version that a request asks of a service (as in
// "volume") whose versions are lowest to highest. Requests that ask for none
// get the lowest; one that is refused comes with the error. legacy names an
// older header, empty for none.
func Negotiate(h http.Header, service, legacy string, lowest, highest Microversion) (Microversion, error) {
	asked := ""
	for _, value := range h.Values("OpenStack-API-Version") {
		for _, part := range strings.Split(value, ",") {
			words := strings.Fields(part)
			if len(words) == 2 && words[0] == service {
				asked = words[1]
			}
		}
	}
	if asked == "" && legacy != "" {
		asked = strings.TrimSpace(h.Get(legacy))
	}
	switch asked {
	case "":
		return lowest, nil
	case "latest":
		return highest, nil
	}
	v, err := ParseMicroversion(asked)
	if err != nil {
		return lowest, errors.Join(ErrFormat, BadRequest("API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.", asked))
	}
	if v.less(lowest) || highest.less(v) {
		return v, Fail(http.StatusNotAcceptable, "Version %s is not supported by the API. Minimum is %s and maximum is %s.", v, lowest, highest)
	}
	return v, nil
}
