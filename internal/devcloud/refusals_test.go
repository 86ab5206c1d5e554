package devcloud_test

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
)

// requestID is replaced in the messages that Nova passes on from Cinder.
var requestID = regexp.MustCompile(`req-[0-9a-f-]{36}`)

const (
	undeletable  = "Invalid volume: Volume status must be available or error or error_restoring or error_extending or error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be disassociated from snapshots after volume transfer."
	undetachable = "Invalid volume: Invalid input received: Invalid volume: Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach. (HTTP 400) (Request-ID: req-x)"
	badForce     = "Since microversion 3.66 the 'force' flag is invalid for this request.  For backward compatability, however, when the 'force' flag is passed with a value evaluating to True, it is silently ignored." //nolint:misspell // the services' own spelling
)

func (a answer) refuses(t *testing.T, name string, status int, kind, message string) {
	t.Helper()
	if got := requestID.ReplaceAllString(a.member(kind, "message"), "req-x"); a.status != status || got != message {
		t.Errorf("%s:\n got %d %s\nwant %d %s: %s", name, a.status, a.text, status, kind, message)
	}
	if code := a.member(kind, "code"); code != strconv.Itoa(status) {
		t.Errorf("%s: code %s", name, code)
	}
}

func TestCinderRefusesBadVolumes(t *testing.T) {
	c := login(t, start(t, func(cfg *devcloud.Config) {
		cfg.Servers = append(cfg.Servers, devcloud.Server{Name: "node3", Zone: "az2"})
	}), "demo")
	source := c.create("")
	long := strings.Repeat("v", 256)
	for name, tc := range map[string]struct {
		body    string
		status  int
		kind    string
		message string
	}{
		"unknown type":        {`"size": 1, "volume_type": "nope"`, 404, "itemNotFound", "Volume type with name nope could not be found."},
		"unknown zone":        {`"size": 1, "availability_zone": "mars"`, 400, "badRequest", "Availability zone 'mars' is invalid."},
		"size 0":              {`"size": 0`, 400, "badRequest", "Invalid input for field/attribute size. Value: 0. 0 is less than the minimum of 1"},
		"size -1":             {`"size": -1`, 400, "badRequest", "Invalid input for field/attribute size. Value: -1. -1 is less than the minimum of 1"},
		"size x":              {`"size": "x"`, 400, "badRequest", "Invalid input for field/attribute size. Value: x. 'x' does not match '^[0-9]+$'"},
		"no size":             {`"name": "x"`, 400, "badRequest", "The server could not comply with the request since it is either malformed or otherwise incorrect."},
		"unknown key":         {`"size": 1, "foo": "x"`, 400, "badRequest", "Invalid input for field/attribute volume. Value: {'size': 1, 'foo': 'x'}. Additional properties are not allowed ('foo' was unexpected)"},
		"unknown snapshot":    {`"size": 1, "snapshot_id": "` + missing + `"`, 404, "itemNotFound", "Snapshot " + missing + " could not be found."},
		"unknown source":      {`"size": 1, "source_volid": "` + missing + `"`, 404, "itemNotFound", "Volume " + missing + " could not be found."},
		"unknown backup":      {`"size": 1, "backup_id": "` + missing + `"`, 404, "itemNotFound", "Backup " + missing + " could not be found."},
		"long name":           {`"size": 1, "name": "` + long + `"`, 400, "badRequest", "Invalid input received: name has 256 characters, more than 255."},
		"long metadata":       {`"size": 1, "metadata": {"k": "` + long + `"}`, 400, "badRequest", "Invalid input for field/attribute k. Value: " + long + ". '" + long + "' is too long"},
		"metadata of numbers": {`"size": 1, "metadata": {"k": 1}`, 400, "badRequest", "Invalid input for field/attribute k. Value: 1. 1 is not of type 'string'"},
		"clone in other zone": {`"size": 1, "source_volid": "` + source + `", "availability_zone": "az2"`, 400, "badRequest", "Invalid input received: Volume must be in the same availability zone as the source volume"},
		"past the gigabytes":  {`"size": 100000000`, 413, "overLimit", "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 100000000G, quota is 10000000G and 1G has been consumed."},
	} {
		c.volume("70", "POST", "/volumes", `{"volume": {`+tc.body+`}}`).refuses(t, name, tc.status, tc.kind, tc.message)
	}
	kind := c.volume("70", "GET", "/types", "")
	id := regexp.MustCompile(`"id":"([^"]+)","name":"ssd"`).FindStringSubmatch(kind.text)[1]
	c.volume("70", "POST", "/volumes", `{"volume": {"size": 1, "source_volid": "`+source+`", "volume_type": "ssd"}}`).
		refuses(t, "clone of another backend's type", 400, "badRequest", "Invalid input received: Invalid volume_type provided: "+id+" (requested type is not compatible; either match source volume, or omit type argument).")
}

