package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// wanted is what a call is to end with.
type wanted struct {
	requests  int
	kind      error
	uncertain bool
}

func (want wanted) check(t *testing.T, c *testCloud, err error) {
	t.Helper()
	if got := c.record(); len(got) != want.requests {
		t.Errorf("%d requests, not %d: %q", len(got), want.requests, got)
	}
	if want.kind == nil && err != nil || want.kind != nil && !errors.Is(err, want.kind) {
		t.Errorf("the error is %v, not %v", err, want.kind)
	}
	if cloud.Uncertain(err) != want.uncertain {
		t.Errorf("uncertain is %t: %v", !want.uncertain, err)
	}
}

func TestReadsAreRepeated(t *testing.T) {
	good := says(200, volumeBody(idA))
	tests := []struct {
		name  string
		serve http.HandlerFunc
		want  wanted
	}{
		{"after a connection that breaks", script(hangUp, hangUp, good), wanted{requests: 3}},
		{"after an answer that breaks off", script(breakOff(200, `{"vol`), good), wanted{requests: 2}},
		{"after a part of an answer that looks whole", script(says(200, `{"volume": {"id":`), good), wanted{requests: 2}},
		{"after a page that is not JSON", script(says(200, `<html>maintenance</html>`), good), wanted{requests: 2}},
		{"after 500, 502, 503", script(says(500, ""), says(502, "x"), says(503, "{}"), good), wanted{requests: 4}},
		{"after 429 when it is time", script(says(429, "", "Retry-After", "0.05"), good), wanted{requests: 2}},
		{"after 413 with a time", script(says(413, `{"overLimit": {"retryAfter": "0.05"}}`), good), wanted{requests: 2}},
		{"four times at the most when the cloud is down", says(503, ""), wanted{requests: 4, kind: cloud.ErrUnavailable}},
		// net/http itself repeats the first one, which was on a used connection.
		{"four times at the most when connections break", hangUp, wanted{requests: 5, kind: cloud.ErrUnavailable}},
		{"but not after 404", says(404, ""), wanted{requests: 1, kind: cloud.ErrNotFound}},
		{"but not after a quota's 413", says(413, `{"overLimit": {"message": "m", "retryAfter": "0"}}`), wanted{requests: 1, kind: cloud.ErrQuota}},
		{"but not after 501", says(501, ""), wanted{requests: 1, kind: cloud.ErrUnsupported}},
		{"but not after a redirection", says(302, "", "Location", "http://127.0.0.1:1/"), wanted{requests: 1, kind: cloud.ErrUnavailable}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := newTestCloud(t, test.serve)
			client := c.connect(t, Options{})
			_, err := client.GetVolume(t.Context(), idA)
			test.want.check(t, c, err)
		})
	}
}

func TestWritesAreRepeatedOnlyWhenRefused(t *testing.T) {
	good := says(200, `{"volumeAttachment": {"volumeId": "`+idB+`", "serverId": "`+idA+`", "device": "/dev/vdb"}}`)
	tests := []struct {
		name  string
		serve http.HandlerFunc
		want  wanted
	}{
		{"accepted", good, wanted{requests: 1}},
		{"refused with 429, then accepted", script(says(429, "", "Retry-After", "0.05"), good), wanted{requests: 2}},
		{"refused with 413 and a time, then accepted", script(says(413, "", "Retry-After", "0.05"), good), wanted{requests: 2}},
		{"a connection that breaks leaves it open", hangUp, wanted{1, cloud.ErrUnavailable, true}},
		{"an answer that breaks off leaves it open", breakOff(200, `{"vol`), wanted{1, cloud.ErrUnavailable, true}},
		{"an answer that is not JSON leaves it open", says(200, `<html>`), wanted{1, cloud.ErrUnavailable, true}},
		{"an empty answer of 200 leaves it open", says(200, ""), wanted{1, cloud.ErrUnavailable, true}},
		{"an answer about another volume leaves it open", says(200, `{"volumeAttachment": {"volumeId": "`+idA+`"}}`), wanted{1, cloud.ErrUnavailable, true}},
		{"500 leaves it open", says(500, ""), wanted{1, cloud.ErrUnavailable, true}},
		{"503 leaves it open", says(503, ""), wanted{1, cloud.ErrUnavailable, true}},
		{"400 is certain", says(400, ""), wanted{1, cloud.ErrInvalid, false}},
		{"400 whose body breaks off is certain", breakOff(400, `{"bad`), wanted{1, cloud.ErrInvalid, false}},
		{"an empty answer of 202, as newer clouds give", says(202, ""), wanted{requests: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := newTestCloud(t, test.serve)
			client := c.connect(t, Options{})
			_, err := client.AttachVolume(t.Context(), idA, idB)
			test.want.check(t, c, err)
		})
	}
}

