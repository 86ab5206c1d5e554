package inside

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
	"github.com/cinder-csi/cinder-csi/internal/instance"
	"github.com/cinder-csi/cinder-csi/internal/node"
)

// located returns a node service that learns where disks are from a metadata
// service, as on Hyper-V, where Nova can't set their serials.
func located(t testing.TB, devices ...map[string]string) *node.Server {
	t.Helper()
	document, err := json.Marshal(map[string]any{"uuid": uuid.NewString(), "devices": devices})
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	service := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(document)
	})}
	go func() { _ = service.Serve(listener) }()
	t.Cleanup(func() { _ = service.Close() })
	server := instance.New(instance.Options{MetadataURL: "http://" + listener.Addr().String()})
	finder := &blockdev.System{Locate: func(ctx context.Context, volumeID string) (blockdev.Location, error) {
		found, live, err := server.DiskAddresses(ctx, volumeID)
		at := blockdev.Location{Live: live}
		for _, d := range found {
			at.Addresses = append(at.Addresses, d.Bus+"-"+d.Address)
		}
		return at, err
	}}
	return newServer(node.Config{Finder: finder})
}

// TestADiskWithoutSerialIsFoundByItsAddress has two disks that nothing tells
// apart but where they are.
func TestADiskWithoutSerialIsFoundByItsAddress(t *testing.T) {
	const gib = 1 << 30
	before, err := filepath.Glob("/sys/block/sd*")
	must(t, err)
	if len(before) > 0 {
		t.Fatalf("there are %v already", before)
	}
	for _, name := range []string{"one", "two"} {
		plug(t, wire.Disk{Image: name, Bus: wire.VirtioSCSI, Size: gib})
	}
	var links []string
	eventually(t, "udev shows both by their paths", func() bool {
		links, err = filepath.Glob("/dev/disk/by-path/*-scsi-0:0:0:*")
		return err == nil && len(links) == 2
	})
	_, address, _ := strings.Cut(links[1], "-scsi-")
	want, err := filepath.EvalSymlinks(links[1])
	must(t, err)
	v := newVolume(t, wire.VirtioSCSI, gib, filesystemOf("ext4"))
	entry := map[string]string{"type": "disk", "bus": "scsi", "address": address, "serial": v.id}
	other := map[string]string{"type": "disk", "bus": "scsi", "address": address, "serial": uuid.NewString()}
	elsewhere := map[string]string{"type": "disk", "bus": "scsi", "address": "0:0:0:77", "serial": v.id}

	before1, before2 := hash(t, "one"), hash(t, "two")
	var refusals sync.WaitGroup
	for words, s := range map[string]*node.Server{
		"have no address of it": located(t, other),
		"nothing is at its":     located(t, elsewhere),
		"several addresses":     located(t, entry, elsewhere),
	} {
		refusals.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			defer cancel()
			_, err := s.NodeStageVolume(ctx, v.stageRequest())
			if err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("got %v, want it to say %q", err, words)
			}
		})
	}
	refusals.Wait()
	if hash(t, "one") != before1 || hash(t, "two") != before2 {
		t.Error("a disk has been written to")
	}

	s := located(t, entry)
	ctx := patient(t)
	_, err = s.NodeStageVolume(ctx, v.stageRequest())
	must(t, err)
	_, err = s.NodePublishVolume(ctx, v.publishRequest())
	must(t, err)
	mount, mounted, err := filesystem.New(filesystem.Options{}).Lookup(v.staging)
	must(t, err)
	if !mounted || mount.Source != want {
		t.Errorf("%s is staged, want %s", mount.Source, want)
	}
	content := v.write(t)
	_, err = s.NodeExpandVolume(ctx, v.expandRequest(gib))
	must(t, err)
	v.wantContent(t, content)
	_, err = s.NodeUnpublishVolume(ctx, v.unpublishRequest())
	must(t, err)
	_, err = s.NodeUnstageVolume(ctx, v.unstageRequest())
	must(t, err)
	wantNotMounted(t, v)
	wantCode(t, func() error { _, err := s.NodePublishVolume(ctx, v.publishRequest()); return err }(), codes.FailedPrecondition)
	if _, err := os.Stat(v.target); !errors.Is(err, os.ErrNotExist) {
		t.Error("the target is left")
	}
}
