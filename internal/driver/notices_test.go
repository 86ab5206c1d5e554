package driver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/cinder-csi/cinder-csi/internal/events"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
)

func TestWhatIsWrongWithCloudsIsNoticed(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	in := func(d time.Duration) time.Time { return now.Add(d) }
	const day = 24 * time.Hour
	well := openstack.Health{Cloud: "well", Up: true, CredentialExpiry: in(15 * day), Certificates: map[string]time.Time{"keystone": in(30 * day)}}
	got := notices([]openstack.Health{
		well,
		{Cloud: "default", Err: errors.New("connection refused"), LastSuccess: in(-time.Hour), LastRequest: in(-time.Minute)},
		{Cloud: "unasked", Err: errors.New("connection refused"), LastSuccess: in(-time.Hour), LastRequest: in(-30 * time.Minute)},
		{Cloud: "secret:1", Up: true, OfSecret: true, CredentialExpiry: in(day)},
		{Cloud: "new", Err: errors.New("connecting")},
		{Cloud: "ends", Up: true, CredentialExpiry: in(13 * day), Certificates: map[string]time.Time{"ca": in(-day), "client": in(day), "keystone": in(15 * day)}},
	}, map[string]error{"well": errors.New("HTTP 401"), "default": nil}, now)
	var right []string
	said := map[string]string{}
	for _, n := range got {
		if n.Well {
			right = append(right, n.Reason+" "+n.Of)
			continue
		}
		said[n.Reason+" "+n.Of] = n.Message
	}
	if diff := cmp.Diff([]string{"CloudUnavailable well", "CredentialsRefused default", "CloudUnavailable secret:1", "CloudUnavailable ends"}, right); diff != "" {
		t.Error(diff)
	}
	want := map[string]string{
		"CredentialsRefused well":         `cloud "well": the changed configuration does not work, the one before stays in use until this pod ends: HTTP 401`,
		"CloudUnavailable default":        `cloud "default" can't be used, last used 2026-11-30T11:00:00Z: connection refused`,
		"CloudUnavailable new":            `cloud "new" can't be used, last used never since this start: connecting`,
		"CredentialExpiring ends":         `cloud "ends": the driver's credential ends at 2026-12-13T12:00:00Z; put a new one into cloud.conf, which is read again while the driver runs`,
		"CredentialExpiring secret:1":     `cloud "secret:1": the driver's credential ends at 2026-12-01T12:00:00Z; put a new one into the Secret that has it`,
		"CertificateExpiring ends ca":     `cloud "ends": the certificate of an authority that vouches for the cloud's ends at 2026-11-29T12:00:00Z; after that the driver can't connect`,
		"CertificateExpiring ends client": `cloud "ends": the certificate of the driver (cert-file in cloud.conf) ends at 2026-12-01T12:00:00Z; after that the driver can't connect`,
	}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Error(diff)
	}
}

// A change that doesn't work and is taken back is over, also for a cloud that had taken
// its part of it up.
func TestAChangeThatIsTakenBackIsRefusedNoMore(t *testing.T) {
	w := newWorld(t, time.Hour, 10)
	one, _ := startTenant(t)
	two, _ := startTenant(t)
	path := filepath.Join(t.TempDir(), "cloud.conf")
	write := func(first, second string) {
		t.Helper()
		text := first + strings.Replace(second, "[Global]", "[Global \"two\"]", 1)
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(one.CloudConf(), two.CloudConf())
	seen := openstack.Fingerprint([]string{path})
	conf, err := openstack.ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "two"} {
		section, err := conf.Cloud(name)
		if err == nil {
			err = w.add(name, section)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	until(t, "it doesn't connect", func() bool { names, _ := w.unready(); return len(names) == 0 })
	core, logs := observer.New(zap.InfoLevel)
	r := &reloader{paths: []string{path}, clouds: w.clouds, logger: zap.New(core), seen: seen, results: newReloads()}
	r.run(time.Millisecond)
	took := func() int {
		return logs.FilterMessage("changed credentials are in use").FilterField(zap.String("cloud", "default")).Len()
	}
	refused := func(cloud string) func() bool { return func() bool { return r.refusals()[cloud] != nil } }
	for name, broken := range map[string]string{"wrong": strings.Replace(two.CloudConf(), "password=", "password=wrong", 1), "no cloud.conf": "[Glo"} {
		write(one.CredentialConf(), broken)
		until(t, name+": it isn't refused", refused("two"))
		if name == "wrong" {
			until(t, "the other cloud's change isn't taken up", func() bool { return took() > 0 })
		}
		before := took()
		write(one.CloudConf(), two.CloudConf())
		until(t, name+": it is taken back, and still refused", func() bool { return !refused("two")() && !refused("default")() })
		until(t, name+": a cloud goes on with what is taken back", func() bool { return took() > before })
	}
}

func TestEventsAreAboutThePodWhereItIsKnown(t *testing.T) {
	known := map[string]string{"POD_NAME": "controller-1", "POD_NAMESPACE": "storage", "POD_UID": "uid"}
	if diff := cmp.Diff(events.Object{APIVersion: "v1", Kind: "Pod", Namespace: "storage", Name: "controller-1", UID: "uid"}, eventObject(func(name string) string { return known[name] })); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(events.Object{APIVersion: "storage.k8s.io/v1", Kind: "CSIDriver", Name: "cinder.csi.openstack.org"}, eventObject(func(string) string { return "" })); diff != "" {
		t.Error(diff)
	}
}
