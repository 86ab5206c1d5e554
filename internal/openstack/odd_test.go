package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// namesOf returns what entries of a list are known by.
func namesOf[T any](all []T, err error, name func(T) string) ([]string, error) {
	var names []string
	for _, one := range all {
		names = append(names, name(one))
	}
	return names, err
}

// One entry that makes no sense must not hide the others, from which a caller concludes
// what is attached and what is there.
func TestAListWithAnOddEntryListsTheOthers(t *testing.T) {
	type lister struct {
		// known is the key by which an entry is known, and key that of the list.
		known, key string
		// good are the other values of an entry, as JSON.
		good string
		list func(context.Context, *Client) ([]string, error)
	}
	listers := map[string]lister{
		"volumes": {"id", "volumes", `"name": "v", "size": 1, "status": "available"`, func(ctx context.Context, c *Client) ([]string, error) {
			all, _, err := c.ListVolumes(ctx, cloud.VolumeFilter{}, cloud.Page{})
			return namesOf(all, err, func(v cloud.Volume) string { return v.ID })
		}},
		"snapshots": {"id", "snapshots", `"size": 1, "status": "available"`, func(ctx context.Context, c *Client) ([]string, error) {
			all, _, err := c.ListSnapshots(ctx, cloud.SnapshotFilter{}, cloud.Page{})
			return namesOf(all, err, func(s cloud.Snapshot) string { return s.ID })
		}},
		"backups": {"id", "backups", `"size": 1, "status": "available"`, func(ctx context.Context, c *Client) ([]string, error) {
			all, _, err := c.ListBackups(ctx, cloud.BackupFilter{}, cloud.Page{})
			return namesOf(all, err, func(b cloud.Backup) string { return b.ID })
		}},
		"attachments of a server": {"volumeId", "volumeAttachments", `"serverId": "` + idA + `", "device": "/dev/vdb"`, func(ctx context.Context, c *Client) ([]string, error) {
			all, err := c.ListAttachments(ctx, idA)
			return namesOf(all, err, func(a cloud.ServerAttachment) string { return a.VolumeID })
		}},
		"records": {"id", "attachments", `"volume_id": "` + idA + `", "status": "attached"`, func(ctx context.Context, c *Client) ([]string, error) {
			all, err := c.ListAttachmentRecords(ctx, idA)
			return namesOf(all, err, func(a cloud.AttachmentRecord) string { return a.ID })
		}},
		"types": {"id", "volume_types", `"name": "ssd", "extra_specs": {"a": "b"}`, func(ctx context.Context, c *Client) ([]string, error) {
			all, err := c.ListVolumeTypes(ctx)
			return namesOf(all, err, func(v cloud.VolumeType) string { return v.ID })
		}},
		"zones": {"zoneName", "availabilityZoneInfo", `"zoneState": {"available": true}`, func(ctx context.Context, c *Client) ([]string, error) {
			return c.ListZones(ctx)
		}},
		"pools": {"name", "pools", `"capabilities": {"free_capacity_gb": 1}`, func(ctx context.Context, c *Client) ([]string, error) {
			all, err := c.ListPools(ctx)
			return namesOf(all, err, func(p cloud.Pool) string { return p.Name })
		}},
	}
	for name, l := range listers {
		good := func(id string) string { return fmt.Sprintf(`{%q: %q, %s}`, l.known, id, l.good) }
		unreadable := map[string]string{
			"null": `null`, "a text": `"x"`, "a list": `[1, {}]`, "nothing": `{}`,
			"no id": `{` + l.good + `}`, "an id of null": fmt.Sprintf(`{%q: null, %s}`, l.known, l.good), "an id that is a number": fmt.Sprintf(`{%q: 7, %s}`, l.known, l.good),
		}
		// These have an id: they are listed, with what can be read.
		carried := map[string]string{
			"values of null":          `"name": null, "size": null, "status": null, "metadata": null, "created_at": null, "capabilities": null, "extra_specs": null, "device": null, "volume_id": "` + idA + `"`,
			"values of another form":  `"name": [1], "size": "one", "status": {"a": 1}, "metadata": [3], "created_at": 12, "capabilities": "x", "extra_specs": [1], "device": {}, "volume_id": "` + idA + `"`,
			"metadata of other forms": `"metadata": {"a": true, "b": null, "c": [1]}, "extra_specs": {"a": 1}, "attachments": [{"server_id": 7}, null, "x"], "volume_id": "` + idA + `"`,
			"dates of nobody":         `"created_at": "yesterday", "size": -1, "multiattach": "perhaps", "volume_id": "` + idA + `"`,
		}
		for what, values := range carried {
			unreadable[what] = fmt.Sprintf(`{%q: %q, %s}`, l.known, idB, values)
		}
		for what, entry := range unreadable {
			t.Run(name+"/"+what, func(t *testing.T) {
				first, last := strings.Replace(idA, "000a", "0001", 1), strings.Replace(idA, "000a", "0002", 1)
				want := []string{first, last}
				if carried[what] != "" {
					want = []string{first, idB, last}
				}
				c := newTestCloud(t, func(w http.ResponseWriter, req *http.Request) {
					if strings.HasSuffix(req.URL.Path, "/os-services") {
						answer(w, 200, `{"services": [null, {"host": 7}, {"host": "h", "zone": [1]}]}`)
						return
					}
					answer(w, 200, fmt.Sprintf(`{%q: [%s, %s, %s]}`, l.key, good(first), entry, good(last)))
				})
				client := c.connect(t, Options{})
				core, logs := observer.New(zap.WarnLevel)
				ctx := logging.Into(t.Context(), zap.New(core))
				got, err := l.list(ctx, client)
				if err != nil || !slices.Equal(got, want) {
					t.Fatalf("listed %q, %v", got, err)
				}
				told := logs.FilterField(zap.String("list", l.key)).Len()
				if _, err = l.list(ctx, client); err != nil || told > 1 || logs.FilterField(zap.String("list", l.key)).Len() != told {
					t.Errorf("told %d times, %v", logs.Len(), err)
				}
				if carried[what] == "" && told != 1 {
					t.Error("what is left out is not told")
				}
			})
		}
	}
}

