package devcloud_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
)

// withDisks runs a cloud with loop devices that removes everything with the test.
func withDisks(t *testing.T, change func(*devcloud.Config)) *devcloud.Cloud {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("loop devices need root: run the tests as root")
	}
	dir := filepath.Join(t.TempDir(), "cloud")
	t.Cleanup(func() {
		if err := devcloud.Wipe(dir); err != nil {
			t.Errorf("wipe: %v", err)
		}
	})
	return start(t, func(cfg *devcloud.Config) {
		cfg.StateDir, cfg.Disks = dir, devcloud.DisksLoop
		if change != nil {
			change(cfg)
		}
	})
}

// device is where a server finds a volume.
func device(cloud *devcloud.Cloud, server, volume string) string {
	return filepath.Join(cloud.DeviceDir(server), "disk/by-id", "virtio-"+volume[:20])
}

func deviceSize(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Seek(0, 2)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		t.Fatal(err)
	}
	return size
}

func TestAVolumeIsADeviceOfTheServerItIsAttachedTo(t *testing.T) {
	const lag = 100 * time.Millisecond
	cloud := withDisks(t, func(cfg *devcloud.Config) {
		cfg.Latency = devcloud.Latency{Steps: map[string]latency.Distribution{latency.GuestGrowth: {Min: lag, Median: lag}}}
	})
	c := login(t, cloud, "demo")
	one, two := cloud.ServerID("node1"), cloud.ServerID("node2")
	v := c.create("")
	c.attach("93", one, v)
	c.await(v, "in-use", 1)
	here := device(cloud, "node1", v)
	if size := deviceSize(t, here); size != 1<<30 {
		t.Errorf("size %d", size)
	}
	if _, err := os.Lstat(device(cloud, "node2", v)); err == nil {
		t.Error("another server sees the volume")
	}
	write(t, here, "hello")
	s := c.volume("70", "POST", "/snapshots", `{"snapshot": {"volume_id": "`+v+`"}}`).member("snapshot", "id")
	c.settle("/snapshots/"+s, "snapshot", "available")
	b := c.volume("70", "POST", "/backups", `{"backup": {"volume_id": "`+v+`", "force": true}}`).member("backup", "id")
	c.settle("/backups/"+b, "backup", "available")

	c.volume("70", "POST", "/volumes/"+v+"/action", `{"os-extend": {"new_size": 2}}`)
	c.await(v, "in-use", 1)
	if size := deviceSize(t, here); size != 1<<30 {
		t.Errorf("the guest sees %d at once", size)
	}
	c.until("the guest to see the growth", func() (string, bool) { return "", deviceSize(t, here) == 2<<30 })
	c.detach(one, v)
	c.await(v, "available", 0)
	if _, err := os.Lstat(here); err == nil {
		t.Error("the device is left")
	}
	for _, source := range []string{`"snapshot_id": "` + s + `"`, `"source_volid": "` + v + `"`, `"backup_id": "` + b + `"`} {
		w := c.volume("70", "POST", "/volumes", `{"volume": {"size": 3, `+source+`}}`).member("volume", "id")
		c.await(w, "available", 0)
		c.attach("93", two, w)
		c.await(w, "in-use", 1)
		there := device(cloud, "node2", w)
		if got := read(t, there, 5); got != "hello" || deviceSize(t, there) != 3<<30 {
			t.Errorf("%s: %q, %d bytes", source, got, deviceSize(t, there))
		}
		c.detach(two, w)
		c.await(w, "available", 0)
		c.volume("70", "DELETE", "/volumes/"+w, "")
		c.await(w, "gone", 0)
	}
	if _, err := os.Stat(filepath.Join(cloud.DeviceDir("node1"), "disk/by-label/config-2")); err != nil {
		t.Errorf("config drive: %v", err)
	}
	dump, err := cloud.Admin().Dump(t.Context())
	if err != nil || len(dump.Files) != 3 {
		t.Errorf("files on the backend: %v %v", dump.Files, err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = f.WriteString(text); err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string, n int) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	data := make([]byte, n)
	if _, err := f.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestADeviceThatIsOpenComesBackInUse(t *testing.T) {
	cloud := withDisks(t, func(cfg *devcloud.Config) {
		cfg.Latency = devcloud.Latency{Steps: map[string]latency.Distribution{latency.BusyDetach: {Min: time.Millisecond, Median: time.Millisecond}}}
	})
	c := login(t, cloud, "demo")
	server, v := cloud.ServerID("node1"), c.create("")
	c.attach("93", server, v)
	c.await(v, "in-use", 1)
	user, err := os.Open(device(cloud, "node1", v))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = user.Close() }) // so that a failure leaves no disk in use
	c.detach(server, v)
	c.await(v, "in-use", 1)
	got := c.compute("93", "GET", "/servers/"+server+"/os-instance-actions", "").text
	if !strings.Contains(got, `"action":"detach_volume"`) || !strings.Contains(got, `"message":"Error"`) {
		t.Errorf("actions: %s", got)
	}
	if err := user.Close(); err != nil {
		t.Fatal(err)
	}
	c.detach(server, v)
	c.await(v, "available", 0)
}