func TestCinderRefusesWhatDoesNotFitTheVolume(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	server := cloud.ServerID("node1")
	v := c.create("")
	extend := func(minor, size string) answer {
		return c.volume(minor, "POST", "/volumes/"+v+"/action", `{"os-extend": {"new_size": `+size+`}}`)
	}
	extend("70", "0").refuses(t, "shrink", 400, "badRequest", "Invalid input for field/attribute new_size. Value: 0. 0 is less than the minimum of 1")
	extend("70", "1").refuses(t, "same size", 400, "badRequest", "Invalid input received: New size for extend must be greater than current size. (current: 1, extended: 1).")
	extend("70", "20000000").refuses(t, "past quota", 413, "overLimit", "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 19999999G, quota is 10000000G and 1G has been consumed.")
	c.attach("93", server, v)
	c.await(v, "in-use", 1)
	for _, minor := range []string{"41", ""} {
		extend(minor, "2").refuses(t, "extend in use at "+minor, 400, "badRequest", "Invalid volume: Volume "+v+" status must be '{'status': 'available'}' to extend, currently in-use.")
	}
	if got := extend("42", "2"); got.status != http.StatusAccepted {
		t.Errorf("extend in use: %d %s", got.status, got.text)
	}
	c.await(v, "in-use", 1)
	c.volume("70", "DELETE", "/volumes/"+v, "").refuses(t, "delete in use", 400, "badRequest", undeletable)
	c.volume("70", "DELETE", "/volumes/"+v+"?cascade=true", "").refuses(t, "cascade in use", 400, "badRequest", undeletable)
	c.volume("70", "DELETE", "/volumes/"+v+"?force=true", "").refuses(t, "force", 403, "forbidden", "Policy doesn't allow volume:force_delete to be performed.")
	c.volume("70", "POST", "/volumes/"+v+"/action", `{"os-detach": {}}`).refuses(t, "os-detach", 409, "conflictingRequest", "ConflictNovaUsingAttachment: Detach volume from instance "+server+" using the Compute API")
	snapshot := func(minor, force string) answer {
		return c.volume(minor, "POST", "/snapshots", `{"snapshot": {"volume_id": "`+v+`"`+force+`}}`)
	}
	snapshot("65", "").refuses(t, "snapshot in use", 400, "badRequest", "Invalid volume: Volume "+v+" status must be available, but current status is: in-use.")
	snapshot("70", `, "force": false`).refuses(t, "force false", 400, "badRequest", badForce)
	for minor, force := range map[string]string{"65": `, "force": true`, "66": "", "70": `, "force": true`} {
		if got := snapshot(minor, force); got.status != http.StatusAccepted {
			t.Errorf("snapshot at 3.%s%s: %d %s", minor, force, got.status, got.text)
		}
	}
	c.volume("70", "POST", "/backups", `{"backup": {"volume_id": "`+v+`"}}`).refuses(t, "backup in use", 400, "badRequest", "Invalid volume: Backing up an in-use volume must use the force flag.")
}

func TestCinderRefusesWithAnApplicationCredentialWhatItCannotAskNova(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	v := c.create("")
	c.attach("93", cloud.ServerID("node1"), v)
	c.await(v, "in-use", 1)
	a := c.account("demo")
	c.token = ""
	got := c.do("POST", "/identity/v3/auth/tokens", "", `{"auth": {"identity": {"methods": ["application_credential"], "application_credential": {"id": "`+a.CredentialID+`", "secret": "`+a.CredentialSecret+`"}}}}`)
	c.token = got.header.Get("X-Subject-Token")
	c.volume("70", "POST", "/volumes/"+v+"/action", `{"os-detach": {}}`).refuses(t, "os-detach", 500, "computeFault", "The server has either erred or is incapable of performing the requested operation.")
}