func TestAQuotaWithOddLines(t *testing.T) {
	c := newTestCloud(t, says(200, `{"quota_set": {"id": "p1", "volumes": null, "gigabytes": {"limit": 100, "in_use": 40, "reserved": 2},
		"snapshots": {"limit": "many"}, "backups": [1], "gigabytes_ssd": {"limit": null}, "volumes_ssd": {"limit": -1, "in_use": null}}}`))
	quota, err := c.connect(t, Options{}).Quota(t.Context())
	if err != nil || len(quota.Lines) != 2 || quota.Lines["gigabytes"] != (cloud.QuotaLine{Limit: 100, Used: 42}) || quota.Lines["volumes_ssd"].Limit != -1 {
		t.Errorf("%+v, %v", quota, err)
	}
}

// What is asked for by its id is to be whole: its state decides what is done to it.
func TestAnOddThingIsAClearError(t *testing.T) {
	type getter struct {
		key string
		get func(context.Context, *Client) error
	}
	for name, g := range map[string]getter{
		"volume":   {"volume", func(ctx context.Context, c *Client) error { _, err := c.GetVolume(ctx, idA); return err }},
		"snapshot": {"snapshot", func(ctx context.Context, c *Client) error { _, err := c.GetSnapshot(ctx, idA); return err }},
		"backup":   {"backup", func(ctx context.Context, c *Client) error { _, err := c.GetBackup(ctx, idA); return err }},
		"server":   {"server", func(ctx context.Context, c *Client) error { _, err := c.GetServer(ctx, idA); return err }},
	} {
		for what, body := range map[string]string{
			"null": `null`, "a text": `"x"`, "a list": `[]`, "nothing": `{}`, "an id of null": `{"id": null, "status": "available", "size": 1}`,
			"another one": `{"id": "` + idB + `", "status": "available", "size": 1}`, "an id that is a number": `{"id": 7, "status": "available", "size": 1}`,
			"a status that is none": `{"id": "` + idA + `", "status": {"a": 1}, "size": 1}`,
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				c := newTestCloud(t, says(200, fmt.Sprintf(`{%q: %s}`, g.key, body)))
				err := g.get(t.Context(), c.connect(t, Options{}))
				if !errors.Is(err, cloud.ErrUnavailable) || errors.Is(err, cloud.ErrNotFound) || !contains(err, g.key) || !contains(err, idA) {
					t.Errorf("%v", err)
				}
			})
		}
	}
	for what, body := range map[string]string{
		"size":   `{"volume": {"id": "` + idA + `", "status": "available", "size": null}}`,
		"status": `{"volume": {"id": "` + idA + `", "size": 1}}`,
	} {
		c := newTestCloud(t, says(200, body))
		if _, err := c.connect(t, Options{}).GetVolume(t.Context(), idA); !contains(err, "tells no "+what) {
			t.Errorf("%v", err)
		}
	}
}

