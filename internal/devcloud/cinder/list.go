package cinder

import (
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

// maxPage is Cinder's osapi_max_limit: no page is longer.
const maxPage = 1000

// page is how much of a list is wanted.
type page struct {
	limit   int
	marker  string
	offset  int
	limited bool // the client asked for a limit
}

// selects reports whether a query key is a filter: the others choose the page.
func selects(key string) bool {
	switch key {
	case "limit", "marker", "offset", "sort", "sort_key", "sort_dir", "with_count", "all_tenants":
		return false
	}
	return true
}

func parsePage(query url.Values) (page, error) {
	p := page{limit: maxPage, marker: query.Get("marker")}
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return p, rest.BadRequest("limit param must be an integer")
		}
		if n < 0 {
			return p, rest.BadRequest("limit param must be positive")
		}
		if n > 0 || text == "0" {
			p.limit, p.limited = min(n, maxPage), true
		}
	}
	if text := query.Get("offset"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return p, rest.BadRequest("offset param must be an integer")
		}
		p.offset = n
	}
	return p, nil
}

// cut returns one page of a list and whether more may follow. missing makes the
// error for a marker that is not in the list.
func cut[T any](list []T, p page, id func(*T) string, missing func(marker string) error) ([]T, bool, error) {
	if p.marker != "" {
		i := slices.IndexFunc(list, func(t T) bool { return id(&t) == p.marker })
		if i < 0 {
			return nil, false, missing(p.marker)
		}
		list = list[i+1:]
	}
	list = list[min(p.offset, len(list)):]
	if p.limit == 0 {
		return nil, false, nil
	}
	if len(list) > p.limit {
		return list[:p.limit], true, nil
	}
	// Cinder offers a next page whenever this one is full.
	return list, p.limited && len(list) == p.limit || len(list) == maxPage, nil
}

// next is the link to the page after the one that ends with last.
func (r *request) next(last string) []link {
	query := r.URL.Query()
	query.Del("offset")
	query.Set("marker", last)
	return []link{{"next", r.Base() + r.URL.Path + "?" + query.Encode()}}
}

// filters returns the query keys that select, refusing unknown ones.
func filters(query url.Values, allowed ...string) (map[string]string, error) {
	found := map[string]string{}
	var unknown []string
	for key, values := range query {
		switch {
		case !selects(key):
		case slices.Contains(allowed, key):
			found[key] = values[len(values)-1]
		default:
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, rest.BadRequest("Invalid filters %s are found in query options.", strings.Join(unknown, ", "))
	}
	return found, nil
}

// metadataFilter reads the filter metadata={'k': 'v'}, which is a Python
// literal, or JSON. One that can't be read selects nothing.
func metadataFilter(text string) map[string]string {
	if text == "" {
		return nil
	}
	var m map[string]string
	if json.Unmarshal([]byte(text), &m) == nil {
		return m
	}
	m, err := pythonDict(text)
	if err != nil {
		return map[string]string{"": ""} // no key of metadata is empty
	}
	return m
}

// includes reports whether all that is wanted is there.
func includes(have, want map[string]string) bool {
	for k, v := range want {
		found := false
		for key, value := range have {
			found = found || state.SameText(key, k) && state.SameText(value, v)
		}
		if !found {
			return false
		}
	}
	return true
}

// sortOrder is one key of a sort.
type sortOrder struct {
	key        string
	descending bool
}

func sortOrders(query url.Values, allowed ...string) ([]sortOrder, error) {
	var orders []sortOrder
	if text := query.Get("sort"); text != "" {
		for _, part := range strings.Split(text, ",") {
			key, dir, _ := strings.Cut(strings.TrimSpace(part), ":")
			orders = append(orders, sortOrder{key, dir != "asc"})
			if dir != "" && dir != "asc" && dir != "desc" {
				return nil, rest.BadRequest("Invalid input received: Unknown sort direction, must be 'desc' or 'asc'.")
			}
		}
	} else if key := query.Get("sort_key"); key != "" {
		orders = append(orders, sortOrder{key, query.Get("sort_dir") != "asc"})
	} else if query.Get("sort_dir") == "asc" {
		orders = append(orders, sortOrder{"created_at", false})
	}
	for _, o := range orders {
		if !slices.Contains(allowed, o.key) {
			return nil, rest.BadRequest("Invalid input received: Invalid sort key")
		}
	}
	return orders, nil
}

// sortBy sorts a list that is newest first, by keys whose values compare as text.
func sortBy[T any](list []T, orders []sortOrder, value func(t *T, key string) string) {
	if len(orders) == 0 {
		return
	}
	type row struct {
		entry  T
		values []string
	}
	rows := make([]row, len(list))
	values := make([]string, len(list)*len(orders))
	for i := range list {
		rows[i] = row{list[i], values[i*len(orders) : (i+1)*len(orders)]}
		for k, o := range orders {
			rows[i].values[k] = value(&list[i], o.key)
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		for k, o := range orders {
			c := strings.Compare(a.values[k], b.values[k])
			if o.descending {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
	for i := range rows {
		list[i] = rows[i].entry
	}
}