func TestCinderRefusesAboutCopies(t *testing.T) {
	c := login(t, start(t, nil), "demo")
	v := c.create("")
	c.volume("70", "POST", "/volumes/"+v+"/action", `{"os-extend": {"new_size": 2}}`)
	c.await(v, "available", 0)
	s := c.volume("70", "POST", "/snapshots", `{"snapshot": {"volume_id": "`+v+`"}}`).member("snapshot", "id")
	c.settle("/snapshots/"+s, "snapshot", "available")
	c.volume("70", "POST", "/volumes", `{"volume": {"size": 1, "snapshot_id": "`+s+`"}}`).
		refuses(t, "too small", 400, "badRequest", "Invalid input received: Volume size '1'GB cannot be smaller than the snapshot size 2GB. They must be >= original snapshot size.")
	c.volume("70", "DELETE", "/volumes/"+v, "").refuses(t, "has a snapshot", 400, "badRequest", undeletable)
	full := c.volume("70", "POST", "/backups", `{"backup": {"volume_id": "`+v+`"}}`).member("backup", "id")
	c.settle("/backups/"+full, "backup", "available")
	increment := c.volume("70", "POST", "/backups", `{"backup": {"volume_id": "`+v+`", "incremental": true}}`).member("backup", "id")
	if got := c.settle("/backups/"+increment, "backup", "available"); got.member("backup", "is_incremental") != "true" {
		t.Errorf("incremental: %s", got.text)
	}
	c.volume("70", "DELETE", "/backups/"+full, "").refuses(t, "has increments", 400, "badRequest", "Invalid backup: Incremental backups exist for this backup.")
	small := c.create("")
	c.volume("70", "POST", "/volumes/"+small+"/metadata", `{"metadata": {}}`)
	if got := c.volume("70", "DELETE", "/volumes/"+v+"?cascade=true", ""); got.status != http.StatusAccepted {
		t.Fatalf("cascade: %d %s", got.status, got.text)
	}
	c.await(v, "gone", 0)
	if got := c.volume("70", "GET", "/snapshots/"+s, ""); got.status != http.StatusNotFound {
		t.Errorf("the snapshot is left: %s", got.text)
	}
	for kind, path := range map[string]string{"Volume": "/volumes/", "Snapshot": "/snapshots/", "Backup": "/backups/"} {
		for _, method := range []string{"GET", "DELETE"} {
			c.volume("70", method, path+missing, "").refuses(t, method+path, 404, "itemNotFound", kind+" "+missing+" could not be found.")
		}
	}
	c.volume("70", "GET", "/volumes/abc", "").refuses(t, "no uuid", 404, "itemNotFound", "Volume abc could not be found.")
	c.volume("70", "POST", "/backups/"+missing+"/restore", `{"restore": {}}`).refuses(t, "restore", 404, "itemNotFound", "Backup "+missing+" could not be found.")
	c.volume("70", "POST", "/snapshots", `{"snapshot": {"volume_id": "`+missing+`"}}`).refuses(t, "snapshot", 404, "itemNotFound", "Volume "+missing+" could not be found.")
}

func TestOthersSeeNothing(t *testing.T) {
	cloud := start(t, nil)
	c, other := login(t, cloud, "demo"), login(t, cloud, "other")
	v := c.create("")
	other.volume("70", "GET", "/volumes/"+v, "").refuses(t, "get", 404, "itemNotFound", "Volume "+v+" could not be found.")
	if got := other.volume("70", "GET", "/volumes", ""); got.text != `{"volumes":[]}` {
		t.Errorf("list: %s", got.text)
	}
	other.project = c.project
	other.volume("70", "GET", "/volumes", "").refuses(t, "url", 400, "badRequest", "Malformed request url")
	c.volume("70", "GET", "/scheduler-stats/get_pools", "").refuses(t, "pools", 403, "forbidden", "Policy doesn't allow scheduler_extension:scheduler_stats:get_pools to be performed.")
	if got := login(t, cloud, "admin").volume("70", "GET", "/scheduler-stats/get_pools?detail=true", ""); got.status != http.StatusOK || !strings.Contains(got.text, "free_capacity_gb") {
		t.Errorf("pools of the admin: %d %s", got.status, got.text)
	}
}