// Clouds write the same things in several ways.
func TestAVolumeInOtherWords(t *testing.T) {
	for what, body := range map[string]string{
		"nulls":                   `"name": null, "description": null, "volume_type": null, "availability_zone": null, "snapshot_id": null, "source_volid": null, "metadata": null, "multiattach": null, "created_at": null, "attachments": null`,
		"a time with its zone":    `"created_at": "2020-07-31T07:18:53Z"`,
		"truths as texts":         `"multiattach": "false", "bootable": true, "encrypted": "False"`,
		"metadata of other forms": `"metadata": {"a": true, "b": null, "c": 3, "d": "e"}`,
		"an attachment of nulls":  `"attachments": [{"id": null, "server_id": null, "device": null, "attachment_id": null}]`,
	} {
		t.Run(what, func(t *testing.T) {
			c := newTestCloud(t, says(200, `{"volume": {"id": "`+idA+`", "size": 1, "status": "available", `+body+`}}`))
			v, err := c.connect(t, Options{}).GetVolume(t.Context(), idA)
			if err != nil || v.Multiattach || v.SizeGiB != 1 {
				t.Fatalf("%+v, %v", v, err)
			}
			if v.Metadata["d"] == "e" && (v.Metadata["a"] != "true" || v.Metadata["c"] != "3" || len(v.Metadata) != 4) {
				t.Errorf("metadata %v", v.Metadata)
			}
		})
	}
}

// Without the cause of a failure the driver does what is possible without it: an answer
// that tells none must not stop it for good.
func TestACauseThatTheCloudDoesNotTell(t *testing.T) {
	for what, c := range map[string]struct {
		status int
		body   string
		told   bool
	}{
		"forbidden":         {403, `{"forbidden": {"message": "no"}}`, true},
		"unknown":           {404, `{"itemNotFound": {"message": "no"}}`, true},
		"no such parameter": {400, `{"badRequest": {"message": "no"}}`, true},
		"not offered":       {501, ``, true},
		"HTML":              {200, `<html></html>`, true},
		"no list":           {200, `{}`, true},
		"an error":          {500, `{"computeFault": {}}`, false},
		"later":             {409, `{"conflictingRequest": {}}`, false},
	} {
		t.Run(what, func(t *testing.T) {
			odd := newTestCloud(t, says(c.status, c.body))
			found, err := odd.connect(t, Options{}).VolumeFault(t.Context(), idA)
			if found != (cloud.Fault{}) || (err == nil) != c.told {
				t.Errorf("%+v, %v", found, err)
			}
		})
	}
	gateway := newTestCloud(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	if _, err := gateway.connect(t, Options{}).VolumeFault(t.Context(), idA); err != nil {
		t.Error("of a gateway that doesn't know messages:", err)
	}
}

// Who asks for what has changed last concludes that the rest is gone, unless more follows.
func TestAPageThatMayLackSomethingIsNotTheLast(t *testing.T) {
	entry := fmt.Sprintf(`{"id": %q, "size": 1, "status": "available"}`, idA)
	for what, c := range map[string]struct {
		list  string
		limit int
		more  bool
	}{
		"all":                    {entry, 2, false},
		"without a limit":        {entry + "," + entry, 0, false},
		"full, and no link":      {entry + "," + entry, 2, true},
		"one that can't be read": {entry + `, {"id": 7}`, 5, true},
		"none that can be read":  {`null`, 5, true},
		"none":                   {``, 5, false},
	} {
		cloudOf := newTestCloud(t, says(200, `{"volumes": [`+c.list+`], "snapshots": [`+c.list+`], "backups": [`+c.list+`]}`))
		client, page := cloudOf.connect(t, Options{}), cloud.Page{Recent: true, Limit: c.limit}
		_, volumes, err := client.ListVolumes(t.Context(), cloud.VolumeFilter{}, page)
		_, snapshots, err2 := client.ListSnapshots(t.Context(), cloud.SnapshotFilter{}, page)
		_, backups, err3 := client.ListBackups(t.Context(), cloud.BackupFilter{}, page)
		if err := errors.Join(err, err2, err3); err != nil || (volumes != "") != c.more || (snapshots != "") != c.more || (backups != "") != c.more {
			t.Errorf("%s: next %q, %q, %q, %v", what, volumes, snapshots, backups, err)
		}
	}
}
