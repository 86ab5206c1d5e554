package instance

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const volumeID = "6a4b9c0e-3f1d-4e57-9a60-1f2e3d4c5b6a"

const devices = `{"uuid":"83679162-1378-4288-a2d4-70e13ec132aa","devices":[
	{"type":"nic","bus":"pci","address":"0000:00:02.0","mac":"00:11:22:33:44:55"},
	{"type":"disk","bus":"scsi","address":"0:0:0:1","serial":"0b0b4d11-6e0e-4c5c-9f4b-2d7bd8a7c001"},
	{"type":"disk","bus":"scsi","address":"0:0:0:2","serial":"6A4B9C0E-3F1D-4E57-9A60-1F2E3D4C5B6A","path":"/dev/sdb"},
	{"type":"disk","bus":"scsi","address":"0:0:0:2","serial":"6a4b9c0e-3f1d-4e57-9a60-1f2e3d4c5b6a","tags":["x"]},
	{"type":"disk","bus":"","address":"0:0:0:3","serial":"6a4b9c0e-3f1d-4e57-9a60-1f2e3d4c5b6a"},
	{"type":"nic","bus":"scsi","address":"0:0:0:4","serial":"6a4b9c0e-3f1d-4e57-9a60-1f2e3d4c5b6a"}]}`

func TestTheAddressOfADiskIsRead(t *testing.T) {
	found, err := parseDisks([]byte(devices), volumeID)
	if want := []DiskAddress{{"scsi", "0:0:0:2"}}; err != nil || !slices.Equal(found, want) {
		t.Errorf("got %v, %v, want %v", found, err, want)
	}
	for _, doc := range []string{`{}`, `{"devices":null}`, `{"devices":[]}`, `{"devices":[{}]}`} {
		if found, err := parseDisks([]byte(doc), volumeID); err != nil || len(found) != 0 {
			t.Errorf("%s: got %v, %v", doc, found, err)
		}
	}
	for _, doc := range []string{``, `[]`, `{"devices":7}`, `{"devices":[7]}`} {
		if found, err := parseDisks([]byte(doc), volumeID); err == nil {
			t.Errorf("%q: got %v", doc, found)
		}
	}
}

// TestTheServiceIsAskedForADiskBeforeTheDrive whatever the order is: it alone
// knows of a volume that was attached just now.
func TestTheServiceIsAskedForADiskBeforeTheDrive(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(devices)) }))
	defer server.Close()
	dead := httptest.NewServer(http.NotFoundHandler())
	defer dead.Close()
	dev := t.TempDir()
	write(t, filepath.Join(dev, "sr0"), string(unpacked(t)))
	write(t, filepath.Join(dev, "disk", "by-label", "x"), "")
	if err := os.Symlink("../../sr0", filepath.Join(dev, "disk", "by-label", "config-2")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name        string
		opts        Options
		found       int
		live, fails bool
	}{
		{"service", Options{DevDir: dev, MetadataURL: server.URL, Order: []Source{ConfigDrive, MetadataService}}, 1, true, false},
		{"drive where the service is dead", Options{DevDir: dev, MetadataURL: dead.URL}, 0, false, false},
		{"drive alone", Options{DevDir: dev, MetadataURL: server.URL, Order: []Source{ConfigDrive}}, 0, false, false},
		{"none", Options{DevDir: t.TempDir(), MetadataURL: dead.URL}, 0, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			began := time.Now()
			found, live, err := New(tt.opts).DiskAddresses(t.Context(), volumeID)
			if len(found) != tt.found || live != tt.live || (err != nil) != tt.fails {
				t.Errorf("got %v, live %t, %v", found, live, err)
			}
			if time.Since(began) > 2*laterTime {
				t.Error("it took too long")
			}
		})
	}
}

// TestASlowServiceTellsWhereADiskIs: who asks anew for each disk would never be told.
func TestASlowServiceTellsWhereADiskIs(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(3 * time.Second):
		case <-r.Context().Done():
		}
		_, _ = w.Write([]byte(devices))
	}))
	t.Cleanup(server.Close)
	found, live, err := New(Options{DevDir: t.TempDir(), MetadataURL: server.URL}).DiskAddresses(t.Context(), volumeID)
	if len(found) != 1 || !live || err != nil {
		t.Errorf("got %v, live %t, %v", found, live, err)
	}
}

