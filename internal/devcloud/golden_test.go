package devcloud_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

// recorded is an answer of a real Cinder 21.3 or Nova 26.2.
type recorded struct {
	Status int
	Body   map[string]any
}

func recordings(t *testing.T) map[string]recorded {
	t.Helper()
	data, err := os.ReadFile("testdata/answers.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]recorded
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// differences compares keys and kinds of values. Of lists only the first
// elements are compared, and empty ones with nothing.
func differences(path string, got, want any) []string {
	switch want := want.(type) {
	case map[string]any:
		have, ok := got.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s: got %v, want an object", path, got)}
		}
		var found []string
		for key := range want {
			if _, ok := have[key]; !ok {
				found = append(found, path+"."+key+" is missing")
				continue
			}
			found = append(found, differences(path+"."+key, have[key], want[key])...)
		}
		for key := range have {
			if _, ok := want[key]; !ok {
				found = append(found, path+"."+key+" is too much")
			}
		}
		return found
	case []any:
		have, ok := got.([]any)
		if !ok {
			return []string{fmt.Sprintf("%s: got %v, want a list", path, got)}
		}
		if len(have) > 0 && len(want) > 0 {
			return differences(path+"[0]", have[0], want[0])
		}
	default:
		if a, b := fmt.Sprintf("%T", got), fmt.Sprintf("%T", want); a != b {
			return []string{fmt.Sprintf("%s: got %v (%s), want %v (%s)", path, got, a, want, b)}
		}
	}
	return nil
}

// like compares an answer with a recorded one. Members named free may be
// different: they hold what depends on the case, as a name that is null.
func (a answer) like(t *testing.T, name string, want recorded, free ...string) {
	t.Helper()
	if a.status != want.Status {
		t.Errorf("%s: status %d, want %d", name, a.status, want.Status)
	}
	for _, d := range differences(name, any(a.body), any(want.Body)) {
		if !slices.ContainsFunc(free, func(f string) bool { return strings.Contains(d, "."+f) }) {
			t.Error(d)
		}
	}
}

func TestAnswersLookAsTheRecordedOnes(t *testing.T) {
	want := recordings(t)
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	server := cloud.ServerID("node1")

	c.volume("70", "POST", "/volumes", `{"volume": {"size": 1, "volume_type": "nobackend"}}`).like(t, "volume created", want["volume created"])
	c.volume("46", "POST", "/volumes", `{"volume": {"size": 1, "name": "pvc-x", "metadata": {"a": "b"}}}`).
		like(t, "volume created at 3.46", want["volume created at 3.46"], "name", "metadata")
	v := c.create(`, "name": "v1", "metadata": {"k": "v"}`)
	c.volume("70", "GET", "/volumes/"+v, "").like(t, "volume", want["volume"])
	c.volume("70", "POST", "/volumes/"+v+"/metadata", `{"metadata": {"x": "y", "cinder.csi.openstack.org/cluster": "c1"}}`).
		like(t, "metadata set", want["metadata set"])

	attached := c.attach("93", server, v)
	attached.like(t, "attachment created", want["attachment created"])
	c.await(v, "in-use", 1)
	c.volume("70", "GET", "/volumes/"+v, "").like(t, "volume in use", want["volume in use"], "name", "metadata")
	c.compute("93", "GET", "/servers/"+server+"/os-volume_attachments", "").like(t, "attachment list", want["attachment list"])
	c.compute("", "GET", "/servers/"+server+"/os-volume_attachments", "").like(t, "attachment list at 2.1", want["attachment list at 2.1"])
	c.compute("93", "GET", "/servers/"+server+"/os-volume_attachments/"+v, "").like(t, "attachment", want["attachment"])
	got := c.volume("70", "GET", "/attachments", "")
	list, _ := got.body["attachments"].([]any)
	first, _ := list[0].(map[string]any)
	c.volume("70", "GET", "/attachments/"+fmt.Sprint(first["id"]), "").like(t, "cinder attachment", want["cinder attachment"])
	c.compute("93", "GET", "/servers/"+server, "").like(t, "server", want["server"])

	copiesLookRight(t, c, v, want)
	lookRight(t, c, want)
}

func copiesLookRight(t *testing.T, c *client, v string, want map[string]recorded) {
	t.Helper()
	got := c.volume("70", "POST", "/snapshots", `{"snapshot": {"volume_id": "`+v+`", "name": "s1"}}`)
	got.like(t, "snapshot created", want["snapshot created"])
	c.settle("/snapshots/"+got.member("snapshot", "id"), "snapshot", "available").like(t, "snapshot", want["snapshot"])
	got = c.volume("70", "POST", "/backups", `{"backup": {"volume_id": "`+v+`", "name": "b1", "force": true}}`)
	got.like(t, "backup created", want["backup created"])
	b := got.member("backup", "id")
	c.settle("/backups/"+b, "backup", "available").like(t, "backup", want["backup"])
	c.volume("70", "POST", "/backups/"+b+"/restore", `{"restore": {"name": "r1"}}`).like(t, "backup restored", want["backup restored"])
}

// settle waits until a snapshot or backup has a status and returns it.
func (c *client) settle(path, kind, status string) answer {
	c.t.Helper()
	var got answer
	c.until(path+" to be "+status, func() (string, bool) {
		got = c.volume("70", "GET", path, "")
		return got.member(kind, "status"), got.member(kind, "status") == status
	})
	return got
}

func lookRight(t *testing.T, c *client, want map[string]recorded) {
	t.Helper()
	c.until("the message", func() (string, bool) {
		got := c.volume("70", "GET", "/messages", "")
		return got.text, strings.Contains(got.text, "event_id")
	})
	c.volume("70", "GET", "/messages", "").like(t, "messages", want["messages"])
	server := c.cloud.ServerID("node1")
	actions := c.compute("93", "GET", "/servers/"+server+"/os-instance-actions", "")
	list, _ := actions.body["instanceActions"].([]any)
	first, _ := list[0].(map[string]any)
	c.compute("93", "GET", "/servers/"+server+"/os-instance-actions/"+fmt.Sprint(first["request_id"]), "").
		like(t, "action", want["action"], "message")
	c.volume("70", "GET", "/volumes?limit=1", "").like(t, "page", want["page"], "volumes[0].name")
	c.volume("70", "GET", "/volumes/detail?name=nothing", "").like(t, "no volumes", want["no volumes"])
	c.volume("70", "GET", "/snapshots/detail?name=nothing", "").like(t, "no snapshots", want["no snapshots"])
	c.volume("70", "GET", "/os-availability-zone", "").like(t, "cinder zones", want["cinder zones"])
	c.compute("93", "GET", "/os-availability-zone", "").like(t, "nova zones", want["nova zones"])
	c.volume("70", "GET", "/types", "").like(t, "types", want["types"], "description", "volume_types[0].extra_specs") // shown to some accounts only
	c.volume("70", "GET", "/limits", "").like(t, "limits", want["limits"])
	c.volume("70", "GET", "/os-quota-sets/"+c.project+"?usage=true", "").
		like(t, "quotas", want["quotas"], "quota_set.volumes_", "quota_set.gigabytes_", "quota_set.snapshots_")
	c.do("GET", "/volume/", "", "").like(t, "cinder versions", want["cinder versions"])
	c.do("GET", "/compute/v2.1/", "", "").like(t, "nova version", want["nova version"])
}

func TestEveryAnswerNamesItsRequestAndVersion(t *testing.T) {
	c := login(t, start(t, nil), "demo")
	for _, got := range []answer{
		c.volume("60", "GET", "/volumes", ""), c.volume("60", "GET", "/volumes/"+missing, ""), c.compute("60", "GET", "/servers", ""),
		c.do("GET", "/identity/v3", "", ""), c.do("GET", "/volume/v3/"+c.project+"/nonsense", "", ""), c.do("POST", "/identity/v3/auth/tokens", "", "{}"),
	} {
		if id := got.header.Get("X-Openstack-Request-Id"); !strings.HasPrefix(id, "req-") || len(id) != 40 {
			t.Errorf("request id %q of %s", id, got.text)
		}
	}
	if v := c.volume("60", "GET", "/volumes/"+missing, "").header.Get("OpenStack-API-Version"); v != "volume 3.60" {
		t.Errorf("volume version %q", v)
	}
	if v := c.volume("", "GET", "/volumes", "").header.Get("OpenStack-API-Version"); v != "volume 3.0" {
		t.Errorf("volume version %q", v)
	}
	got := c.compute("60", "GET", "/servers", "")
	if got.header.Get("OpenStack-API-Version") != "compute 2.60" || got.header.Get("X-OpenStack-Nova-API-Version") != "2.60" {
		t.Errorf("compute version %v", got.header)
	}
}

// credential returns the id of the demo user's application credential.
func credential(t *testing.T, cloud *devcloud.Cloud) string {
	t.Helper()
	accounts, err := cloud.Admin().Accounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range accounts {
		if a.User == "demo" {
			return a.CredentialID
		}
	}
	t.Fatal("no account demo")
	return ""
}

func TestTokensAreChecked(t *testing.T) {
	cloud := start(t, nil)
	const refused = "The request you have made requires authentication."
	for name, tc := range map[string]struct{ path, token, body string }{
		"no token for cinder":   {path: "/volume/v3/x/volumes"},
		"bad token for cinder":  {path: "/volume/v3/x/volumes", token: "bad"},
		"no token for nova":     {path: "/compute/v2.1/servers"},
		"a wrong password":      {path: "/identity/v3/auth/tokens", body: `{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "demo", "password": "x", "domain": {"id": "default"}}}}}}`},
		"a wrong user":          {path: "/identity/v3/auth/tokens", body: `{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "nobody", "password": "x", "domain": {"id": "default"}}}}}}`},
		"a wrong secret":        {path: "/identity/v3/auth/tokens", body: `{"auth": {"identity": {"methods": ["application_credential"], "application_credential": {"id": "` + credential(t, cloud) + `", "secret": "y"}}}}`},
		"a token that is wrong": {path: "/identity/v3/auth/tokens", body: `{"auth": {"identity": {"methods": ["token"], "token": {"id": "x"}}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			c := &client{t: t, cloud: cloud, http: transport(t), token: tc.token}
			method := "GET"
			if tc.body != "" {
				method = "POST"
			}
			c.do(method, tc.path, "", tc.body).want(t, http.StatusUnauthorized, "error", refused)
		})
	}
	c := login(t, cloud, "demo")
	if err := cloud.Admin().ExpireTokens(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.volume("70", "GET", "/volumes", "").want(t, http.StatusUnauthorized, "error", refused)
}

func TestAnUnscopedTokenIsOfNoUseForVolumes(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	got := c.do("POST", "/identity/v3/auth/tokens", "", `{"auth": {"identity": {"methods": ["token"], "token": {"id": "`+c.token+`"}}}}`)
	if got.status != http.StatusCreated || got.member("token", "catalog") != "null" {
		t.Fatalf("%d %s", got.status, got.text)
	}
	c.token = got.header.Get("X-Subject-Token")
	if got := c.volume("70", "GET", "/volumes", ""); got.status != http.StatusUnauthorized {
		t.Errorf("%d %s", got.status, got.text)
	}
}
