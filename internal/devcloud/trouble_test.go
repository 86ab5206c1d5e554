package devcloud_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

// hanging is a cloud whose Nova soon notices that a compute hangs.
func hanging(t *testing.T, rpcTimeout, downAfter time.Duration) *devcloud.Cloud {
	t.Helper()
	return start(t, func(cfg *devcloud.Config) {
		cfg.Behaviour = &devcloud.Behaviour{RPCTimeout: state.Span(rpcTimeout), DownAfter: state.Span(downAfter)}
	})
}

func (c *client) hang(server string) {
	c.t.Helper()
	if err := c.cloud.Admin().HangCompute(c.t.Context(), server); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) wake(server string) {
	c.t.Helper()
	if err := c.cloud.Admin().WakeCompute(c.t.Context(), server); err != nil {
		c.t.Fatal(err)
	}
}

func TestAComputeThatHangs(t *testing.T) {
	cloud := hanging(t, 300*time.Millisecond, 200*time.Millisecond)
	c := login(t, cloud, "demo")
	server, healthy := cloud.ServerID("node1"), cloud.ServerID("node2")
	going, staying, coming, other := c.create(""), c.create(""), c.create(""), c.create("")
	for _, v := range []string{going, staying} {
		c.attach("93", server, v)
		c.await(v, "in-use", 1)
	}
	path := func(server, v string) string { return "/servers/" + server + "/os-volume_attachments/" + v }
	c.hang("node1")
	if got := c.compute("60", "DELETE", path(server, going), ""); got.status != http.StatusAccepted {
		t.Errorf("detach: %d %s", got.status, got.text)
	}
	c.attach("60", healthy, other) // a healthy server is as fast as ever
	c.await(other, "in-use", 1)
	start := time.Now()
	got := c.attach("60", server, coming)
	if took := time.Since(start); got.status != 500 || !strings.Contains(got.text, "MessagingTimeout") || took < 300*time.Millisecond {
		t.Errorf("attach: after %s %d %s", took, got.status, got.text)
	}
	c.await(going, "detaching", 1)
	c.await(coming, "available", 0)
	c.compute("60", "DELETE", path(server, staying), "").refuses(t, "detach", 409, "conflictingRequest", "Service is unavailable at this time.")
	if got := login(t, cloud, "admin").compute("60", "GET", "/os-services?binary=nova-compute", ""); strings.Count(got.text, `"state":"down"`) != 1 {
		t.Errorf("services: %s", got.text)
	}
	c.wake("node1")
	c.await(going, "available", 0)
	if got := c.compute("60", "GET", path(server, coming), ""); got.status != http.StatusOK {
		t.Errorf("no ghost: %d %s", got.status, got.text)
	}
	c.await(coming, "available", 0)
	c.attach("60", server, coming).refuses(t, "attach", 400, "badRequest", "Invalid volume: volume "+coming+" is already attached to instances: "+server)
}

func TestAComputeThatGoesOnInTime(t *testing.T) {
	cloud := hanging(t, time.Minute, time.Minute)
	c := login(t, cloud, "demo")
	server := cloud.ServerID("node1")
	c.hang("node1")
	var wg sync.WaitGroup
	for range 3 {
		v := c.create("")
		wg.Go(func() {
			if got := c.attach("60", server, v); got.status != http.StatusOK {
				t.Errorf("attach: %d %s", got.status, got.text)
			}
			c.await(v, "in-use", 1)
		})
	}
	time.Sleep(100 * time.Millisecond)
	c.wake("node1")
	wg.Wait()
}

func TestAHungComputeDoesNotKeepTheCloudFromStopping(t *testing.T) {
	cloud := hanging(t, time.Minute, time.Minute)
	c := login(t, cloud, "demo")
	v := c.create("")
	c.attach("60", cloud.ServerID("node1"), v)
	c.await(v, "in-use", 1)
	c.hang("node1")
	c.compute("60", "DELETE", "/servers/"+cloud.ServerID("node1")+"/os-volume_attachments/"+v, "")
	waiting := c.create("")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = http.Post(cloud.URL()+"/compute/v2.1/servers/"+cloud.ServerID("node1")+"/os-volume_attachments", "application/json", strings.NewReader(waiting)) //nolint:noctx,bodyclose // the cloud goes
	}()
	start := time.Now()
	if err := cloud.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %s", took)
	}
	<-ended
}