func TestDeletesAreNotRepeatedOnceSent(t *testing.T) {
	for name, test := range map[string]struct {
		serve http.HandlerFunc
		want  wanted
	}{
		"a connection that breaks":                       {hangUp, wanted{1, cloud.ErrUnavailable, true}},
		"a cloud in trouble":                             {says(503, ""), wanted{1, cloud.ErrUnavailable, true}},
		"accepted, though what follows breaks off":       {breakOff(202, "nu"), wanted{requests: 1}},
		"accepted with a body that nobody needs to read": {says(202, "<accepted>"), wanted{requests: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCloud(t, test.serve)
			client := c.connect(t, Options{})
			test.want.check(t, c, client.DeleteVolume(t.Context(), idA))
			c.forget()
			test.want.check(t, c, client.DetachVolume(t.Context(), idA, idB))
		})
	}
}

func TestWhatNeverLeftIsCertain(t *testing.T) {
	c := newTestCloud(t, nil)
	client := c.connect(t, Options{})
	c.Close()
	client.now().base.CloseIdleConnections()
	_, err := client.CreateVolume(t.Context(), cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1})
	wanted{kind: cloud.ErrUnavailable}.check(t, c, err)
	if !strings.Contains(err.Error(), "create volume pvc-1") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
}

func TestTheCallersDeadlineIsVisible(t *testing.T) {
	reached := make(chan struct{}, 1)
	c := newTestCloud(t, func(w http.ResponseWriter, req *http.Request) {
		select {
		case reached <- struct{}{}:
		default:
		}
		hang(w, req)
	})
	client := c.connect(t, Options{WriteTimeout: time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel() }()
	_, err := client.CreateVolume(ctx, cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1})
	wanted{1, context.Canceled, true}.check(t, c, err)
	if !errors.Is(err, cloud.ErrUnavailable) {
		t.Errorf("%v", err)
	}

	c.forget()
	_, err = client.CreateVolume(ctx, cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1})
	wanted{0, context.Canceled, false}.check(t, c, err)

	c.forget()
	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = client.GetVolume(ctx, idA)
	wanted{1, context.DeadlineExceeded, false}.check(t, c, err)
}

func TestARequestThatChangesSomethingIsSeenThroughWhenItsCallerGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := newTestCloud(t, func(w http.ResponseWriter, req *http.Request) {
		cancel()
		select {
		case <-req.Context().Done():
			t.Error("the request is cut off")
		case <-time.After(200 * time.Millisecond):
		}
		w.WriteHeader(http.StatusAccepted)
	})
	client := c.connect(t, Options{})
	if err := client.DeleteVolume(ctx, idA); err != nil {
		t.Fatal(err)
	}
}

func TestACloudThatHangsIsNotTheCallersDeadline(t *testing.T) {
	c := newTestCloud(t, hang)
	client := c.connect(t, Options{WriteTimeout: time.Second})
	_, err := client.CreateVolume(t.Context(), cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1})
	wanted{1, cloud.ErrUnavailable, true}.check(t, c, err)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v passes for the caller's deadline", err)
	}
}

