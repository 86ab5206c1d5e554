package contract

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// listRows are about lists: their order, filters and pages.
func listRows() []row {
	return []row{
		{"lists that are empty", func(p *probe) {
			for _, path := range []string{"/volumes", "/volumes/detail", "/snapshots", "/snapshots/detail", "/backups", "/backups/detail", "/attachments"} {
				p.Volume("66", http.MethodGet, path, nil)
			}
			p.Volume("66", http.MethodGet, "/messages?resource_uuid="+missing, nil)
		}},
		{"volumes are listed newest first, in pages, filtered", func(p *probe) {
			three(p, "volume", func(i int) string {
				return p.newVolume(fmt.Sprintf("v%d", i), object{"name": fmt.Sprintf("pvc-%d", i), "metadata": object{"cluster": fmt.Sprint(i % 2)}})
			})
			listed(p, "volume", "detail", []string{
				"", "?limit=2", "?limit=3", "?limit=4", "?limit=0", "?limit=-1", "?limit=x", "?marker=" + missing, "?marker=x", "?name=pvc-1", "?name=pvc", "?name=nothing", "?status=available", "?status=error",
				"?status=nonsense", "?sort=created_at:desc,id:desc", "?sort=updated_at:desc", "?sort=nonsense:desc", "?sort=name:asc", "?bogus=1", "?bogus=1&name=pvc-1",
				"?metadata=" + url.QueryEscape(`{"cluster": "1"}`), "?metadata=" + url.QueryEscape(`{"cluster": "9"}`), "?metadata=x", "?metadata=" + url.QueryEscape(`{}`),
				"?created_at=" + url.QueryEscape("lte:2000-01-01T00:00:00.000000"), "?created_at=" + url.QueryEscape("gte:2000-01-01T00:00:00.000000"),
				"?created_at=nonsense", "?with_count=true", "?availability_zone=nova", "?availability_zone=az2", "?limit=1&sort=name:asc", "?id=" + missing, "?volume_type_id=" + missing,
			})
			last := p.newVolume("v9", object{"name": "pvc-9"})
			pages(p, "volume", "/volumes/detail?limit=2&sort=created_at:desc,id:desc")
			p.volume("66", http.MethodDelete, "/volumes/"+last, nil)
			p.await("volume", last, "gone")
			p.Volume("66", http.MethodGet, "/volumes/detail?marker="+last, nil)
			p.Volume("59", http.MethodGet, "/volumes/detail?created_at="+url.QueryEscape("lte:2000-01-01T00:00:00"), nil, "volumes")
		}},
		{"an entry of each list", func(p *probe) {
			v := p.newVolume("volume", object{"name": "pvc"})
			p.newCopy("snapshot", "snapshot", v, object{"name": "s"})
			p.newCopy("backup", "backup", v, object{"name": "b"})
			p.attach(p.servers["node1"], v, "in-use/1")
			for _, path := range []string{"/volumes", "/volumes/detail", "/snapshots", "/snapshots/detail", "/backups", "/backups/detail", "/attachments?volume_id=" + v} {
				p.Volume("66", http.MethodGet, path, nil, free()...)
			}
			p.Volume("", http.MethodGet, "/volumes/detail", nil)
		}},
		{"snapshots are listed newest first, in pages, filtered", func(p *probe) {
			v := p.newVolume("volume", nil)
			w := p.newVolume("other volume", nil)
			three(p, "snapshot", func(i int) string {
				return p.newCopy("snapshot", fmt.Sprintf("s%d", i), v, object{"name": fmt.Sprintf("snap-%d", i)})
			})
			listed(p, "snapshot", "", []string{
				"", "?limit=2", "?limit=3", "?limit=4", "?limit=0", "?limit=x", "?marker=" + missing, "?marker=x", "?name=snap-1", "?name=nothing", "?volume_id=" + v, "?volume_id=" + w,
				"?volume_id=x", "?status=available", "?status=error", "?bogus=1", "?sort=created_at:desc", "?sort=created_at:desc,id:desc", "?with_count=true",
			})
			pages(p, "snapshot", "/snapshots?limit=2")
			p.Volume("29", http.MethodGet, "/snapshots?name=nothing", nil)
		}},
		{"backups are listed newest first, in pages, filtered", func(p *probe) {
			v := p.newVolume("volume", nil)
			three(p, "backup", func(i int) string {
				return p.newCopy("backup", fmt.Sprintf("b%d", i), v, object{"name": fmt.Sprintf("back-%d", i)})
			})
			listed(p, "backup", "detail", []string{
				"", "?limit=2", "?limit=3", "?limit=4", "?limit=x", "?marker=" + missing, "?name=back-1", "?name=nothing", "?volume_id=" + v, "?volume_id=" + missing,
				"?status=available", "?status=error", "?bogus=1", "?sort=created_at:desc", "?sort=created_at:desc,id:desc",
			})
			pages(p, "backup", "/backups/detail?limit=2")
		}},
		{"attachments are listed by volume", func(p *probe) {
			v := p.newVolume("volume", object{"volume_type": "multiattach"})
			w := p.newVolume("other volume", nil)
			p.attach(p.servers["node1"], v, "in-use/1")
			p.attach(p.servers["node2"], v, "in-use/2")
			p.nextSecond() // for the one that is listed first
			p.attach(p.servers["node1"], w, "in-use/1")
			for _, query := range []string{"", "?volume_id=" + v, "?volume_id=" + missing, "?limit=1", "?limit=2&volume_id=" + v, "?marker=" + missing, "?bogus=1", "?instance_id=" + p.servers["node1"]} {
				got := p.volume("66", http.MethodGet, "/attachments"+query, nil)
				var of []string
				for _, a := range got.list("attachments") {
					of = append(of, p.neutral(fmt.Sprintf("%v on %v %v", a["volume_id"], a["instance"], a["status"])))
				}
				slices.Sort(of) // two of the same second have no order
				p.note("attachments%s: %d %s %s, links: %s", query, got.Status, strings.Join(of, "; "), got.text("badRequest", "message")+got.text("itemNotFound", "message"), p.links(got, "attachments"))
			}
			p.Volume("66", http.MethodGet, "/attachments/"+missing, nil)
			p.Volume("66", http.MethodDelete, "/attachments/"+missing, nil)
			p.Volume("66", http.MethodDelete, "/attachments/x", nil)
			id := fmt.Sprint(p.volume("66", http.MethodGet, "/attachments?volume_id="+w, nil).list("attachments")[0]["id"])
			p.call(id, "attachment")
			p.Volume("66", http.MethodGet, "/attachments/"+id, nil, "connection_info", "mountpoint")
			p.Volume("66", http.MethodDelete, "/attachments/"+id, nil)
		}},
	}
}

