package devcloud_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

func plan(t *testing.T, cloud *devcloud.Cloud, faults ...admin.Fault) {
	t.Helper()
	if err := cloud.Admin().SetFaults(t.Context(), faults...); err != nil {
		t.Fatal(err)
	}
}

func unplan(t *testing.T, cloud *devcloud.Cloud) {
	t.Helper()
	if err := cloud.Admin().ClearFaults(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestFaultsSpoilRequests(t *testing.T) {
	create := func(c *client) (answer, error) {
		return c.try("POST", "/volume/v3/"+c.project+"/volumes", "volume 3.70", `{"volume": {"size": 1, "name": "pvc-1"}}`)
	}
	for name, tc := range map[string]struct {
		fault  admin.Fault
		status int // 0: no answer at all
		body   string
		acted  bool
		retry  string
	}{
		"404 before acting":         {fault: admin.Fault{Before: 404}, status: 404, body: `{"itemNotFound":{"code":404`},
		"409 before acting":         {fault: admin.Fault{Before: 409}, status: 409, body: `{"conflictingRequest":{"code":409`},
		"413 before acting":         {fault: admin.Fault{Before: 413}, status: 413, body: `{"overLimit":{"code":413`},
		"429 with Retry-After":      {fault: admin.Fault{Before: 429, RetryAfter: 1500 * time.Millisecond}, status: 429, body: `{"overLimit":{"code":429`, retry: "2"},
		"500 before acting":         {fault: admin.Fault{Before: 500}, status: 500, body: `{"computeFault":{"code":500`},
		"503 of a proxy":            {fault: admin.Fault{Before: 503}, status: 503, body: "<html>"},
		"a body of one's own":       {fault: admin.Fault{Before: 400, Body: `{"x": 1}`}, status: 400, body: `{"x": 1}`},
		"500 after acting":          {fault: admin.Fault{After: 500}, status: 500, body: `{"computeFault":{"code":500`, acted: true},
		"dropped after acting":      {fault: admin.Fault{Drop: true}, acted: true},
		"dropped before acting":     {fault: admin.Fault{DropBefore: true}},
		"half a body":               {fault: admin.Fault{Truncate: true}, status: 202, body: `{"volume":`, acted: true},
		"of another operation":      {fault: admin.Fault{Operation: "volume.delete", Before: 500}, status: 202, acted: true},
		"of a pattern":              {fault: admin.Fault{Operation: "volume.*", Before: 500}, status: 500},
		"of a name":                 {fault: admin.Fault{Resource: "pvc-1", Before: 500}, status: 500},
		"of another name":           {fault: admin.Fault{Resource: "pvc-2", Before: 500}, status: 202, acted: true},
		"of a second request":       {fault: admin.Fault{Skip: 1, Before: 500}, status: 202, acted: true},
		"of a probability of never": {fault: admin.Fault{Probability: 1e-12, Before: 500}, status: 202, acted: true},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := start(t, nil)
			c := login(t, cloud, "demo")
			plan(t, cloud, tc.fault)
			got, err := create(c)
			if tc.status == 0 && err == nil || tc.status != 0 && got.status != tc.status {
				t.Errorf("answered %d %s %v, want %d", got.status, got.text, err, tc.status)
			}
			if truncated := tc.fault.Truncate; truncated != (err != nil && tc.status != 0) {
				t.Errorf("error %v", err)
			}
			if !strings.HasPrefix(got.text, tc.body) || tc.retry != "" && got.header.Get("Retry-After") != tc.retry {
				t.Errorf("answered %s %v, want %s", got.text, got.header, tc.body)
			}
			unplan(t, cloud)
			list, _ := c.volume("70", "GET", "/volumes", "").ids("volumes")
			if acted := len(list) == 1; acted != tc.acted {
				t.Errorf("acted: %v, want %v", acted, tc.acted)
			}
		})
	}
}

