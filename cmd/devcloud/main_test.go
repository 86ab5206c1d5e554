package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/volumeattach"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

// patience bounds every wait of the tests.
const patience = 30 * time.Second

var binary string

func TestMain(m *testing.M) { os.Exit(build(m)) }

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "devcloud")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "devcloud")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// process is a running devcloud.
type process struct {
	cmd    *exec.Cmd
	url    string
	steer  *admin.Client
	stderr *bytes.Buffer
}

// launch starts devcloud and waits for its line.
func launch(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary, args...), stderr: &bytes.Buffer{}}
	p.cmd.Stderr = p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("no line: %v %s", err, p.stderr)
	}
	words := strings.Fields(line)
	if len(words) < 4 || !strings.HasPrefix(line, "devcloud ready at http://127.0.0.1:") {
		t.Fatalf("line %q", line)
	}
	p.url = strings.TrimSuffix(words[3], ",")
	p.steer = admin.NewClient(p.url)
	return p
}

func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait() // reports the kill
}

func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("ended with %v: %s", err, p.stderr)
	}
}

// clients logs in with gophercloud.
func (p *process) clients(t *testing.T) (cinder, nova *gophercloud.ServiceClient) {
	t.Helper()
	accounts, err := p.steer.Accounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	provider, err := openstack.AuthenticatedClient(t.Context(), gophercloud.AuthOptions{
		IdentityEndpoint: p.url + "/identity/v3", Username: "demo", Password: accounts[0].Password, DomainName: "Default", TenantName: "demo",
	})
	if err != nil {
		t.Fatal(err)
	}
	if cinder, err = openstack.NewBlockStorageV3(provider, gophercloud.EndpointOpts{Region: "RegionOne"}); err != nil {
		t.Fatal(err)
	}
	if nova, err = openstack.NewComputeV2(provider, gophercloud.EndpointOpts{Region: "RegionOne"}); err != nil {
		t.Fatal(err)
	}
	cinder.Microversion, nova.Microversion = "3.70", "2.79"
	return cinder, nova
}

func await(t *testing.T, cinder *gophercloud.ServiceClient, id, status string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		v, err := volumes.Get(t.Context(), cinder, id).Extract()
		if err == nil && v.Status == status || status == "gone" && gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("volume %s is not %s: %+v %v", id, status, v, err)
		}
	}
}

func create(t *testing.T, cinder *gophercloud.ServiceClient, name string) string {
	t.Helper()
	v, err := volumes.Create(t.Context(), cinder, volumes.CreateOpts{Name: name, Size: 1}, nil).Extract()
	if err != nil {
		t.Fatal(err)
	}
	return v.ID
}

func TestAKilledCloudGoesOnWhereItWas(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("loop devices need root: run the tests as root")
	}
	dir := filepath.Join(t.TempDir(), "cloud")
	t.Cleanup(func() {
		if err := devcloud.Wipe(dir); err != nil {
			t.Errorf("wipe: %v", err)
		}
	})
	args := []string{"--state-dir", dir, "--server", "node1=nova"}
	p := launch(t, args...)
	cinder, nova := p.clients(t)
	servers, err := p.steer.Servers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server := servers[0].ID
	leaving, coming, doomed, growing := create(t, cinder, "leaving"), create(t, cinder, "coming"), create(t, cinder, "doomed"), create(t, cinder, "growing")
	for _, id := range []string{leaving, coming, doomed, growing} {
		await(t, cinder, id, "available")
	}
	attach(t, nova, server, leaving)
	await(t, cinder, leaving, "in-use")

	// Everything that is asked for from now on takes longer than the process lives.
	slow := devcloud.Realistic()
	slow.DefaultCall, slow.Calls, slow.Steps = devcloud.Latency{}.DefaultCall, nil, nil
	slow.DefaultStep.Min, slow.DefaultStep.Median = time.Hour, time.Hour
	if err := p.steer.SetLatency(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	born := create(t, cinder, "born")
	attach(t, nova, server, coming)
	check(t, volumeattach.Delete(t.Context(), nova, server, leaving).ExtractErr())
	check(t, volumes.Delete(t.Context(), cinder, doomed, nil).ExtractErr())
	check(t, volumes.ExtendSize(t.Context(), cinder, growing, volumes.ExtendSizeOpts{NewSize: 2}).ExtractErr())
	p.kill(t)

	p = launch(t, args...)
	cinder, _ = p.clients(t)
	await(t, cinder, born, "available")
	await(t, cinder, coming, "in-use")
	await(t, cinder, leaving, "available")
	await(t, cinder, doomed, "gone")
	await(t, cinder, growing, "available")
	if v, err := volumes.Get(t.Context(), cinder, growing).Extract(); err != nil || v.Size != 2 {
		t.Errorf("grown: %+v %v", v, err)
	}
	again, err := p.steer.Servers(t.Context())
	if err != nil || again[0].ID != server || len(again[0].Volumes) != 1 || again[0].Volumes[0] != coming {
		t.Errorf("servers: %+v %v", again, err)
	}
	p.stop(t)
	if out, err := exec.Command(binary, "wipe", "--state-dir", dir).CombinedOutput(); err != nil {
		t.Errorf("wipe: %v %s", err, out)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the state directory is left: %v", err)
	}
}

