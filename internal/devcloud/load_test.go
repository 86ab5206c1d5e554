package devcloud_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

// TestAThousandVolumesByAHundredClients takes a thousand volumes through their
// lives at once and finds nothing left and nothing refused.
func TestAThousandVolumesByAHundredClients(t *testing.T) {
	const volumes, clients, servers = 1000, 100, 50
	cloud := start(t, func(cfg *devcloud.Config) {
		cfg.Latency = devcloud.Fast()
		for i := range servers {
			cfg.Servers = append(cfg.Servers, devcloud.Server{Name: fmt.Sprintf("load%d", i)})
		}
	})
	c := login(t, cloud, "demo")
	c.every = 100 * time.Millisecond // mostly enough for a step, so that few requests only wait
	work := make(chan int)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := range work {
				if err := fullLife(c, cloud.ServerID(fmt.Sprintf("load%d", i%servers))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range volumes {
		work <- i
	}
	close(work)
	wg.Wait()
	if got := c.volume("70", "GET", "/volumes", ""); got.text != `{"volumes":[]}` {
		t.Errorf("left: %s", got.text)
	}
	r, err := cloud.Admin().Requests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d requests, at most %d at once", r.Total, r.MaxInFlight)
}

func fullLife(c *client, server string) error {
	base := "/volume/v3/" + c.project + "/volumes"
	got, err := c.try("POST", base, "volume 3.70", `{"volume": {"size": 1}}`)
	if err != nil || got.status != http.StatusAccepted {
		return fmt.Errorf("create: %d %s %w", got.status, got.text, err)
	}
	id := got.member("volume", "id")
	time.Sleep(c.every)
	c.await(id, "available", 0)
	got, err = c.try("POST", "/compute/v2.1/servers/"+server+"/os-volume_attachments", "compute 2.79", `{"volumeAttachment": {"volumeId": "`+id+`"}}`)
	if err != nil || got.status != http.StatusOK {
		return fmt.Errorf("attach: %d %s %w", got.status, got.text, err)
	}
	time.Sleep(c.every)
	c.await(id, "in-use", 1)
	got, err = c.try("DELETE", "/compute/v2.1/servers/"+server+"/os-volume_attachments/"+id, "compute 2.79", "")
	if err != nil || got.status != http.StatusAccepted {
		return fmt.Errorf("detach: %d %s %w", got.status, got.text, err)
	}
	time.Sleep(c.every)
	c.await(id, "available", 0)
	got, err = c.try("DELETE", base+"/"+id, "volume 3.70", "")
	if err != nil || got.status != http.StatusAccepted {
		return fmt.Errorf("delete: %d %s %w", got.status, got.text, err)
	}
	time.Sleep(c.every)
	c.await(id, "gone", 0)
	return nil
}
