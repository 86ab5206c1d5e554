package devcloud_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

// ids returns the ids of a list and the link to the next page.
func (a answer) ids(collection string) (ids []string, next string) {
	list, _ := a.body[collection].([]any)
	for _, item := range list {
		m, _ := item.(map[string]any)
		id, _ := m["id"].(string)
		ids = append(ids, id)
	}
	links, _ := a.body[collection+"_links"].([]any)
	for _, item := range links {
		m, _ := item.(map[string]any)
		next, _ = m["href"].(string)
	}
	return ids, next
}

func TestPagesFollowTheirLinks(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	var made []string
	for range 5 {
		made = append([]string{c.create(`, "name": "p"`)}, made...) // newest first
	}
	c.create(`, "name": "other"`)
	var got []string
	path := "/volume/v3/" + c.project + "/volumes/detail?name=p&limit=2"
	for pages := 0; path != ""; pages++ {
		page, next := c.do("GET", path, "volume 3.70", "").ids("volumes")
		got = append(got, page...)
		path = strings.TrimPrefix(next, cloud.URL())
		if pages > 3 {
			t.Fatal("the pages do not end")
		}
	}
	if !slices.Equal(got, made) {
		t.Errorf("got %v\nwant %v", got, made)
	}
}

func TestAMarkerThatIsGoneIsRefusedAndOneThatIsFilteredOutIsNot(t *testing.T) {
	c := login(t, start(t, nil), "demo")
	old := c.create(`, "name": "a"`)
	marker := c.create(`, "name": "b"`)
	c.volume("70", "GET", "/volumes?marker="+missing, "").refuses(t, "marker", 404, "itemNotFound", "Volume "+missing+" could not be found.")
	got, _ := c.volume("70", "GET", "/volumes/detail?name=a&marker="+marker, "").ids("volumes")
	if !slices.Equal(got, []string{old}) {
		t.Errorf("after the marker: %v", got)
	}
	for _, path := range []string{"/snapshots?marker=", "/backups?marker="} {
		if got := c.volume("70", "GET", path+missing, ""); got.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, got.status, got.text)
		}
	}
}

func TestVolumesAreSelected(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	a := c.create(`, "name": "x", "metadata": {"cluster": "c1", "k": "it's"}`)
	b := c.create(`, "name": "x", "volume_type": "multiattach"`)
	d := c.create(`, "name": "y"`)
	c.attach("93", cloud.ServerID("node1"), d)
	c.await(d, "in-use", 1)
	for query, want := range map[string][]string{
		"":                       {d, b, a},
		"name=x":                 {b, a},
		"name=X":                 {b, a},
		"name=x%20":              {b, a},
		"name=%20x":              nil,
		"name=%C3%BF":            {d}, // accents make no difference
		"status=Available":       {b, a},
		"status=in-use":          {d},
		"status=available":       {b, a},
		"availability_zone=nova": {d, b, a},
		"availability_zone=mars": nil,
		"metadata=" + url.QueryEscape(`{'cluster': 'c1'}`):              {a},
		"metadata=" + url.QueryEscape(`{"k": "it's"}`):                  {a},
		"metadata=" + url.QueryEscape(`{'cluster':'c1', u'k': "it's"}`): {a},
		"metadata=" + url.QueryEscape(`{'cluster': 'c2'}`):              nil,
		"metadata=" + url.QueryEscape(`{'Cluster': 'C1'}`):              {a},
		"metadata=garbage":            nil,
		"sort=status:asc,name:asc":    {b, a, d},
		"sort_key=name&sort_dir=desc": {d, b, a},
		"limit=0":                     nil,
		"offset=1&limit=1":            {b},
	} {
		if got, _ := c.volume("70", "GET", "/volumes/detail?"+query, "").ids("volumes"); !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", query, got, want)
		}
	}
	for query, message := range map[string]string{
		"bogus=1":          "Invalid filters bogus are found in query options.",
		"name~=x":          "Invalid filters name~ are found in query options.",
		"limit=x":          "limit param must be an integer",
		"limit=-1":         "limit param must be positive",
		"sort=nonsense":    "Invalid input received: Invalid sort key",
		"multiattach=true": "Invalid filters multiattach are found in query options.",
	} {
		c.volume("70", "GET", "/volumes/detail?"+query, "").refuses(t, query, 400, "badRequest", message)
	}
}