func TestThrottlingDoesNotOutlastTheCaller(t *testing.T) {
	c := newTestCloud(t, says(429, `{"message": "slow down"}`, "Retry-After", "60"))
	client := c.connect(t, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	start := time.Now()
	_, err := client.CreateVolume(ctx, cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1})
	wanted{1, cloud.ErrUnavailable, false}.check(t, c, err)
	if !contains(err, "slow down") || time.Since(start) > 5*time.Second {
		t.Errorf("after %s: %v", time.Since(start), err)
	}

	c.forget()
	cancelled, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = client.CreateVolume(cancelled, cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1})
	wanted{1, context.Canceled, false}.check(t, c, err)
}

func TestLimitsHoldRequestsBack(t *testing.T) {
	c := newTestCloud(t, says(200, volumeBody(idA)))
	registry := prometheus.NewRegistry()
	client := c.connect(t, Options{Limits: Limits{Reads: 0.1, Burst: 4}, Registerer: registry})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	// The questions for microversions have taken two of the four.
	for range 2 {
		if _, err := client.GetVolume(ctx, idA); err != nil {
			t.Fatal(err)
		}
	}
	_, err := client.GetVolume(ctx, idA)
	wanted{2, context.DeadlineExceeded, false}.check(t, c, err)
	// Writes have a limit of their own, which is none here; both are measured.
	c.serve = says(202, volumeBody(idA))
	if _, err := client.CreateVolume(ctx, cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1}); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(client.metrics.waits); n != 2 {
		t.Errorf("%d kinds of requests are measured", n)
	}
}

func TestAHundredCallsReuseTheirConnections(t *testing.T) {
	c := newTestCloud(t, says(200, volumeBody(idA)))
	client := c.connect(t, Options{})
	remotes := make(chan string, 1000)
	c.serve = func(w http.ResponseWriter, req *http.Request) {
		remotes <- req.RemoteAddr
		answer(w, 200, volumeBody(idA))
	}
	for range 3 {
		errs := make(chan error)
		for range 100 {
			go func() {
				_, err := client.GetVolume(t.Context(), idA)
				errs <- err
			}()
		}
		for range 100 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	}
	close(remotes)
	distinct := map[string]bool{}
	for r := range remotes {
		distinct[r] = true
	}
	if len(distinct) > 150 {
		t.Errorf("%d connections for 300 calls, 100 at a time", len(distinct))
	}
}

func TestNothingSecretIsLoggedAndTheRequestIDIs(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	ctx := logging.Into(t.Context(), zap.New(core))
	c := newTestCloud(t, script(says(503, ""), says(200, volumeBody(idA))))
	client, err := Connect(ctx, c.config(), Options{Version: "1.2.3", UserAgent: []string{"cluster/7"}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.GetVolume(ctx, idA); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateVolume(ctx, cloud.VolumeRequest{Name: "pvc-1", SizeGiB: 1}); err != nil {
		t.Fatal(err)
	}
	// What changes something in the cloud is told without asking for more, and nothing else.
	outcomes := logs.FilterLevelExact(zapcore.InfoLevel).All()
	if len(outcomes) != 1 || outcomes[0].ContextMap()["openstackRequestID"] != "req-1" || outcomes[0].ContextMap()["request"] != "volume_create" {
		t.Errorf("%v", outcomes)
	}
	lines := make([]string, 0, logs.Len())
	for _, entry := range logs.All() {
		lines = append(lines, fmt.Sprintln(entry.Message, entry.ContextMap()))
	}
	text := strings.Join(lines, "")
	for _, secret := range []string{"sesame", "secret-token"} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in the log:\n%s", secret, text)
		}
	}
	for _, part := range []string{"req-1", "/volume/v3/p1/volumes/" + idA, "status:503", "repeated"} {
		if !strings.Contains(text, part) {
			t.Errorf("%s is not in the log:\n%s", part, text)
		}
	}
	agents := c.header("User-Agent")
	slices.Sort(agents)
	if agents = slices.Compact(agents); len(agents) != 1 || !strings.HasPrefix(agents[0], "cluster/7 cinder-csi/1.2.3 gophercloud/") {
		t.Errorf("user agents are %q", agents)
	}
}
