package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
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

// entry is one of a list.
type entry interface {
	// key returns the id, or what else the entry is known by.
	key() string
}

// thing is an entry that is asked for by its id, too.
type thing[C any] interface {
	entry
	cloud() C
	// lacks names what is missing in an answer about it.
	lacks() string
}

// dated is an entry of a list that may be a stable one.
type dated interface {
	entry
	created() time.Time
}

// one sends r and returns the thing under key, and get checks that it is the wanted one
// and whole.
func one[T thing[C], C any](ctx context.Context, c *Client, r call, key string) (t T, err error) {
	var answer map[string]json.RawMessage
	r.answer = &answer
	if err := c.do(ctx, r); err != nil {
		return t, err
	}
	if err := json.Unmarshal(answer[key], &t); err != nil {
		return t, r.unexpected("the answer holds no %s that can be read: %w", key, err)
	}
	if t.key() == "" {
		return t, r.unexpected("the answer names no %s", key)
	}
	return t, nil
}

func get[T thing[C], C any](ctx context.Context, c *Client, r call, key string) (*C, error) {
	t, err := one[T](ctx, c, r, key)
	if err != nil {
		return nil, err
	}
	if !sameID(t.key(), r.ids[0]) {
		return nil, r.unexpected("the answer is about %s %q", key, t.key())
	}
	if lacking := t.lacks(); lacking != "" {
		return nil, r.unexpected("the answer tells no %s of the %s", lacking, key)
	}
	found := t.cloud()
	return &found, nil
}

// list sends r and returns the entries under key with the marker of the next
// page. An answer without the key is an error and not an empty list: what is
// not listed would be taken for gone. An entry that can't be read as a whole has what
// can be, and is left out where that is not enough to know it by.
func list[T entry](ctx context.Context, c *Client, r call, key string, page cloud.Page) ([]T, string, error) {
	var answer map[string]json.RawMessage
	r.answer = &answer
	if err := c.do(ctx, r); err != nil {
		return nil, "", err
	}
	var listed []json.RawMessage
	if err := json.Unmarshal(answer[key], &listed); err != nil || listed == nil {
		return nil, "", r.unexpected("the answer holds no list of %s", key)
	}
	entries := make([]T, 0, len(listed))
	for _, text := range listed {
		var one T
		err := json.Unmarshal(text, &one)
		if err != nil || one.key() == "" {
			c.logUnreadable(ctx, key, one.key(), err)
		}
		if one.key() != "" {
			entries = append(entries, one)
		}
	}
	var links []link
	if text, ok := answer[key+"_links"]; ok {
		if err := json.Unmarshal(text, &links); err != nil {
			return nil, "", r.unexpected("the answer holds no link to the next page: %w", err)
		}
	}
	next, err := r.nextMarker(links, page)
	if full := page.Limit > 0 && len(listed) >= page.Limit; page.Recent && next == "" && (full || len(entries) < len(listed)) {
		next = more
	}
	return entries, next, err
}

// more is the marker of a page that the cloud does not name: one may follow a page that
// is full, or holds what can't be read.
const more = "?"

// logUnreadable logs an entry of a list that can't be read, once.
func (c *Client) logUnreadable(ctx context.Context, key, id string, err error) {
	const most = 1000
	c.mu.Lock()
	defer c.mu.Unlock()
	if name := key + " " + id; !c.unreadable[name] && len(c.unreadable) < most {
		c.unreadable[name] = true
		logging.From(ctx).Warn("the cloud lists an entry that can't be read as a whole", zap.String("cloud", c.opts.Cloud), zap.String("list", key), zap.String("entry", id), zap.Error(err))
	}
}

// all is list for all pages.
func all[T entry](ctx context.Context, c *Client, r call, key string, pairs ...string) (entries []T, err error) {
	for page := (cloud.Page{}); ; {
		r.query = filters(page, pairs...)
		listed, next, err := list[T](ctx, c, r, key, page)
		if err != nil {
			return nil, err
		}
		if entries = append(entries, listed...); next == "" {
			return entries, nil
		}
		page.Marker = next
	}
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

// stable is the order of a stable list.
const stable = "created_at:desc,id:desc"

// listFrom is list for a page that may be of a stable list, and may begin at a
// marker that is gone: its place is found again then by when it was created,
// where the page tells. resume has the last word about that request. What does not
// match is left out.
func listFrom[T interface {
	thing[C]
	dated
}, C any](ctx context.Context, c *Client, r call, key string, page cloud.Page, matches func(T) bool, resume func(*call)) ([]C, string, error) {
	listed, next, err := resumed[T](ctx, c, r, key, page, resume)
	if err != nil {
		return nil, "", err
	}
	found := make([]C, 0, len(listed))
	for _, t := range listed {
		if matches(t) {
			found = append(found, t.cloud())
		}
	}
	return found, next, nil
}

func resumed[T dated](ctx context.Context, c *Client, r call, key string, page cloud.Page, resume func(*call)) ([]T, string, error) {
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
			order := entry.created().Compare(page.MarkerCreated)
			return order < 0 || order == 0 && entry.key() < page.Marker
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
