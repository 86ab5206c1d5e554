package devcloud_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// missing is an id that nothing has.
const missing = "00000000-0000-4000-8000-00000000000f"

// patience bounds every wait of the tests.
const patience = 20 * time.Second

// start runs a cloud without disks that ends with the test.
func start(t *testing.T, change func(*devcloud.Config)) *devcloud.Cloud {
	t.Helper()
	cfg := devcloud.Config{
		StateDir: t.TempDir(), Disks: devcloud.DisksNone,
		Servers: []devcloud.Server{{Name: "node1", Zone: "nova"}, {Name: "node2", Zone: "nova"}},
	}
	if change != nil {
		change(&cfg)
	}
	cloud, err := devcloud.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cloud.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return cloud
}

// client is a user of the raw API.
type client struct {
	t       *testing.T
	cloud   *devcloud.Cloud
	http    *http.Client
	token   string
	project string
	every   time.Duration // between two looks of until
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	text   string
	body   map[string]any
}

func transport(t *testing.T) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// login returns a client for a user: "demo", "other" or "admin".
func login(t *testing.T, cloud *devcloud.Cloud, user string) *client {
	t.Helper()
	c := &client{t: t, cloud: cloud, http: transport(t), every: 2 * time.Millisecond}
	a := c.account(user)
	c.project = a.ProjectID
	got := c.do("POST", "/identity/v3/auth/tokens", "", `{"auth": {"identity": {"methods": ["password"], "password": {"user":
		{"name": "`+a.User+`", "password": "`+a.Password+`", "domain": {"name": "Default"}}}}, "scope": {"project": {"id": "`+a.ProjectID+`"}}}}`)
	if got.status != http.StatusCreated {
		t.Fatalf("log in as %s: %d %s", user, got.status, got.text)
	}
	c.token = got.header.Get("X-Subject-Token")
	return c
}

func (c *client) account(user string) admin.Account {
	c.t.Helper()
	accounts, err := c.cloud.Admin().Accounts(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, a := range accounts {
		if a.User == user {
			return a
		}
	}
	c.t.Fatalf("no account %s", user)
	return admin.Account{}
}

// try sends a request; version is the value of OpenStack-API-Version.
func (c *client) try(method, path, version, body string) (answer, error) {
	req, err := http.NewRequest(method, c.cloud.URL()+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if c.token != "" {
		req.Header.Set("X-Auth-Token", c.token)
	}
	if version != "" {
		req.Header.Set("OpenStack-API-Version", version)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header, text: string(bytes.TrimSpace(text))}
	_ = json.Unmarshal(text, &a.body)
	return a, err
}

func (c *client) do(method, path, version, body string) answer {
	c.t.Helper()
	a, err := c.try(method, path, version, body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// volume talks to Cinder at version 3.minor.
func (c *client) volume(minor, method, path, body string) answer {
	c.t.Helper()
	version := ""
	if minor != "" {
		version = "volume 3." + minor
	}
	return c.do(method, "/volume/v3/"+c.project+path, version, body)
}

// compute talks to Nova at version 2.minor.
func (c *client) compute(minor, method, path, body string) answer {
	c.t.Helper()
	version := ""
	if minor != "" {
		version = "compute 2." + minor
	}
	return c.do(method, "/compute/v2.1"+path, version, body)
}

// member returns a nested value as text.
func (a answer) member(path ...string) string {
	var v any = a.body
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[key]
	}
	if s, ok := v.(string); ok {
		return s
	}
	data, _ := json.Marshal(v)
	return string(data)
}

// create makes a volume of one GiB and waits until it is available.
func (c *client) create(spec string) string {
	c.t.Helper()
	got := c.volume("70", "POST", "/volumes", `{"volume": {"size": 1`+spec+`}}`)
	if got.status != http.StatusAccepted {
		c.t.Fatalf("create a volume: %d %s", got.status, got.text)
	}
	id := got.member("volume", "id")
	c.await(id, "available", 0)
	return id
}

// look returns a volume's status and the number of its attachments; the
// status is "gone" where there is none.
func (c *client) look(id string) (status string, attachments int) {
	c.t.Helper()
	got := c.volume("70", "GET", "/volumes/"+id, "")
	if got.status == http.StatusNotFound {
		return "gone", 0
	}
	v, _ := got.body["volume"].(map[string]any)
	list, _ := v["attachments"].([]any)
	return got.member("volume", "status"), len(list)
}

func (c *client) await(id, status string, attachments int) {
	c.t.Helper()
	c.until("volume "+id+" to be "+status, func() (string, bool) {
		s, n := c.look(id)
		return s, s == status && n == attachments
	})
}

// until asks again and again; the cloud has no events to wait for.
func (c *client) until(what string, done func() (string, bool)) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		now, ok := done()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("waited for %s, it is %s", what, now)
		}
		time.Sleep(c.every)
	}
}

// attach asks Nova to attach a volume.
func (c *client) attach(minor, server, volume string) answer {
	c.t.Helper()
	return c.compute(minor, "POST", "/servers/"+server+"/os-volume_attachments", `{"volumeAttachment": {"volumeId": "`+volume+`"}}`)
}

func (c *client) detach(server, volume string) answer {
	c.t.Helper()
	return c.compute("89", "DELETE", "/servers/"+server+"/os-volume_attachments/"+volume, "")
}

// nova returns the ids of the volumes that Nova lists with a server.
func (c *client) nova(server string) []string {
	c.t.Helper()
	got := c.compute("89", "GET", "/servers/"+server+"/os-volume_attachments", "")
	var ids []string
	list, _ := got.body["volumeAttachments"].([]any)
	for _, item := range list {
		m, _ := item.(map[string]any)
		id, _ := m["volumeId"].(string)
		ids = append(ids, id)
	}
	return ids
}

// want compares status and message of a refusal.
func (a answer) want(t *testing.T, status int, name, message string) {
	t.Helper()
	if a.status != status || a.member(name, "message") != message {
		t.Errorf("got %d %s\nwant %d %s: %q", a.status, a.text, status, name, message)
	}
}