func TestQuotasAreKept(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	v := c.create("")
	create := func(size string) answer { return c.volume("70", "POST", "/volumes", `{"volume": {"size": `+size+`}}`) }
	extend := func(size string) answer {
		return c.volume("70", "POST", "/volumes/"+v+"/action", `{"os-extend": {"new_size": `+size+`}}`)
	}
	for name, tc := range map[string]struct {
		quotas  map[string]int64
		act     func() answer
		message string
	}{
		"volumes":             {map[string]int64{"volumes": 1}, func() answer { return create("1") }, "VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes'."},
		"gigabytes":           {map[string]int64{"gigabytes": 2}, func() answer { return create("5") }, "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 5G, quota is 2G and 1G has been consumed."},
		"extend":              {map[string]int64{"gigabytes": 2}, func() answer { return extend("6") }, "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 5G, quota is 2G and 1G has been consumed."},
		"snapshots":           {map[string]int64{"snapshots": 0}, func() answer { return c.volume("70", "POST", "/snapshots", `{"snapshot": {"volume_id": "`+v+`"}}`) }, "SnapshotLimitExceeded: Maximum number of snapshots allowed (0) exceeded"},
		"one volume":          {map[string]int64{"per_volume_gigabytes": 3}, func() answer { return create("5") }, "VolumeSizeExceedsLimit: Requested volume size 5G is larger than maximum allowed limit 3G."},
		"one volume's growth": {map[string]int64{"per_volume_gigabytes": 3}, func() answer { return extend("6") }, "VolumeSizeExceedsLimit: Requested volume size 6G is larger than maximum allowed limit 3G."},
		"backups":             {map[string]int64{"backups": 0}, func() answer { return c.volume("70", "POST", "/backups", `{"backup": {"volume_id": "`+v+`"}}`) }, "BackupLimitExceeded: Maximum number of backups allowed (0) exceeded"},
		"backup gigabytes":    {map[string]int64{"backup_gigabytes": 0}, func() answer { return c.volume("70", "POST", "/backups", `{"backup": {"volume_id": "`+v+`"}}`) }, "VolumeBackupSizeExceedsAvailableQuota: Requested backup exceeds allowed Backup gigabytes quota. Requested 1G, quota is 0G and 0G has been consumed."},
		"gigabytes of a type": {map[string]int64{"gigabytes___DEFAULT__": 1}, func() answer { return create("5") }, "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes___DEFAULT__ quota. Requested 5G, quota is 1G and 1G has been consumed."},
	} {
		t.Run(name, func(t *testing.T) {
			reset := map[string]int64{"volumes": -1, "gigabytes": -1, "snapshots": -1, "per_volume_gigabytes": -1, "backups": -1, "backup_gigabytes": -1, "gigabytes___DEFAULT__": -1}
			for k, n := range tc.quotas {
				reset[k] = n
			}
			if err := cloud.Admin().SetQuotas(t.Context(), reset); err != nil {
				t.Fatal(err)
			}
			got := tc.act()
			got.refuses(t, name, 413, "overLimit", tc.message)
			if got.member("overLimit", "retryAfter") != "0" {
				t.Errorf("retryAfter: %s", got.text)
			}
		})
	}
}