func TestAFaultEndsAfterItsTimes(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	plan(t, cloud, admin.Fault{Operation: "volume.list", Times: 2, Before: 503}, admin.Fault{Operation: "volume.list", Skip: 1, Times: 1, Before: 409})
	var got []int
	for range 5 {
		got = append(got, c.volume("70", "GET", "/volumes", "").status)
	}
	want := []int{503, 503, 200, 409, 200}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	list, err := cloud.Admin().Faults(t.Context())
	if err != nil || len(list) != 2 || list[0].Hits != 2 || list[1].Hits != 1 || list[0].ID == list[1].ID {
		t.Errorf("plan: %+v %v", list, err)
	}
}

func TestAFaultOfOneThingLeavesTheOthersAlone(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	v, w := c.create(`, "name": "one"`), c.create(`, "name": "two"`)
	for _, resource := range []string{v, "one"} {
		plan(t, cloud, admin.Fault{Operation: "attachment.create", Resource: resource, Before: 409})
		if got := c.attach("93", cloud.ServerID("node1"), v); got.status != http.StatusConflict {
			t.Errorf("%s: %d", resource, got.status)
		}
	}
	if got := c.attach("93", cloud.ServerID("node1"), w); got.status != http.StatusOK {
		t.Errorf("the other: %d %s", got.status, got.text)
	}
}

func TestADelayIsWaitedFor(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	const delay = 60 * time.Millisecond
	plan(t, cloud, admin.Fault{Operation: "volume.list", Delay: delay})
	begin := time.Now()
	c.volume("70", "GET", "/volumes", "")
	if took := time.Since(begin); took < delay {
		t.Errorf("took %v", took)
	}
}

func TestWhatIsStuckGoesOnWhenTheFaultIsCleared(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	server, v := cloud.ServerID("node1"), c.create("")
	plan(t, cloud, admin.Fault{Operation: "attachment.create", Times: 1, Stuck: true})
	c.attach("93", server, v)
	time.Sleep(20 * time.Millisecond) // it would be long done
	if status, n := c.look(v); status != "reserved" || n != 0 {
		t.Errorf("%s/%d", status, n)
	}
	unplan(t, cloud)
	c.await(v, "in-use", 1)
	plan(t, cloud, admin.Fault{Operation: "attachment.delete", Stuck: true})
	c.detach(server, v)
	time.Sleep(20 * time.Millisecond)
	if status, n := c.look(v); status != "detaching" || n != 1 {
		t.Errorf("%s/%d", status, n)
	}
	c.detach(server, v).refuses(t, "detach twice", 400, "badRequest", undetachable)
	unplan(t, cloud)
	c.await(v, "available", 0)
}

func TestAHungComputeLeavesAGhost(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	server, v := cloud.ServerID("node1"), c.create("")
	plan(t, cloud, admin.Fault{Operation: "attachment.create", Times: 1, Async: "ghost", After: 500})
	got := c.attach("93", server, v)
	if got.status != 500 || !strings.Contains(got.text, "MessagingTimeout") {
		t.Errorf("%d %s", got.status, got.text)
	}
	c.await(v, "available", 0)
	if list := c.nova(server); len(list) != 1 || list[0] != v {
		t.Errorf("Nova lists %v", list)
	}
	c.attach("93", server, v).refuses(t, "attach again", 400, "badRequest", "Invalid volume: volume "+v+" is already attached to instances: "+server)
	c.detach(server, v).refuses(t, "detach", 400, "badRequest", undetachable)
	if got := c.volume("70", "DELETE", "/volumes/"+v, ""); got.status != http.StatusAccepted {
		t.Errorf("delete: %d %s", got.status, got.text)
	}
	c.await(v, "gone", 0)
	c.compute("93", "DELETE", "/servers/"+server, "")
}

