package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// link is how Cinder names the next page.
type link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// filters collects the parameters of a list; empty values select everything.
func filters(page cloud.Page, pairs ...string) url.Values {
	query := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			query.Set(pairs[i], pairs[i+1])
		}
	}
	if page.Limit > 0 {
		query.Set("limit", strconv.Itoa(page.Limit))
	}
	if page.Marker != "" {
		query.Set("marker", page.Marker)
	}
	return query
}

// list sends r and returns the entries under key with the marker of the next
// page. An answer without the key is an error and not an empty list: what is
// not listed would be taken for gone.
func list[T any](ctx context.Context, c *Client, r call, key string, page cloud.Page) ([]T, string, error) {
	var answer map[string]json.RawMessage
	r.answer, r.accept = &answer, []int{http.StatusOK}
	if err := c.do(ctx, r); err != nil {
		return nil, "", err
	}
	var entries []T
	if err := json.Unmarshal(answer[key], &entries); err != nil || entries == nil {
		return nil, "", r.unexpected("the answer holds no list of %s", key)
	}
	var links []link
	if text, ok := answer[key+"_links"]; ok {
		if err := json.Unmarshal(text, &links); err != nil {
			return nil, "", r.unexpected("the answer holds no link to the next page: %w", err)
		}
	}
	next, err := r.nextMarker(links, page)
	return entries, next, err
}

// nextMarker finds the marker in the link to the next page. A link that leads
// back to the page it is on is an error, or the list would never end.
func (r call) nextMarker(links []link, page cloud.Page) (string, error) {
	for _, l := range links {
		if l.Rel != "next" {
			continue
		}
		u, err := url.Parse(l.Href)
		if err != nil {
			return "", r.unexpected("the link to the next page is not a URL")
		}
		marker := u.Query().Get("marker")
		if marker == "" || marker == page.Marker {
			return "", r.unexpected("the link to the next page leads to marker %q, from %q", marker, page.Marker)
		}
		return marker, nil
	}
	return "", nil
}

// placed is an entry of a stable list, which tells where it stands.
type placed interface {
	place() (id string, created time.Time)
}

// stable is the order of a stable list.
const stable = "created_at:desc,id:desc"

// listFrom is list for a page that may be of a stable list, and may begin at a
// marker that is gone: its place is found again then by when it was created,
// where the page tells. resume has the last word about that request.
func listFrom[T placed](ctx context.Context, c *Client, r call, key string, page cloud.Page, resume func(*call)) ([]T, string, error) {
	if page.Stable {
		r.query.Set("sort", stable)
	}
	listed, next, err := list[T](ctx, c, r, key, page)
	if !errors.Is(err, cloud.ErrNotFound) || !page.Stable || page.Marker == "" || page.MarkerCreated.IsZero() {
		return listed, next, err
	}
	r.query.Del("marker")
	if resume != nil {
		resume(&r)
	}
	// Pages before the place are read and dropped.
	for at := (cloud.Page{Limit: page.Limit}); ; {
		listed, next, err := list[T](ctx, c, r, key, at)
		if err != nil {
			return nil, "", err
		}
		after := slices.IndexFunc(listed, func(entry T) bool {
			id, created := entry.place()
			order := created.Compare(page.MarkerCreated)
			return order < 0 || order == 0 && id < page.Marker
		})
		if after >= 0 {
			return listed[after:], next, nil
		}
		if next == "" {
			return []T{}, "", nil
		}
		at.Marker = next
		r.query.Set("marker", next)
	}
}

// matches reports whether every wanted value that is not empty is met.
func matches(pairs ...string) bool {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" && pairs[i] != pairs[i+1] {
			return false
		}
	}
	return true
}