func TestAPageHasAThousandVolumesAtMost(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	for range 1001 {
		if got := c.volume("70", "POST", "/volumes", `{"volume": {"size": 1}}`); got.status != http.StatusAccepted {
			t.Fatalf("%d %s", got.status, got.text)
		}
	}
	page, next := c.volume("70", "GET", "/volumes?limit=5000", "").ids("volumes")
	if len(page) != 1000 || next == "" {
		t.Errorf("%d volumes, next %q", len(page), next)
	}
	if page, next = c.volume("70", "GET", "/volumes", "").ids("volumes"); len(page) != 1000 || next == "" {
		t.Errorf("%d volumes, next %q", len(page), next)
	}
	if page, next = c.do("GET", strings.TrimPrefix(next, cloud.URL()), "", "").ids("volumes"); len(page) != 1 || next != "" {
		t.Errorf("%d volumes, next %q", len(page), next)
	}
}

func TestMicroversionsDecideWhatIsThere(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	v, server := c.create(""), cloud.ServerID("node1")
	for minor, want := range map[string][]string{
		"":   nil,
		"12": nil,
		"13": {"group_id"},
		"48": {"group_id", "service_uuid", "shared_targets"},
		"63": {"group_id", "service_uuid", "shared_targets", "volume_type_id"},
		"65": {"consumes_quota", "group_id", "service_uuid", "shared_targets", "volume_type_id"},
	} {
		var got []string
		body, _ := c.volume(minor, "GET", "/volumes/"+v, "").body["volume"].(map[string]any)
		for _, key := range []string{"consumes_quota", "group_id", "service_uuid", "shared_targets", "volume_type_id"} {
			if _, ok := body[key]; ok {
				got = append(got, key)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("volume at 3.%s has %v, want %v", minor, got, want)
		}
	}
	for minor, status := range map[string]int{"2": 404, "3": 200} {
		if got := c.volume(minor, "GET", "/messages", ""); got.status != status {
			t.Errorf("messages at 3.%s: %d", minor, got.status)
		}
	}
	if got := c.volume("26", "GET", "/attachments", ""); got.status != http.StatusNotFound {
		t.Errorf("attachments at 3.26: %d", got.status)
	}
	// Unknown keys are ignored by old versions; a source backup isn't.
	c.volume("46", "POST", "/volumes", `{"volume": {"size": 1, "backup_id": "`+missing+`"}}`).refuses(t, "backup at 3.46", 404, "itemNotFound", "Backup "+missing+" could not be found.")
	if got := c.volume("46", "POST", "/volumes", `{"volume": {"size": 1, "foo": 1}}`); got.status != http.StatusAccepted {
		t.Errorf("create at 3.46: %d %s", got.status, got.text)
	}
	c.volume("99", "GET", "/volumes", "").refuses(t, "cinder", 406, "computeFault", "Version 3.99 is not supported by the API. Minimum is 3.0 and maximum is 3.70.")
	c.compute("999", "GET", "/servers", "").refuses(t, "nova", 406, "computeFault", "Version 2.999 is not supported by the API. Minimum is 2.1 and maximum is 2.93.")
	c.compute("101", "GET", "/servers", "").refuses(t, "nova", 406, "computeFault", "Version 2.101 is not supported by the API. Minimum is 2.1 and maximum is 2.93.")

	c.attach("2", server, v)
	c.await(v, "in-use", 1)
	for minor, want := range map[string]string{
		"1":  "device id serverId volumeId",
		"70": "device id serverId tag volumeId",
		"79": "delete_on_termination device id serverId tag volumeId",
		"88": "delete_on_termination device id serverId tag volumeId",
		"89": "attachment_id bdm_uuid delete_on_termination device serverId tag volumeId",
	} {
		body, _ := c.compute(minor, "GET", "/servers/"+server+"/os-volume_attachments/"+v, "").body["volumeAttachment"].(map[string]any)
		var keys []string
		for key := range body {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		if got := strings.Join(keys, " "); got != want {
			t.Errorf("attachment at 2.%s has %s, want %s", minor, got, want)
		}
	}
}

func TestFrom2101OnAnAttachmentIsAnswered202WithoutABody(t *testing.T) {
	cloud := start(t, func(cfg *devcloud.Config) { cfg.Behaviour = &devcloud.Behaviour{ComputeVersion: "2.101"} })
	c := login(t, cloud, "demo")
	v := c.create("")
	if got := c.attach("101", cloud.ServerID("node1"), v); got.status != http.StatusAccepted || got.text != "" {
		t.Errorf("%d %q", got.status, got.text)
	}
	c.await(v, "in-use", 1)
	w := c.create("")
	if got := c.attach("100", cloud.ServerID("node1"), w); got.status != http.StatusOK {
		t.Errorf("%d %q", got.status, got.text)
	}
}

func TestLatestMeansTheHighestVersion(t *testing.T) {
	c := login(t, start(t, nil), "demo")
	if got := c.do("GET", "/volume/v3/"+c.project+"/volumes", "volume latest", ""); got.header.Get("OpenStack-API-Version") != "volume 3.70" {
		t.Errorf("%v", got.header)
	}
	if got := c.do("GET", "/compute/v2.1/servers", "volume 3.70, compute 2.50", ""); got.header.Get("OpenStack-API-Version") != "compute 2.50" {
		t.Errorf("%v", got.header)
	}
}

func TestMetadataIsKept(t *testing.T) {
	c := login(t, start(t, nil), "demo")
	v := c.create(`, "metadata": {"a": "1"}`)
	path := "/volumes/" + v + "/metadata"
	check := func(want string) {
		t.Helper()
		if got := c.volume("70", "GET", path, ""); got.text != want {
			t.Errorf("got %s, want %s", got.text, want)
		}
	}
	c.volume("70", "POST", path, `{"metadata": {"b": "2"}}`)
	check(`{"metadata":{"a":"1","b":"2"}}`)
	c.volume("70", "PUT", path+"/a", `{"meta": {"a": "3"}}`)
	check(`{"metadata":{"a":"3","b":"2"}}`)
	c.volume("70", "DELETE", path+"/b", "")
	check(`{"metadata":{"a":"3"}}`)
	c.volume("70", "PUT", path, `{"metadata": {"z": "9"}}`)
	check(`{"metadata":{"z":"9"}}`)
	c.volume("70", "DELETE", path+"/b", "").refuses(t, "delete", 404, "itemNotFound", "Volume "+v+" has no metadata with key b.")
	if got := c.volume("70", "PUT", "/volumes/"+v, `{"volume": {"name": "new", "description": "d"}}`); got.member("volume", "name") != "new" {
		t.Errorf("update: %s", got.text)
	}
	s := c.volume("70", "POST", "/snapshots", `{"snapshot": {"volume_id": "`+v+`"}}`).member("snapshot", "id")
	if got := c.volume("70", "POST", "/snapshots/"+s+"/metadata", `{"metadata": {"b": "2"}}`); got.text != `{"metadata":{"b":"2"}}` {
		t.Errorf("snapshot: %s", got.text)
	}
}

func TestServersLearnAboutThemselves(t *testing.T) {
	cloud := start(t, nil)
	c := &client{t: t, cloud: cloud, http: transport(t)}
	got := c.do("GET", "/metadata/node1/openstack/latest/meta_data.json", "", "")
	if got.member("uuid") != cloud.ServerID("node1") || got.member("availability_zone") != "nova" || got.member("name") != "node1" {
		t.Errorf("%s", got.text)
	}
	if !json.Valid([]byte(c.do("GET", "/metadata/node1/openstack/latest/network_data.json", "", "").text)) {
		t.Error("network_data.json is no JSON")
	}
	for path, want := range map[string]string{"/openstack": "latest", "/openstack/latest/": "meta_data.json"} {
		if got := c.do("GET", "/metadata/node1"+path, "", ""); got.status != 200 || !slices.Contains(strings.Split(got.text, "\n"), want) {
			t.Errorf("%s: %d %s", path, got.status, got.text)
		}
	}
	for _, path := range []string{"/metadata/nobody/openstack/latest/meta_data.json", "/metadata/node1/openstack/latest/nothing"} {
		if got := c.do("GET", path, "", ""); got.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, got.status)
		}
	}
}