func TestADeletedServersDevicesGo(t *testing.T) {
	cloud := withDisks(t, nil)
	c := login(t, cloud, "demo")
	got := c.compute("93", "POST", "/servers", `{"server": {"name": "node 9", "flavorRef": "1", "imageRef": "`+missing+`"}}`)
	server := got.member("server", "id") // its name is no file name
	c.until("the server to be active", func() (string, bool) {
		got := c.compute("93", "GET", "/servers/"+server, "")
		return got.text, got.member("server", "status") == "ACTIVE"
	})
	v := c.create("")
	c.attach("93", server, v)
	c.await(v, "in-use", 1)
	if _, err := os.Stat(device(cloud, server, v)); err != nil {
		t.Error(err)
	}
	c.compute("93", "DELETE", "/servers/"+server, "")
	c.await(v, "available", 0)
	c.until("the device directory to go", func() (string, bool) {
		_, err := os.Stat(cloud.DeviceDir(server))
		return "", os.IsNotExist(err)
	})
}

func TestAnEphemeralCloudLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cloud")
	cloud, err := devcloud.Start(context.Background(), devcloud.Config{
		StateDir: dir, Ephemeral: true, Servers: []devcloud.Server{{Name: "node1", Zone: "nova"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := login(t, cloud, "demo")
	v := c.create("")
	c.attach("93", cloud.ServerID("node1"), v)
	c.await(v, "in-use", 1)
	if err := cloud.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the state directory is left: %v", err)
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range loops {
		if data, err := os.ReadFile(l); err == nil && strings.Contains(string(data), v) {
			t.Errorf("%s is left", l)
		}
	}
}

func TestAReopenedCloudFindsItsDevices(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cloud")
	t.Cleanup(func() {
		if err := devcloud.Wipe(dir); err != nil {
			t.Errorf("wipe: %v", err)
		}
	})
	cfg := devcloud.Config{StateDir: dir, Servers: []devcloud.Server{{Name: "node1", Zone: "nova"}}}
	cloud, err := devcloud.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := login(t, cloud, "demo")
	v, server := c.create(""), cloud.ServerID("node1")
	c.attach("93", server, v)
	c.await(v, "in-use", 1)
	write(t, device(cloud, "node1", v), "hello")
	if err := cloud.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, device(cloud, "node1", v), 5); got != "hello" {
		t.Errorf("while the cloud is down: %q", got)
	}
	again := start(t, func(c *devcloud.Config) { *c = cfg })
	c = login(t, again, "demo")
	if again.ServerID("node1") != server {
		t.Error("the server has another id")
	}
	if got := read(t, device(again, "node1", v), 5); got != "hello" {
		t.Errorf("afterwards: %q", got)
	}
	c.detach(server, v)
	c.await(v, "available", 0)
}