func TestStatesInWhichAServerTakesNoDisk(t *testing.T) {
	cloud := hanging(t, time.Minute, time.Minute)
	c, boss := login(t, cloud, "demo"), login(t, cloud, "admin")
	server := cloud.ServerID("node1")
	in, out := c.create(""), c.create("")
	c.attach("93", server, in)
	c.await(in, "in-use", 1)
	act := func(who *client, body string) {
		if got := who.compute("60", "POST", "/servers/"+server+"/action", body); got.status >= 300 {
			t.Errorf("%s: %d %s", body, got.status, got.text)
		}
	}
	refused := func(attach, detach string) {
		t.Helper()
		c.attach("60", server, out).refuses(t, "attach", 409, "conflictingRequest", attach)
		c.compute("60", "DELETE", "/servers/"+server+"/os-volume_attachments/"+in, "").refuses(t, "detach", 409, "conflictingRequest", detach)
	}
	state := func(attr, state string) {
		t.Helper()
		text := func(method string) string {
			return "Cannot '" + method + "' instance " + server + " while it is in " + attr + " " + state
		}
		refused(text("attach_volume"), text("detach_volume"))
	}
	act(c, `{"lock": null}`)
	refused("Instance "+server+" is locked", "Instance "+server+" is locked")
	act(c, `{"unlock": null}`)
	act(boss, `{"os-resetState": {"state": "error"}}`)
	state("vm_state", "error")
	act(boss, `{"os-resetState": {"state": "active"}}`)
	act(c, `{"rescue": {}}`)
	state("vm_state", "rescued")
	act(c, `{"unrescue": null}`)
	act(c, `{"suspend": null}`)
	state("vm_state", "suspended")
	act(c, `{"resume": null}`)
	c.hang("node1")
	act(c, `{"reboot": {"type": "HARD"}}`)
	state("task_state", "rebooting_hard")
	c.wake("node1")
	act(c, `{"pause": null}`) // a paused server takes disks
	c.attach("60", server, out)
	c.await(out, "in-use", 1)
}

func TestAGuestWithoutAPlaceForOneMoreDisk(t *testing.T) {
	cloud := start(t, func(cfg *devcloud.Config) { cfg.Behaviour = &devcloud.Behaviour{Slots: 2} })
	c := login(t, cloud, "demo")
	server := cloud.ServerID("node1")
	var last string
	for i := range 3 {
		last = c.create("")
		if got := c.attach("60", server, last); got.status != http.StatusOK {
			t.Fatalf("attach: %d %s", got.status, got.text)
		}
		if i < 2 {
			c.await(last, "in-use", 1)
		}
	}
	c.await(last, "available", 0)
	if got := c.compute("60", "GET", "/servers/"+server+"/os-volume_attachments/"+last, ""); got.status != http.StatusNotFound {
		t.Errorf("still listed: %d %s", got.status, got.text)
	}
	if got := c.compute("60", "GET", "/servers/"+server+"/os-instance-actions", ""); !strings.Contains(got.text, `"message":"Error"`) {
		t.Errorf("the server's history: %s", got.text)
	}
}

func TestACreationThatIsLost(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	faults := func(f admin.Fault) {
		if err := cloud.Admin().SetFaults(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	faults(admin.Fault{Operation: "volume.create", Times: 1, Lost: true})
	lost := c.volume("70", "POST", "/volumes", `{"volume": {"size": 1, "name": "x"}}`).member("volume", "id")
	faults(admin.Fault{Operation: "volume.create", Times: 1, Stuck: true})
	stuck := c.volume("70", "POST", "/volumes", `{"volume": {"size": 1, "name": "x"}}`).member("volume", "id")
	boss := login(t, cloud, "admin")
	for deadline := time.Now().Add(10 * time.Second); boss.volume("70", "GET", "/volumes/"+stuck, "").member("volume", "os-vol-host-attr:host") == ""; {
		if time.Now().After(deadline) {
			t.Fatal("no host")
		}
	}
	if err := cloud.Admin().ClearFaults(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.await(stuck, "available", 0)
	c.await(lost, "creating", 0)
	if got := c.volume("70", "DELETE", "/volumes/"+lost, ""); got.status != http.StatusAccepted {
		t.Errorf("delete: %d %s", got.status, got.text)
	}
	if got := c.volume("70", "GET", "/volumes/"+lost, ""); got.status != http.StatusNotFound {
		t.Errorf("still there: %d %s", got.status, got.text)
	}
}

func TestARequestThatAProxySendsTwice(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	if err := cloud.Admin().SetFaults(t.Context(), admin.Fault{Operation: "volume.create", Times: 1, Twice: true}); err != nil {
		t.Fatal(err)
	}
	answered := c.volume("70", "POST", "/volumes", `{"volume": {"size": 1, "name": "twin"}}`).member("volume", "id")
	twins, _ := c.volume("70", "GET", "/volumes/detail?name=twin", "").ids("volumes")
	if len(twins) != 2 || twins[0] != answered {
		t.Errorf("got %v, answered %s", twins, answered)
	}
}
