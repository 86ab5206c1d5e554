package instance_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/configdrive"
	"github.com/cinder-csi/cinder-csi/internal/instance"
)

// answer is what a source says; empty for a metadata service that fails.
func answer(id, zone string) string {
	return fmt.Sprintf(`{"uuid":%q,"name":"node-1","availability_zone":%s}`, id, zone)
}

// changing starts a metadata service whose document can be changed.
func changing(t *testing.T) (url string, doc *atomic.Pointer[string]) {
	t.Helper()
	doc = new(atomic.Pointer[string])
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if now := *doc.Load(); now != "" {
			_, _ = w.Write([]byte(now))
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	return server.URL, doc
}

// driveOf returns a directory of devices with a config drive that has that document; empty
// for none.
func driveOf(t *testing.T, doc string) string {
	t.Helper()
	if doc == "" {
		return t.TempDir()
	}
	return devDir(t, configdrive.Label, written(t, map[string][]byte{"openstack/latest/meta_data.json": []byte(doc)}))
}

func TestTheZoneIsWhatTheCloudSaysNow(t *testing.T) {
	drive, service := instance.ConfigDrive, instance.MetadataService
	both, reverse := []instance.Source{drive, service}, []instance.Source{service, drive}
	here := func(zone string) string { return answer(serverID, zone) }
	for _, tt := range []struct {
		name           string
		order          []instance.Source
		drive, service string
		want           string
	}{
		{"the server was moved since the drive was written", both, here(`"az1"`), here(`"az2"`), "az2"},
		{"the service first, anyway", reverse, here(`"az1"`), here(`"az2"`), "az2"},
		{"only the drive may be asked", []instance.Source{drive}, here(`"az1"`), here(`"az2"`), "az1"},
		{"only the service may be asked", []instance.Source{service}, here(`"az1"`), here(`"az2"`), "az2"},
		{"no service", both, here(`"az1"`), "", "az1"},
		{"no drive", both, "", here(`"az2"`), "az2"},
		{"the service knows none", both, here(`"az1"`), here(`null`), "az1"},
		{"the service knows none, and is asked first", reverse, here(`"az1"`), here(`""`), "az1"},
		{"the drive knows none", both, here(`null`), here(`"az2"`), "az2"},
		{"a service of another server", both, here(`"az1"`), answer(otherID, `"az2"`), "az1"},
		{"a damaged service", both, here(`"az1"`), "<html>", "az1"},
		{"nobody knows", both, here(`null`), here(`" "`), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, doc := changing(t)
			doc.Store(&tt.service)
			got, err := instance.New(instance.Options{DevDir: driveOf(t, tt.drive), MetadataURL: url, Order: tt.order}).Identify(t.Context())
			if want := (instance.Identity{ServerID: serverID, Zone: tt.want}); err != nil || got != want {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		})
	}
}

func TestAServerThatIsAskedAgainTellsItsPresentZone(t *testing.T) {
	here := func(zone string) string { return answer(serverID, zone) }
	for _, tt := range []struct {
		name           string
		drive          string
		service, wants []string
	}{
		{"it was moved", here(`"az0"`), []string{here(`"az1"`), here(`"az2"`)}, []string{"az1", "az2"}},
		{"no drive, and it was moved", "", []string{here(`"az1"`), here(`"az2"`)}, []string{"az1", "az2"}},
		{"the service has gone: the drive knows less", here(`"az0"`), []string{here(`"az1"`), "", here(`"az2"`)}, []string{"az1", "az1", "az2"}},
		{"no drive, and the service has gone", "", []string{here(`"az1"`), "", "<html>"}, []string{"az1", "az1", "az1"}},
		{"the service takes it for another server", "", []string{here(`"az1"`), answer(otherID, `"az2"`), here(`"az3"`)}, []string{"az1", "az1", "az3"}},
		{"the service comes later", here(`"az0"`), []string{"", here(`"az1"`), ""}, []string{"az0", "az1", "az1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, doc := changing(t)
			s := instance.New(instance.Options{DevDir: driveOf(t, tt.drive), MetadataURL: url})
			for i, now := range tt.service {
				doc.Store(&now)
				got, err := s.Identify(t.Context())
				if err != nil || got.ServerID != serverID || got.Zone != tt.wants[i] {
					t.Errorf("question %d: %+v, %v; want %s", i, got, err, tt.wants[i])
				}
			}
		})
	}
}

// TestAZoneThatOnlyTheServiceKnowsIsAskedForAgain: a Node keeps the label that it gets at
// first, be that a fallback's.
func TestAZoneThatOnlyTheServiceKnowsIsAskedForAgain(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(answer(serverID, `"az2"`)))
	}))
	t.Cleanup(server.Close)
	s := instance.New(instance.Options{DevDir: driveOf(t, answer(serverID, "null")), MetadataURL: server.URL})
	if id, err := s.Identify(t.Context()); err != nil || id.Zone != "az2" {
		t.Errorf("%+v, %v", id, err)
	}
}

func TestADocumentInAnotherForm(t *testing.T) {
	for _, tt := range []struct{ name, doc, zone string }{
		{"uuid without dashes", answer(strings.ReplaceAll(serverID, "-", ""), `"nova"`), "nova"},
		{"uuid in capitals", answer(strings.ToUpper(serverID), `"nova"`), "nova"},
		{"neither dashes nor small letters", answer(strings.ToUpper(strings.ReplaceAll(serverID, "-", "")), `"nova"`), "nova"},
		{"zone a number", answer(serverID, `7`), "7"},
		{"zone a long number", answer(serverID, `12345678901234567890`), "12345678901234567890"},
		{"zone true", answer(serverID, `true`), ""},
		{"zone a list", answer(serverID, `["az1","az2"]`), ""},
		{"zone an object", answer(serverID, `{"name":"az1"}`), ""},
		{"zone with white space", answer(serverID, `" AZ 1:x\n"`), "AZ 1:x"},
		{"name a number", `{"uuid":"` + serverID + `","name":5,"availability_zone":"nova"}`, "nova"},
		{"everything else null", `{"uuid":"` + serverID + `","name":null,"devices":null,"meta":null,"availability_zone":null}`, ""},
		{"a byte order mark", "\ufeff" + answer(serverID, `"nova"`), "nova"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if id, err := fromService(t, service(t, tt.doc)); err != nil || id.ServerID != serverID || id.Zone != tt.zone {
				t.Errorf("got %+v, %v, want zone %q", id, err, tt.zone)
			}
		})
	}
}

func TestAnIDThatIsNoneIsRefused(t *testing.T) {
	for _, id := range []string{`"{` + serverID + `}"`, `"urn:uuid:` + serverID + `"`, `"i-0000abcd"`, `7`, `null`, `["` + serverID + `"]`, `"` + serverID[:35] + `"`} {
		if id, err := fromService(t, service(t, `{"uuid":`+id+`,"availability_zone":"nova"}`)); err == nil {
			t.Errorf("got %+v", id)
		}
	}
}

func TestAServiceThatIsSlowIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(6 * time.Second): // as it has been seen
		case <-r.Context().Done():
		}
		_, _ = w.Write([]byte(answer(serverID, `"nova"`)))
	}))
	t.Cleanup(server.Close)
	s := instance.New(instance.Options{MetadataURL: server.URL, Order: []instance.Source{instance.MetadataService}})
	if id, err := s.Identify(t.Context()); err != nil || id.ServerID != serverID {
		t.Errorf("got %+v, %v", id, err)
	}
}
