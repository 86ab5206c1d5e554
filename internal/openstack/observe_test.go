package openstack_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
)

// fault makes the cloud go wrong.
func (l *lab) fault(faults ...admin.Fault) {
	l.t.Helper()
	l.must(l.admin.SetFaults(l.t.Context(), faults...))
}

// families compares whole families of metrics.
func (l *lab) families(g prometheus.Gatherer, want string, names ...string) {
	l.t.Helper()
	if err := testutil.GatherAndCompare(g, strings.NewReader(want), names...); err != nil {
		l.t.Error(err)
	}
}

const (
	requestsHead = `
# HELP cinder_csi_openstack_requests_total HTTP requests to OpenStack, repetitions among them, by the status of the answer; none stands for no answer.
# TYPE cinder_csi_openstack_requests_total counter
`
	retriesHead = `
# HELP cinder_csi_openstack_retries_total HTTP requests to OpenStack that were sent again, by the cause: throttled, 5xx, connection (no whole answer came), unsent (it did not leave this machine).
# TYPE cinder_csi_openstack_retries_total counter
`
	upHead = `
# HELP cinder_csi_cloud_up 1 while the driver is connected to the cloud, and Keystone, Cinder and Nova answered their newest request below HTTP 500 with the credentials accepted, else 0.
# TYPE cinder_csi_cloud_up gauge
`
)

func TestEachRequestAndItsRepetitionsAreCounted(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	l := newLab(t, openstack.Options{Registerer: registry, Cloud: "far"}, nil)
	ctx := t.Context()
	v, err := l.CreateVolume(ctx, cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1})
	l.must(err)
	get := func(faults ...admin.Fault) {
		t.Helper()
		l.fault(faults...)
		_, err := l.GetVolume(ctx, v.ID)
		l.must(err)
	}
	get(admin.Fault{Operation: "volume.get", Before: 429, RetryAfter: time.Second, Times: 1})
	get(admin.Fault{Operation: "volume.get", Before: 503, Times: 2})
	get(admin.Fault{Operation: "volume.get", Truncate: true, Times: 1})
	// A token that was revoked is no trouble of the cloud, and no repetition for one.
	l.must(l.admin.ExpireTokens(ctx))
	get()
	if _, err := l.GetServer(ctx, missing); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	// What is never repeated.
	l.fault(admin.Fault{Operation: "volume.create", After: 504, Times: 1})
	if _, err := l.CreateVolume(ctx, cloud.VolumeRequest{Name: "pvc-2", SizeGiB: 1}); !cloud.Uncertain(err) {
		t.Errorf("got %v", err)
	}
	l.families(registry, requestsHead+`
cinder_csi_openstack_requests_total{cloud="far",request="server_get",service="nova",status="404"} 1
cinder_csi_openstack_requests_total{cloud="far",request="token_create",service="keystone",status="201"} 2
cinder_csi_openstack_requests_total{cloud="far",request="version_get",service="cinder",status="200"} 1
cinder_csi_openstack_requests_total{cloud="far",request="version_get",service="nova",status="200"} 1
cinder_csi_openstack_requests_total{cloud="far",request="volume_create",service="cinder",status="202"} 1
cinder_csi_openstack_requests_total{cloud="far",request="volume_create",service="cinder",status="504"} 1
cinder_csi_openstack_requests_total{cloud="far",request="volume_get",service="cinder",status="200"} 4
cinder_csi_openstack_requests_total{cloud="far",request="volume_get",service="cinder",status="401"} 1
cinder_csi_openstack_requests_total{cloud="far",request="volume_get",service="cinder",status="429"} 1
cinder_csi_openstack_requests_total{cloud="far",request="volume_get",service="cinder",status="503"} 2
cinder_csi_openstack_requests_total{cloud="far",request="volume_get",service="cinder",status="none"} 1
`+retriesHead+`
cinder_csi_openstack_retries_total{cause="5xx",cloud="far",service="cinder"} 2
cinder_csi_openstack_retries_total{cause="5xx",cloud="far",service="keystone"} 0
cinder_csi_openstack_retries_total{cause="5xx",cloud="far",service="nova"} 0
cinder_csi_openstack_retries_total{cause="connection",cloud="far",service="cinder"} 1
cinder_csi_openstack_retries_total{cause="connection",cloud="far",service="keystone"} 0
cinder_csi_openstack_retries_total{cause="connection",cloud="far",service="nova"} 0
cinder_csi_openstack_retries_total{cause="throttled",cloud="far",service="cinder"} 1
cinder_csi_openstack_retries_total{cause="throttled",cloud="far",service="keystone"} 0
cinder_csi_openstack_retries_total{cause="throttled",cloud="far",service="nova"} 0
cinder_csi_openstack_retries_total{cause="unsent",cloud="far",service="cinder"} 0
cinder_csi_openstack_retries_total{cause="unsent",cloud="far",service="keystone"} 0
cinder_csi_openstack_retries_total{cause="unsent",cloud="far",service="nova"} 0
`, "cinder_csi_openstack_requests_total", "cinder_csi_openstack_retries_total")
}