func TestNovaRefuses(t *testing.T) {
	cloud := start(t, nil)
	c := login(t, cloud, "demo")
	one, two := cloud.ServerID("node1"), cloud.ServerID("node2")
	v, spare, multi := c.create(""), c.create(""), c.create(`, "volume_type": "multiattach"`)
	c.attach("93", one, v)
	c.await(v, "in-use", 1)
	taken := "Invalid volume: volume " + v + " is already attached to instances: " + one
	c.attach("93", one, v).refuses(t, "twice", 400, "badRequest", taken)
	c.attach("60", one, v).refuses(t, "twice at 2.60", 400, "badRequest", taken)
	c.attach("93", two, v).refuses(t, "on a second server", 400, "badRequest", taken)
	c.attach("93", one, missing).refuses(t, "missing volume", 404, "itemNotFound", "Volume "+missing+" could not be found.")
	c.attach("93", missing, spare).refuses(t, "missing server", 404, "itemNotFound", "Instance "+missing+" could not be found.")
	c.attach("93", one, "not-a-uuid").refuses(t, "no uuid", 400, "badRequest", "Invalid input for field/attribute volumeId. Value: not-a-uuid. 'not-a-uuid' is not a 'uuid'")
	c.attach("59", one, multi).refuses(t, "multiattach", 400, "badRequest", "Multiattach volumes are only supported starting with compute API version 2.60.")
	notThere := func(server, volume string) string {
		return "Instance " + server + " is not attached to volume " + volume
	}
	c.detach(one, spare).refuses(t, "not attached", 404, "itemNotFound", notThere(one, spare))
	c.detach(two, v).refuses(t, "wrong server", 404, "itemNotFound", notThere(two, v))
	c.detach(one, missing).refuses(t, "missing volume", 404, "itemNotFound", "Volume "+missing+" could not be found.")
	c.detach(missing, v).refuses(t, "missing server", 404, "itemNotFound", "Instance "+missing+" could not be found.")
	c.compute("93", "GET", "/servers/"+one+"/os-volume_attachments/"+spare, "").refuses(t, "show", 404, "itemNotFound", notThere(one, spare))
	c.attach("60", one, multi)
	c.await(multi, "in-use", 1)
	c.attach("60", one, multi).refuses(t, "multiattach twice", 400, "badRequest", "Invalid volume: volume "+multi+" already attached")
	c.compute("93", "POST", "/servers", `{"server": {"name": "x", "flavorRef": "1", "imageRef": "", "availability_zone": "mars"}}`).
		refuses(t, "zone", 400, "badRequest", "The requested availability zone is not available")
	admin := login(t, cloud, "admin")
	reset := func(id, status string) {
		got := admin.volume("70", "POST", "/volumes/"+id+"/action", `{"os-reset_status": {"status": "`+status+`"}}`)
		if got.status != http.StatusAccepted {
			t.Fatalf("reset: %d %s", got.status, got.text)
		}
	}
	reset(spare, "error")
	c.attach("93", one, spare).refuses(t, "in error", 400, "badRequest", "Invalid input received: Invalid volume: Volume attachments can not be created if the volume is in an error state. The Volume "+spare+" currently has a status of: error  (HTTP 400) (Request-ID: req-x)")
	reset(spare, "extending")
	c.attach("93", one, spare).refuses(t, "extending", 400, "badRequest", "Invalid input received: Invalid volume: Volume "+spare+" status must be available or downloading to reserve, but the current status is extending. (HTTP 400) (Request-ID: req-x)")
	reset(multi, "reserved")
	c.attach("93", two, multi).refuses(t, "reserved", 400, "badRequest", "Invalid input received: Invalid volume: Volume "+multi+" status must be available or in-use or downloading to reserve, but the current status is reserved. (HTTP 400) (Request-ID: req-x)")
	for _, status := range []string{"attaching", "detaching", "backing-up", "error_extending"} {
		reset(v, status)
		c.detach(one, v).refuses(t, "detach while "+status, 400, "badRequest", undetachable)
		c.volume("70", "POST", "/volumes/"+v+"/action", `{"os-extend": {"new_size": 9}}`).
			refuses(t, "extend while "+status, 400, "badRequest", "Invalid volume: Volume "+v+" status must be '{'status': 'available'}' to extend, currently "+status+".")
	}
}

func TestNovaLooksAtTheServer(t *testing.T) {
	cloud := start(t, func(cfg *devcloud.Config) {
		cfg.Servers = append(cfg.Servers, devcloud.Server{Name: "far", Zone: "az2"})
	})
	c, admin := login(t, cloud, "demo"), login(t, cloud, "admin")
	one, v, w := cloud.ServerID("node1"), c.create(""), c.create("")
	act := func(who *client, body string) {
		if got := who.compute("93", "POST", "/servers/"+one+"/action", body); got.status != http.StatusAccepted {
			t.Fatalf("%s: %d %s", body, got.status, got.text)
		}
	}
	act(c, `{"lock": null}`)
	c.attach("93", one, v).refuses(t, "locked", 409, "conflictingRequest", "Instance "+one+" is locked")
	act(c, `{"unlock": null}`)
	act(admin, `{"os-resetState": {"state": "error"}}`)
	c.attach("93", one, v).refuses(t, "error", 409, "conflictingRequest", "Cannot 'attach_volume' instance "+one+" while it is in vm_state error")
	act(c, `{"os-stop": null}`)
	if got := c.attach("93", one, v); got.status != http.StatusOK {
		t.Errorf("attach to a server that is off: %d %s", got.status, got.text)
	}
	c.await(v, "in-use", 1)
	if err := cloud.Admin().SetBehaviour(t.Context(), devcloud.Behaviour{MaxDisks: 2, SeparateZones: true}); err != nil {
		t.Fatal(err)
	}
	c.attach("93", one, w).refuses(t, "too many", 403, "forbidden", "The maximum allowed number of disk devices (2) to attach to a single instance has been exceeded.")
	far := cloud.ServerID("far")
	c.attach("93", far, w).refuses(t, "zones", 400, "badRequest", "Invalid volume: Instance "+far+" and volume "+w+" are not in the same availability_zone. Instance is in az2. Volume is in nova")
	if got := c.compute("93", "DELETE", "/servers/"+one, ""); got.status != http.StatusNoContent {
		t.Errorf("delete server: %d %s", got.status, got.text)
	}
	c.compute("93", "GET", "/servers/"+one, "").refuses(t, "deleted", 404, "itemNotFound", "Instance "+one+" could not be found.")
	c.await(v, "available", 0)
}
