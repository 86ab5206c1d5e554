package driver_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/cinder-csi/cinder-csi/internal/admin"
	"github.com/cinder-csi/cinder-csi/internal/driver"
)

func TestTheAdminSocketIsThePluginsOwn(t *testing.T) {
	dir, address, level := t.TempDir(), freeAddress(t), zap.NewAtomicLevel()
	socket := filepath.Join(dir, "a.sock")
	start(t, driver.Config{Node: true, DevelopmentDeviceDir: dir, AdminEndpoint: "unix://" + socket, LogLevel: &level, HTTPEndpoint: address})
	info, err := os.Lstat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := admin.NewClient(socket).SetLogLevel(t.Context(), zap.DebugLevel, 0); err != nil || level.Level() != zap.DebugLevel {
		t.Errorf("the level is %v, %v", level, err)
	}
	for _, path := range []string{"/log-level", "/debug/pprof/", "/debug/pprof/heap"} {
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s is served to all who reach the metrics: %s", path, resp.Status)
		}
	}
}

func TestAPluginHasAnAdminSocketBesideTheOneOfCSI(t *testing.T) {
	for _, test := range []struct {
		name, endpoint string
		level, there   bool
	}{
		{"unless it is told otherwise", "", true, true},
		{"not if there is to be none", driver.NoAdmin, true, false},
		{"not without a level", "", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			level := zap.NewAtomicLevel()
			cfg := driver.Config{Node: true, DevelopmentDeviceDir: t.TempDir(), AdminEndpoint: test.endpoint}
			if test.level {
				cfg.LogLevel = &level
			}
			s := start(t, cfg)
			path := filepath.Join(filepath.Dir(strings.TrimPrefix(s.conn.Target(), "unix:")), admin.Socket)
			if _, err := os.Lstat(path); (err == nil) != test.there {
				t.Errorf("it is there: %v", err)
			}
			if err := s.stop(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(path); !os.IsNotExist(err) {
				t.Errorf("it stays after a stop: %v", err)
			}
		})
	}
}

// A socket that nobody has asked for by name must not keep a driver from its work.
func TestAnAdminSocketThatCannotBeMadeStopsNothingUnlessItIsAskedFor(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	level, dir := zap.NewAtomicLevel(), t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, admin.Socket), 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := driver.Config{
		Endpoint: "unix://" + filepath.Join(dir, "csi.sock"), Node: true, DevelopmentDeviceDir: dir, DefaultFSType: "ext4", LogLevel: &level,
		HTTPEndpoint: "127.0.0.1:0", // goes away again where the other fails
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := driver.Run(ctx, cfg, zap.New(core)); err != nil || logs.FilterMessageSnippet("--admin-endpoint").Len() != 1 {
		t.Errorf("got %v, %v", err, logs.All())
	}
	cfg.AdminEndpoint = "unix://" + filepath.Join(dir, admin.Socket)
	if err := driver.Run(ctx, cfg, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "--admin-endpoint") {
		t.Errorf("got %v", err)
	}
}
