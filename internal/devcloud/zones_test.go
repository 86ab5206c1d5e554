package devcloud_test

import (
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

// zoned is a cloud of two zones with a back end that is in the first.
func zoned(t *testing.T, fallback bool) *client {
	t.Helper()
	cloud := start(t, func(cfg *devcloud.Config) {
		cfg.Servers = append(cfg.Servers, devcloud.Server{Name: "node3", Zone: "az2"})
		cfg.Behaviour = &devcloud.Behaviour{ZoneFallback: fallback, BackendZones: map[string][]string{"flash": {"nova"}}}
	})
	admin := login(t, cloud, "admin")
	for name, zones := range map[string]string{"far": "az2", "both": " az2 ,nova,", "nowhere": "mars,venus"} {
		admin.volume("70", "POST", "/types", `{"volume_type": {"name": "`+name+`", "extra_specs": {"volume_backend_name": "file", "RESKEY:availability_zones": "`+zones+`"}}}`)
	}
	return login(t, cloud, "demo")
}

func TestATypeIsMadeInItsZonesOnly(t *testing.T) {
	const invalid = "Availability zone 'nova' is invalid."
	for _, fallback := range []bool{false, true} {
		c := zoned(t, fallback)
		source := c.create("")
		for fields, want := range map[string]struct{ refusal, status, zone string }{
			`"volume_type": "far", "availability_zone": "az2"`:                                 {status: "available", zone: "az2"},
			`"volume_type": "far"`:                                                             {status: "available", zone: "az2"},
			`"volume_type": "both"`:                                                            {status: "available", zone: "az2"},
			`"volume_type": "both", "availability_zone": "nova"`:                               {status: "available", zone: "nova"},
			`"volume_type": "far", "availability_zone": "nova"`:                                {refusal: invalid},
			`"volume_type": "far", "source_volid": "` + source + `"`:                           {refusal: invalid},
			`"volume_type": "nowhere", "availability_zone": "mars"`:                            {refusal: "Volume type is only supported in these availability zones: ['mars', 'venus']"},
			`"volume_type": "far", "source_volid": "` + source + `","availability_zone":"az2"`: {refusal: "Invalid input received: Volume must be in the same availability zone as the source volume"},
			`"volume_type": "ssd", "availability_zone": "nova"`:                                {status: "available", zone: "nova"},
			`"volume_type": "ssd", "availability_zone": "az2"`:                                 {status: "error", zone: "az2"},
		} {
			if fallback && want.refusal == invalid {
				want.refusal, want.status, want.zone = "", "available", "nova" // where the type is not
			}
			got := c.volume("70", "POST", "/volumes", `{"volume": {"size": 1, `+fields+`}}`)
			if want.refusal != "" {
				got.refuses(t, fields, 400, "badRequest", want.refusal)
				continue
			}
			id := got.member("volume", "id")
			c.await(id, want.status, 0)
			if zone := c.volume("70", "GET", "/volumes/"+id, "").member("volume", "availability_zone"); zone != want.zone {
				t.Errorf("fallback %t: %s: in %s, want %s", fallback, fields, zone, want.zone)
			}
		}
	}
}

func TestNamesAreComparedAndCutAsTheDatabaseDoes(t *testing.T) {
	c := zoned(t, false)
	for name, found := range map[string]bool{"SSD": true, "sSd ": true, "\u0161sd": true, " ssd": false} {
		got := c.volume("70", "POST", "/volumes", `{"volume": {"size": 1, "volume_type": "`+name+`"}}`)
		if found && got.member("volume", "volume_type") != "ssd" {
			t.Errorf("type %q: %d %s", name, got.status, got.text)
		}
		if !found && got.status != 404 {
			t.Errorf("type %q: %d %s", name, got.status, got.text)
		}
	}
	v := c.volume("70", "POST", "/volumes", `{"volume": {"size": 1, "name": "\t data\u00a0 ", "description": " d\n"}}`)
	if v.member("volume", "name") != "data" || v.member("volume", "description") != "d" {
		t.Errorf("white space stays: %s", v.text)
	}
	id := v.member("volume", "id")
	c.await(id, "available", 0)
	if got := c.volume("70", "GET", "/volumes/"+strings.ToUpper(id), ""); got.member("volume", "id") != id {
		t.Errorf("an id in capitals: %d %s", got.status, got.text)
	}
}

func TestAKeyWithASlashHasNoAddress(t *testing.T) {
	c := zoned(t, false)
	id := c.create(`, "metadata": {"a/b": "1", "c": "2"}`)
	for path, want := range map[string]int{"a/b": 404, "a%2Fb": 404, "C": 404, "c": 200} {
		if got := c.volume("70", "DELETE", "/volumes/"+id+"/metadata/"+path, ""); got.status != want {
			t.Errorf("%s: %d %s", path, got.status, got.text)
		}
	}
	if got := c.volume("70", "GET", "/volumes/detail", ""); !strings.Contains(got.text, `"metadata":{"a/b":"1"}`) {
		t.Errorf("got %s", got.text)
	}
}