func TestRequestsAreCounted(t *testing.T) {
	cloud := start(t, nil)
	ctx, steer := t.Context(), cloud.Admin()
	c := login(t, cloud, "demo")
	if err := steer.ResetRequests(ctx); err != nil {
		t.Fatal(err)
	}
	c.volume("70", "POST", "/volumes", `{"volume": {"size": 1, "name": "a"}}`)
	c.volume("70", "GET", "/volumes/"+missing, "")
	c.volume("70", "GET", "/volumes/detail", "")
	c.volume("70", "POST", "/volumes/"+missing+"/action", `{"os-extend": {"new_size": 2}}`)
	c.do("GET", "/metadata/node1/openstack/latest/meta_data.json", "", "")
	first, err := steer.Requests(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"volume.create": 1, "volume.get": 1, "volume.list": 1, "volume.extend": 1}
	for op, n := range want {
		if first.Count(op) != n {
			t.Errorf("%s: %d", op, first.Count(op))
		}
	}
	if first.Total != 4 || first.Reads != 2 || first.Writes != 2 || first.Metadata != 1 || first.Answers["volume.get"]["404"] != 1 || first.Statuses["404"] != 2 {
		t.Errorf("%+v", first)
	}
	c.volume("70", "GET", "/volumes", "")
	second, err := steer.Requests(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d := second.Since(first); d.Total != 1 || len(d.Operations) != 1 || d.Count("volume.list") != 1 {
		t.Errorf("since: %+v", d)
	}
}

func TestTheAdministratorsClientSteersTheCloud(t *testing.T) {
	cloud := start(t, nil)
	ctx, steer := t.Context(), cloud.Admin()
	c := login(t, cloud, "demo")
	added, err := steer.AddServer(ctx, admin.Server{Name: "node3", Zone: "az3"})
	if err != nil || added.ID != cloud.ServerID("node3") {
		t.Fatalf("%+v %v", added, err)
	}
	if again, err := steer.AddServer(ctx, admin.Server{Name: "node3"}); err != nil || again.ID != added.ID || again.Zone != "az3" {
		t.Errorf("again: %+v %v", again, err)
	}
	v := c.create(`, "availability_zone": "az3"`)
	c.attach("93", added.ID, v)
	c.await(v, "in-use", 1)
	if err := steer.DeleteServer(ctx, "node3"); err != nil {
		t.Fatal(err)
	}
	c.await(v, "available", 0)
	if err := steer.DeleteServer(ctx, "node3"); err != nil {
		t.Errorf("a second time: %v", err)
	}
	again, err := steer.AddServer(ctx, admin.Server{Name: "node3", Zone: "az4"})
	if err != nil || again.ID == added.ID || again.Zone != "az4" {
		t.Errorf("a new server of the name: %+v %v", again, err)
	}
	c.attach("93", cloud.ServerID("node1"), v)
	if err := steer.Wipe(ctx); err != nil {
		t.Fatal(err)
	}
	if list, err := steer.Volumes(ctx); err != nil || len(list) != 0 {
		t.Errorf("%+v %v", list, err)
	}
	if list := c.nova(cloud.ServerID("node1")); len(list) != 0 {
		t.Errorf("Nova lists %v", list)
	}
	for name, err := range map[string]error{
		"fault":     steer.SetFaults(ctx, admin.Fault{Before: 42}),
		"pattern":   steer.SetFaults(ctx, admin.Fault{Operation: "[", Before: 404}),
		"async":     steer.SetFaults(ctx, admin.Fault{Async: "nonsense"}),
		"behaviour": steer.SetBehaviour(ctx, admin.Behaviour{ComputeVersion: "9.9"}),
	} {
		if err == nil {
			t.Errorf("a wrong %s is accepted", name)
		}
	}
}

func TestASlowRequestEndsWithItsClient(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	plan(t, cloud, admin.Fault{Operation: "volume.list", Delay: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, cloud.URL()+"/volume/v3/"+c.project+"/volumes", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := c.http.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Error("answered")
	}
	c.until("the request to end", func() (string, bool) {
		r, err := cloud.Admin().Requests(t.Context())
		return "", err == nil && r.InFlight == 0
	})
}