// three makes three things, of which no two are of the same second: that is as
// fine as the services order by.
func three(p *probe, _ string, one func(i int) string) {
	for i := range 3 {
		one(i)
		p.nextSecond()
	}
}

// listed writes down the names that lists hold, in their order.
func listed(p *probe, kind, detail string, queries []string) {
	for _, query := range queries {
		path := "/" + kind + "s"
		if detail != "" {
			path += "/" + detail
		}
		got := p.volume("66", http.MethodGet, path+query, nil)
		if got.Status != http.StatusOK {
			p.write(kind+"s"+query, got, nil)
			continue
		}
		var names []string
		for _, item := range got.list(kind + "s") {
			names = append(names, fmt.Sprint(item["name"]))
		}
		count := ""
		if m, ok := got.body.(map[string]any); ok && m["count"] != nil {
			count = fmt.Sprintf(", count %v", m["count"])
		}
		p.note("%ss%s: %s%s, links: %s", kind, query, strings.Join(names, " "), count, p.links(got, kind+"s"))
	}
}

// links returns where the next page is.
func (p *probe) links(got answer, key string) string {
	var all []string
	for _, l := range got.list(key + "_links") {
		// The order of a query's parameters has no meaning.
		href, query, _ := strings.Cut(fmt.Sprint(l["href"]), "?")
		parameters := strings.Split(query, "&")
		slices.Sort(parameters)
		all = append(all, fmt.Sprint(l["rel"], " ", href, "?", strings.Join(parameters, "&")))
	}
	return strings.Join(all, " ")
}

// pages follows the links from page to page.
func pages(p *probe, kind, path string) {
	for range 10 {
		got := p.volume("66", http.MethodGet, path, nil)
		var names []string
		for _, item := range got.list(kind + "s") {
			names = append(names, fmt.Sprint(item["name"]))
		}
		next := p.links(got, kind+"s")
		p.note("page of %ss: %s, links: %s", kind, strings.Join(names, " "), next)
		_, href, ok := strings.Cut(next, "next ")
		if !ok {
			return
		}
		u, err := url.Parse(href)
		if err != nil {
			p.Fatal(err)
		}
		_, after, _ := strings.Cut(u.Path, "/"+p.member.ProjectID)
		path = after + "?" + u.RawQuery
	}
}