func TestTypesAreManagedByTheAdministrator(t *testing.T) {
	cloud := start(t, nil)
	c, admin := login(t, cloud, "demo"), login(t, cloud, "admin")
	c.volume("70", "POST", "/types", `{"volume_type": {"name": "x"}}`).refuses(t, "create", 403, "forbidden", "Policy doesn't allow volume_extension:type_create to be performed.")
	id := admin.volume("70", "POST", "/types", `{"volume_type": {"name": "zonal", "extra_specs": {"RESKEY:availability_zones": "az9", "volume_backend_name": "b9"}}}`).member("volume_type", "id")
	q := admin.volume("70", "POST", "/qos-specs", `{"qos_specs": {"name": "q", "total_iops_sec": "100"}}`).member("qos_specs", "id")
	if got := admin.volume("70", "GET", "/qos-specs/"+q+"/associate?vol_type_id="+id, ""); got.status != http.StatusAccepted {
		t.Errorf("associate: %d %s", got.status, got.text)
	}
	if got := admin.volume("70", "GET", "/types/"+id, ""); got.member("volume_type", "qos_specs_id") != q || got.member("volume_type", "extra_specs", "volume_backend_name") != "b9" {
		t.Errorf("type: %s", got.text)
	}
	if got := c.volume("70", "GET", "/types/"+id, ""); strings.Contains(got.text, "volume_backend_name") {
		t.Errorf("a member sees all extra specs: %s", got.text)
	}
	c.volume("70", "POST", "/volumes", `{"volume": {"size": 1, "volume_type": "zonal"}}`).refuses(t, "a type of no zone that is there", 400, "badRequest", "Volume type is only supported in these availability zones: ['az9']")
}
