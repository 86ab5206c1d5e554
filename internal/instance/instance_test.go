package instance_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/disk/configdrive"
	"github.com/cinder-csi/cinder-csi/internal/instance"
)

const otherID = "0b0b4d11-6e0e-4c5c-9f4b-2d7bd8a7c001"

// service starts a metadata service that answers with that document.
func service(t *testing.T, doc string) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /openstack/latest/meta_data.json", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(doc))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

func TestTheFirstSourceThatAnswersIsBelieved(t *testing.T) {
	drive := devDir(t, "config-2", novaDrive(t))
	nothing := t.TempDir()
	url := service(t, `{"uuid":"`+otherID+`","name":"other","availability_zone":"az-2"}`)
	fromDrive := instance.Identity{ServerID: serverID, Zone: "nova"}
	fromService := instance.Identity{ServerID: otherID, Zone: "az-2"}

	for _, tt := range []struct {
		name string
		opts instance.Options
		want instance.Identity
	}{
		{"config drive by default", instance.Options{DevDir: drive, MetadataURL: url}, fromDrive},
		{"service where there is no drive", instance.Options{DevDir: nothing, MetadataURL: url}, fromService},
		{"service first when asked so", instance.Options{
			DevDir: drive, MetadataURL: url,
			Order: []instance.Source{instance.MetadataService, instance.ConfigDrive},
		}, fromService},
		{"label in capitals", instance.Options{DevDir: devDir(t, "CONFIG-2", novaDrive(t)), MetadataURL: url}, fromDrive},
		{"service where the drive is damaged", instance.Options{
			DevDir: devDir(t, "config-2", novaDrive(t)[:40000]), MetadataURL: url,
		}, fromService},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := instance.New(tt.opts).Identify(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestEveryFailureIsTold(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	dir := t.TempDir()
	_, err := instance.New(instance.Options{DevDir: dir, MetadataURL: server.URL}).Identify(t.Context())
	if !errors.Is(err, instance.ErrUnknown) {
		t.Fatalf("got %v, want ErrUnknown", err)
	}
	for _, part := range []string{"configDrive: ", dir, "metadataService: ", server.URL, "404"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q doesn't tell %q", err, part)
		}
	}
}

func TestADriveOfAnyPlainMakeCanBeRead(t *testing.T) {
	genisoimage, err := exec.LookPath("genisoimage")
	if err != nil {
		t.Log("genisoimage isn't installed: only the drive in testdata is read")
		return
	}
	content := t.TempDir()
	latest := filepath.Join(content, "openstack", "latest")
	if err := os.MkdirAll(latest, 0o755); err != nil {
		t.Fatal(err)
	}
	// Enough files that the directory takes more than one sector, and Joliet
	// names that sort before and after the one of interest.
	for _, prefix := range []string{"a", "z"} {
		for i := range 60 {
			name := prefix + strings.Repeat("x", i+1) + ".json"
			if err := os.WriteFile(filepath.Join(latest, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	doc := `{"uuid":"` + serverID + `","availability_zone":null}`
	if err := os.WriteFile(filepath.Join(latest, "meta_data.json"), []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		flags []string
	}{
		{"Rock Ridge and Joliet", []string{"-J", "-r"}},
		{"Joliet alone", []string{"-J"}},
		{"Rock Ridge alone", []string{"-r"}},
		{"neither", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			image := filepath.Join(t.TempDir(), "image")
			args := slices.Concat([]string{"-o", image, "-ldots", "-allow-lowercase", "-allow-multidot", "-l", "-quiet", "-V", "config-2"}, tt.flags, []string{content})
			if out, err := exec.Command(genisoimage, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			data, err := os.ReadFile(image)
			if err != nil {
				t.Fatal(err)
			}
			got, err := instance.New(instance.Options{
				DevDir: devDir(t, "config-2", data), Order: []instance.Source{instance.ConfigDrive},
			}).Identify(t.Context())
			if want := (instance.Identity{ServerID: serverID}); err != nil || got != want {
				t.Fatalf("got %+v, %v, want %+v", got, err, want)
			}
		})
	}
}

func TestTheDevelopmentCloudsDriveCanBeRead(t *testing.T) {
	files := map[string][]byte{
		"openstack/latest/meta_data.json":    []byte(`{"uuid":"` + serverID + `","name":"node-1","availability_zone":"az-1"}`),
		"openstack/latest/network_data.json": []byte(`{}`),
		"ec2/latest/meta-data.json":          []byte(`{}`),
	}
	image := written(t, files)
	got, err := instance.New(instance.Options{
		DevDir: devDir(t, configdrive.Label, image), Order: []instance.Source{instance.ConfigDrive},
	}).Identify(t.Context())
	if want := (instance.Identity{ServerID: serverID, Zone: "az-1"}); err != nil || got != want {
		t.Fatalf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestADriveThatIsNoneIsToldApart(t *testing.T) {
	before := tempEntries(t)
	for name, drive := range map[string][]byte{
		"empty":   {},
		"zeroes":  make([]byte, 1<<20),
		"no file": []byte(strings.ReplaceAll(string(novaDrive(t)), "\x00l\x00a\x00t\x00e\x00s\x00t", "\x00L\x00A\x00T\x00E\x00S\x00X")),
	} {
		t.Run(name, func(t *testing.T) {
			opts := instance.Options{DevDir: devDir(t, "config-2", drive), Order: []instance.Source{instance.ConfigDrive}}
			id, err := instance.New(opts).Identify(t.Context())
			if name == "no file" { // the primary tree still has it
				if err != nil || id.ServerID != serverID {
					t.Fatalf("got %+v, %v", id, err)
				}
				return
			}
			if err == nil {
				t.Fatalf("got %+v from a drive that is none", id)
			}
		})
	}
	if after := tempEntries(t); !slices.Equal(before, after) {
		t.Errorf("left behind: before %v, after %v", before, after)
	}
}

// tempEntries lists the private directories that drives get mounted in.
func tempEntries(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(os.TempDir(), "config-drive-*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestTheSearchEndsWithItsContext(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := instance.New(instance.Options{DevDir: t.TempDir(), MetadataURL: server.URL}).Identify(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, instance.ErrUnknown) {
		t.Fatalf("got %v, want both the deadline and ErrUnknown", err)
	}
}