// TestAnAnswerThatIsExpectedIsNoError: nor does it make the cloud a bad one.
func TestAnAnswerThatIsExpectedIsNoError(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	l := newLab(t, openstack.Options{Registerer: registry}, nil)
	ctx := t.Context()
	v := l.volume("pvc-1")
	l.fault(
		admin.Fault{Operation: "pools.list", Before: 403},
		admin.Fault{Operation: "message.list", Before: 403},
		admin.Fault{Operation: "quota.get", Before: 403},
		admin.Fault{Operation: "volume.create", Before: 413, Body: `{"overLimit": {"code": 413, "message": "VolumeLimitExceeded"}}`},
	)
	for what, err := range map[string]error{
		"pools":     second(l.ListPools(ctx)),
		"messages":  second(l.VolumeFault(ctx, v.ID)),
		"quota":     second(l.Quota(ctx)),
		"creation":  second(l.CreateVolume(ctx, cloud.VolumeRequest{Name: "pvc-2", SizeGiB: 1})),
		"volume":    second(l.GetVolume(ctx, missing)),
		"server":    second(l.GetServer(ctx, missing)),
		"deletion":  l.DeleteVolume(ctx, missing),
		"snapshot":  l.DeleteSnapshot(ctx, missing),
		"detaching": l.DetachVolume(ctx, missing, v.ID),
	} {
		if (err == nil) != (what == "messages") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	l.families(registry, upHead+"cinder_csi_cloud_up{cloud=\"default\"} 1\n", "openstack_api_request_errors_total", "cinder_csi_cloud_up")
}

func TestWhenACloudIsUp(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	l := newLab(t, openstack.Options{Registerer: registry}, nil)
	ctx := t.Context()
	v := l.volume("pvc-1")
	up := func(want int) {
		t.Helper()
		l.families(registry, upHead+fmt.Sprintf("cinder_csi_cloud_up{cloud=\"default\"} %d\n", want), "cinder_csi_cloud_up")
		if h := l.Health(); h.Up != (want == 1) || (h.Err == nil) != h.Up {
			t.Errorf("%+v", h)
		}
	}
	get := func() error { return second(l.GetVolume(ctx, v.ID)) }
	up(1)
	before := l.Health().LastSuccess
	l.fault(admin.Fault{Operation: "volume.get", Before: 503})
	if err := get(); !errors.Is(err, cloud.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	up(0)
	if !l.Health().LastSuccess.Equal(before) || !strings.Contains(l.Health().Err.Error(), "503") {
		t.Errorf("%+v", l.Health())
	}
	// Nova does not answer for Cinder.
	if err := second(l.GetServer(ctx, missing)); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	up(0)
	l.fault()
	l.must(get())
	up(1)
	l.fault(admin.Fault{Operation: "volume.get", Drop: true})
	if get() == nil {
		t.Error("the connection is not lost")
	}
	up(0)
	l.fault()
	l.must(get())
	l.must(l.admin.ExpireTokens(ctx))
	l.fault(admin.Fault{Operation: "token.create", Before: 404})
	if err := get(); err == nil || !errors.Is(l.Health().Err, cloud.ErrUnavailable) || errors.Is(l.Health().Err, cloud.ErrUnauthorized) {
		t.Errorf("%v: %+v", err, l.Health())
	}
	l.fault(admin.Fault{Operation: "token.create", Before: 401})
	if err := get(); !errors.Is(err, cloud.ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
	up(0)
	if !errors.Is(l.Health().Err, cloud.ErrUnauthorized) {
		t.Errorf("%+v", l.Health())
	}
}

func TestACloudThatWasNeverReachedIsDown(t *testing.T) {
	l := newLab(t, openstack.Options{}, nil)
	registry := prometheus.NewPedanticRegistry()
	wrong := readConf(t, l.cloud.CloudConf())
	wrong.Password = "wrong"
	client, err := openstack.New(wrong, openstack.Options{Registerer: registry, Cloud: "wrong"})
	l.must(err)
	defer client.Close()
	down := upHead + "cinder_csi_cloud_up{cloud=\"wrong\"} 0\n"
	l.families(registry, down, "cinder_csi_cloud_up", "cinder_csi_cloud_last_success_timestamp_seconds", "cinder_csi_token_expiry_timestamp_seconds")
	if err := client.Ready(t.Context()); !errors.Is(err, cloud.ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
	l.families(registry, down+requestsHead+`
cinder_csi_openstack_requests_total{cloud="wrong",request="token_create",service="keystone",status="401"} 1
`, "cinder_csi_cloud_up", "cinder_csi_openstack_requests_total", "cinder_csi_cloud_last_success_timestamp_seconds")
	if h := client.Health(); !errors.Is(h.Err, cloud.ErrUnauthorized) || strings.Contains(fmt.Sprintf("%+v", h), "wrong password") {
		t.Errorf("%+v", h)
	}
	client.Close()
	if families, err := registry.Gather(); err != nil || len(families) != 3 {
		t.Errorf("after the client was closed %v is left: %v", families, err)
	}
}

func TestWhenCredentialsEnd(t *testing.T) {
	end := time.Now().Add(36 * time.Hour).Truncate(time.Second)
	const head = `
# HELP cinder_csi_credential_expiry_timestamp_seconds When the application credential, the password or the token of the configuration ends; absent where it does not, or where the account may not know.
# TYPE cinder_csi_credential_expiry_timestamp_seconds gauge
`
	l := newLab(t, openstack.Options{}, func(b *devcloud.Behaviour) { b.CredentialsExpire, b.PasswordsExpire = end, end.Add(time.Hour) })
	ends := func(conf string, want time.Time) {
		t.Helper()
		registry := prometheus.NewPedanticRegistry()
		client, err := openstack.Connect(t.Context(), readConf(t, conf), openstack.Options{Registerer: registry})
		l.must(err)
		defer client.Close()
		text := ""
		if !want.IsZero() {
			text = head + fmt.Sprintf("cinder_csi_credential_expiry_timestamp_seconds{cloud=\"default\"} %d\n", want.Unix())
		}
		l.families(registry, text, "cinder_csi_credential_expiry_timestamp_seconds")
		h := client.Health()
		if !h.Up || !h.CredentialExpiry.Equal(want) {
			t.Errorf("%+v", h)
		}
		if left := time.Until(h.TokenExpiry); left < 50*time.Minute || left > time.Hour {
			t.Errorf("the token ends in %v", left)
		}
	}
	ends(l.cloud.CloudConf(), end.Add(time.Hour))
	ends(l.cloud.CredentialConf(), end)
	// Nor does it matter that Keystone does not answer that.
	l.fault(admin.Fault{Operation: "application_credential.get", Before: 503})
	ends(l.cloud.CredentialConf(), time.Time{})
	// Access rules, the policy, or an old Keystone keep the account from reading it; nobody asks twice.
	for _, status := range []int{401, 403, 404} {
		l.fault(admin.Fault{Operation: "application_credential.get", Before: status})
		l.forget()
		ends(l.cloud.CredentialConf(), time.Time{})
		l.cost("token.create 1", "application_credential.get 1", "version.get 2")
	}
	l.fault()
	// A token of the configuration was issued at some time, with or without a project.
	token, tokenEnds := l.token()
	for _, scope := range []string{"", "tenant-name=demo\ntenant-domain-name=Default\n"} {
		conf := "[Global]\nauth-url=" + l.cloud.AuthURL() + "\ntoken=" + token + "\n" + scope
		client, err := openstack.Connect(t.Context(), readConf(t, conf), openstack.Options{})
		l.must(err)
		if h := client.Health(); !h.CredentialExpiry.Equal(tokenEnds) || !h.TokenExpiry.Equal(tokenEnds) {
			t.Errorf("%q: %v and %v, not %v", scope, h.CredentialExpiry, h.TokenExpiry, tokenEnds)
		}
		client.Close()
	}
	behaviour, err := l.admin.Behaviour(t.Context())
	l.must(err)
	behaviour.CredentialsExpire = time.Now().Add(-time.Second)
	l.must(l.admin.SetBehaviour(t.Context(), behaviour))
	if _, err := openstack.Connect(t.Context(), readConf(t, l.cloud.CredentialConf()), openstack.Options{}); !errors.Is(err, cloud.ErrUnauthorized) {
		t.Errorf("an application credential that has ended: %v", err)
	}
}

// token returns one for the project of the demo user, and when it ends.
func (l *lab) token() (id string, end time.Time) {
	l.t.Helper()
	accounts, err := l.admin.Accounts(l.t.Context())
	l.must(err)
	body := fmt.Sprintf(`{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "demo", "domain": {"id": "default"}, "password": %q}}},
		"scope": {"project": {"name": "demo", "domain": {"id": "default"}}}}}`, accounts[0].Password)
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, l.cloud.AuthURL()+"/auth/tokens", strings.NewReader(body))
	l.must(err)
	resp, err := http.DefaultClient.Do(req)
	l.must(err)
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Token struct {
			ExpiresAt time.Time `json:"expires_at"`
		} `json:"token"`
	}
	l.must(json.NewDecoder(resp.Body).Decode(&answer))
	http.DefaultClient.CloseIdleConnections()
	return resp.Header.Get("X-Subject-Token"), answer.Token.ExpiresAt
}

func TestQuotaIsToldAsItWasRead(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	l := newLab(t, openstack.Options{Registerer: registry}, nil)
	const limits, used = "cinder_csi_quota_limit", "cinder_csi_quota_used"
	l.families(registry, "", limits, used)
	lines := make([]string, 0, 502)
	for i := range 500 {
		lines = append(lines, fmt.Sprintf(`"volumes_t%03d": {"limit": 7, "in_use": 1, "reserved": 1}`, i))
	}
	lines = append(lines, `"volumes": {"limit": -1, "in_use": 3, "reserved": 0}`, `"gigabytes": {"limit": 20, "in_use": 18, "reserved": 1}`,
		`"groups": {"limit": 1, "in_use": 1, "reserved": 0}`, `"gigabytes_any": {"limit": -1, "in_use": 1, "reserved": 0}`)
	l.fault(admin.Fault{Operation: "quota.get", Before: 200, Body: `{"quota_set": {` + strings.Join(lines, ",") + `}}`})
	l.must(second(l.Quota(t.Context())))
	families, err := registry.Gather()
	l.must(err)
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if name := family.GetName(); name == limits || name == used {
				got[name+" "+m.GetLabel()[1].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	if len(got) != 2*102 || !math.IsInf(got[limits+" volumes"], 1) || got[used+" volumes"] != 3 || got[limits+" gigabytes"] != 20 ||
		got[used+" gigabytes"] != 19 || got[limits+" volumes_t000"] != 7 {
		t.Errorf("%d lines: %v", len(got), got)
	}
}