func attach(t *testing.T, nova *gophercloud.ServiceClient, server, volume string) {
	t.Helper()
	if _, err := volumeattach.Create(t.Context(), nova, server, volumeattach.CreateOpts{VolumeID: volume}).Extract(); err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestNoAcknowledgedVolumeIsLost kills the process in the middle of creations,
// again and again: whatever was answered 202 is there afterwards.
func TestNoAcknowledgedVolumeIsLost(t *testing.T) {
	dir := t.TempDir()
	var acknowledged []string
	for range 3 {
		p := launch(t, "--state-dir", dir, "--disks", "none", "--latency", "fast")
		cinder, _ := p.clients(t)
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		for ctx.Err() == nil {
			v, err := volumes.Create(ctx, cinder, volumes.CreateOpts{Name: "x", Size: 1}, nil).Extract()
			if err == nil {
				acknowledged = append(acknowledged, v.ID)
			}
		}
		cancel()
		p.kill(t)
	}
	p := launch(t, "--state-dir", dir, "--disks", "none")
	cinder, _ := p.clients(t)
	for _, id := range acknowledged {
		await(t, cinder, id, "available")
	}
	if len(acknowledged) == 0 {
		t.Error("nothing was created")
	}
	p.stop(t)
}

func TestTheCloudConfIsForTheOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "cloud.conf")
	if err := os.WriteFile(conf, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := launch(t, "--state-dir", filepath.Join(dir, "state"), "--disks", "none", "--cloud-conf", conf, "--ephemeral")
	info, err := os.Stat(conf)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	data, err := os.ReadFile(conf)
	if err != nil || !strings.Contains(string(data), "auth-url="+p.url+"/identity/v3\n") {
		t.Errorf("%s %v", data, err)
	}
	p.stop(t)
	if _, err := os.Stat(filepath.Join(dir, "state")); !os.IsNotExist(err) {
		t.Errorf("the state directory is left: %v", err)
	}
}

func TestBadArgumentsGiveOneClearLine(t *testing.T) {
	for want, args := range map[string][]string{
		"--state-dir is required":      {},
		"unknown flag: --nonsense":     {"--nonsense"},
		`unknown latency "x"`:          {"--state-dir", "x", "--latency", "x"},
		`unknown mode "x"`:             {"--state-dir", "x", "--disks", "x"},
		`unknown argument "x"`:         {"x", "--state-dir", "x"},
		"is not on loopback":           {"--state-dir", t.TempDir(), "--listen", "0.0.0.0:0", "--disks", "none"},
		"does another process use it":  {"--state-dir", busy(t), "--disks", "none"},
		`listen address "nonsense"`:    {"--state-dir", t.TempDir(), "--listen", "nonsense", "--disks", "none"},
		`is no name for a server`:      {"--state-dir", t.TempDir(), "--server", "a/b=c", "--disks", "none"},
		`cloud-conf: open /nonsense/x`: {"--state-dir", t.TempDir(), "--cloud-conf", "/nonsense/x", "--disks", "none"},
	} {
		out, err := exec.Command(binary, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) || strings.Count(strings.TrimSpace(string(out)), "\n") > 0 {
			t.Errorf("%v: %v %s, want %q", args, err, out, want)
		}
	}
}

func TestWhatAnotherProcessUsesIsLeftAlone(t *testing.T) {
	dir := busy(t)
	for _, args := range [][]string{
		{"--state-dir", dir, "--disks", "none", "--ephemeral"},
		{"wipe", "--state-dir", dir},
	} {
		if out, err := exec.Command(binary, args...).CombinedOutput(); err == nil {
			t.Errorf("%v: %s", args, out)
		}
		if _, err := os.Stat(filepath.Join(dir, "cloud.db")); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// busy returns a state directory that another process uses.
func busy(t *testing.T) string {
	dir := t.TempDir()
	launch(t, "--state-dir", dir, "--disks", "none")
	return dir
}