func TestLabels(t *testing.T) {
	fat := func(at, kind int, label string) []byte {
		sector := make([]byte, 512)
		copy(sector[at:], label)
		copy(sector[kind:], "FAT32   ")
		sector[510], sector[511] = 0x55, 0xaa
		return sector
	}
	for name, tt := range map[string]struct {
		image []byte
		want  bool
	}{
		"Nova's ISO 9660":      {unpacked(t), true},
		"FAT16":                {fat(43, 54, "CONFIG-2   "), true},
		"FAT32":                {fat(71, 82, "config-2   "), true},
		"another label":        {fat(71, 82, "config-22  "), false},
		"another ISO 9660":     {bytes.Replace(unpacked(t), []byte("config-2 "), []byte("config-3 "), 1), false},
		"a master boot record": {append(make([]byte, 510), 0x55, 0xaa), false},
		"less than a sector":   {make([]byte, 100), false},
		"zeros":                {make([]byte, 64<<10), false},
	} {
		if got := isLabelled(bytes.NewReader(tt.image)); got != tt.want {
			t.Errorf("%s: %t, want %t", name, got, tt.want)
		}
	}
}

// TestDrivesThatContradictEachOtherAreNotBelieved has one by each of udev's links.
func TestDrivesThatContradictEachOtherAreNotBelieved(t *testing.T) {
	dev := t.TempDir()
	const id, other = "83679162-1378-4288-a2d4-70e13ec132aa", "0b0b4d11-6e0e-4c5c-9f4b-2d7bd8a7c001"
	write(t, filepath.Join(dev, "disk", "by-label", "config-2"), string(unpacked(t)))
	second := filepath.Join(dev, "disk", "by-label", "CONFIG-2")
	write(t, second, string(unpacked(t)))
	if found, err := New(Options{DevDir: dev, Order: []Source{ConfigDrive}}).Identify(t.Context()); err != nil || found.ServerID != id {
		t.Fatalf("two that agree: %+v, %v", found, err)
	}
	write(t, second, strings.ReplaceAll(string(unpacked(t)), id, other))
	if found, err := New(Options{DevDir: dev, Order: []Source{ConfigDrive}}).Identify(t.Context()); err == nil || !strings.Contains(err.Error(), "contradict") {
		t.Errorf("got %+v, %v", found, err)
	}
	write(t, second, "damaged")
	if found, err := New(Options{DevDir: dev, Order: []Source{ConfigDrive}}).Identify(t.Context()); err != nil || found.ServerID != id {
		t.Errorf("one of two is damaged: %+v, %v", found, err)
	}
}

func FuzzDisks(f *testing.F) {
	f.Add([]byte(devices))
	f.Add([]byte(`{"devices":[{"type":"disk","serial":"` + volumeID + `","bus":"scsi","address":"../../x"}]}`))
	f.Add([]byte(`{"devices":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		found, err := parseDisks(data, volumeID)
		if err != nil && found != nil {
			t.Errorf("%v together with %v", found, err)
		}
		for _, at := range found {
			if at.Bus == "" || at.Address == "" {
				t.Errorf("an address that is none: %+v", at)
			}
		}
	})
}

func FuzzLabel(f *testing.F) {
	f.Add(uint32(43), []byte("CONFIG-2   "), uint32(54), []byte("FAT16"))
	f.Add(uint32(firstVolume*sectorSize), []byte("\x01CD001"), uint32(firstVolume*sectorSize+40), []byte("config-2"))
	f.Fuzz(func(t *testing.T, at1 uint32, with1 []byte, at2 uint32, with2 []byte) {
		image := make([]byte, 40<<10)
		image[510], image[511] = 0x55, 0xaa
		copy(image[int(at1)%len(image):], with1)
		copy(image[int(at2)%len(image):], with2)
		if isLabelled(bytes.NewReader(image)) && !bytes.Contains(bytes.ToLower(image), []byte("config-2")) {
			t.Error("it has a label that isn't there")
		}
	})
}
