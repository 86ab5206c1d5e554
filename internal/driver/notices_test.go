package driver

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
		{Cloud: "default", Err: errors.New("connection refused"), LastSuccess: in(-time.Hour)},
		{Cloud: "new", Err: errors.New("connecting")},
		{Cloud: "ends", Up: true, CredentialExpiry: in(13 * day), Certificates: map[string]time.Time{"ca": in(-day), "client": in(day), "keystone": in(15 * day)}},
	}, map[string]error{"well": errors.New("HTTP 401"), "default": nil}, now)
	said := map[string]string{}
	for _, n := range got {
		said[n.Reason+" "+n.Of] = n.Message
	}
	want := map[string]string{
		"CredentialsRefused well":         `cloud "well": the changed configuration does not work, the one before stays in use until this pod ends: HTTP 401`,
		"CloudUnavailable default":        `cloud "default" can't be used, last used 2026-11-30T11:00:00Z: connection refused`,
		"CloudUnavailable new":            `cloud "new" can't be used, last used never since this start: connecting`,
		"CredentialExpiring ends":         `cloud "ends": the driver's credential ends at 2026-12-13T12:00:00Z; put a new one into cloud.conf, which is read again while the driver runs`,
		"CertificateExpiring ends ca":     `cloud "ends": the certificate of an authority that vouches for the cloud's ends at 2026-11-29T12:00:00Z; after that the driver can't connect`,
		"CertificateExpiring ends client": `cloud "ends": the certificate of the driver (cert-file in cloud.conf) ends at 2026-12-01T12:00:00Z; after that the driver can't connect`,
	}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Error(diff)
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
