package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

// The zones of the two servers.
const (
	zone1 = "az1"
	zone2 = "az2"
)

// stopTime is how long a program may take to end when it is asked to.
const stopTime = 10 * time.Second

// fleet is the programs of a demo: the cloud, one controller plugin, two node
// plugins.
type fleet struct {
	home   *home
	bins   binaries
	report *report
	gun    *gun
	// failed ends the demo when a program can't be kept running.
	failed context.CancelCauseFunc
	// ready tells that all programs have been up: from then on the end of one
	// is news.
	ready atomic.Bool

	cloudURL string
	servers  map[string]admin.Server
	meter    *meter
	plugins  []*plugin
	orch     *orchestrator
	nodes    map[string]*node

	mu       sync.Mutex
	children map[string]*child
	reasons  map[string]string // why a component is dying, where the demo killed it
	repeats  int
	journal  *os.File
}

// newFleet prepares a fleet; nothing runs yet.
func newFleet(h *home, bins binaries, r *report, failed context.CancelCauseFunc) (*fleet, error) {
	journal, err := os.OpenFile(h.log("demo"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the demo's log: %w", err)
	}
	f := &fleet{
		home: h, bins: bins, report: r, failed: failed, journal: journal,
		nodes: map[string]*node{}, children: map[string]*child{}, reasons: map[string]string{},
	}
	f.gun = &gun{kill: f.kill, calling: r.Detail}
	return f, nil
}

// environment is what the children see: no proxy between them and the
// loopback, the administrator's directories in PATH, temporary files at home.
func (f *fleet) environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"TMPDIR=" + filepath.Join(f.home.dir, "tmp"),
		"HOME=" + f.home.dir,
		"LC_ALL=C",
	}
}

// start runs the programs and returns when all of them say that they are
// ready and the nodes have said who they are.
func (f *fleet) start(ctx context.Context) error {
	if err := f.startCloud(ctx); err != nil {
		return err
	}
	if err := f.startPlugins(); err != nil {
		return err
	}
	controller, err := f.connect(ctx, Controller)
	if err != nil {
		return err
	}
	f.orch = &orchestrator{controller: csi.NewControllerClient(controller.conn), patience: usual(f.repeated)}
	if err := checkController(ctx, f.orch.patience, f.orch.controller); err != nil {
		return err
	}
	if err := errors.Join(f.meet(ctx, Node1, zone1), f.meet(ctx, Node2, zone2)); err != nil {
		return err
	}
	f.ready.Store(true)
	return nil
}

// startCloud runs devcloud on a free port. The port stays the same over
// restarts, as that of a real cloud would.
func (f *fleet) startCloud(ctx context.Context) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	f.cloudURL = "http://127.0.0.1:" + port
	client := adminClient{admin.NewClient(f.cloudURL)}
	f.meter = &meter{admin: client}
	err = f.run(program{name: Devcloud, path: f.bins.devcloud, orphan: syscall.SIGTERM, args: []string{
		"--state-dir=" + f.home.cloudState(), "--listen=127.0.0.1:" + port, "--latency=fast", "--ephemeral", "--verbose",
		"--server=" + Node1 + "=" + zone1, "--server=" + Node2 + "=" + zone2, "--cloud-conf=" + f.home.cloudConf(),
	}})
	if err != nil {
		return err
	}
	f.servers, err = f.awaitCloud(ctx, client)
	return err
}

// startPlugins runs the controller and both nodes. The first node finds
// itself on its config drive, the second one asks the metadata service.
func (f *fleet) startPlugins() error {
	conf := filepath.Join(f.home.dir, "node2.conf")
	if err := os.WriteFile(conf, []byte("[Metadata]\nsearch-order = metadataService\n"), 0o600); err != nil {
		return fmt.Errorf("write the configuration of %s: %w", Node2, err)
	}
	return errors.Join(
		f.runPlugin(Controller, "--provide-controller-service=true", "--provide-node-service=false", "--cloud-config="+f.home.cloudConf()),
		f.runPlugin(Node1, f.nodeArgs(Node1)...),
		f.runPlugin(Node2, append(f.nodeArgs(Node2), "--cloud-config="+conf)...),
	)
}

func (f *fleet) nodeArgs(name string) []string {
	return []string{
		"--provide-controller-service=false", "--provide-node-service=true",
		"--development-device-dir=" + f.servers[name].DeviceDir,
		"--metadata-url=" + f.servers[name].MetadataURL,
	}
}

func (f *fleet) runPlugin(name string, args ...string) error {
	common := []string{"--endpoint=unix://" + f.home.socket(name), "--cluster=demo", "--with-topology=true", "--log-format=console"}
	return f.run(program{name: name, path: f.bins.plugin, orphan: syscall.SIGKILL, args: append(common, args...)})
}

func (f *fleet) run(p program) error {
	p.env, p.log = f.environment(), f.home.log(p.name)
	f.write("%s", strings.Join(append([]string{"start", p.path}, p.args...), " "))
	c, err := supervise(p, f.died)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.children[p.name] = c
	return nil
}

// connect dials a plugin and waits until it is ready.
func (f *fleet) connect(ctx context.Context, name string) (*plugin, error) {
	p, err := dial(name, f.home.socket(name), f.gun.intercept(name))
	if err != nil {
		return nil, err
	}
	f.plugins = append(f.plugins, p)
	return p, p.awaitReady(ctx, usual(nil))
}

// meet connects to a node plugin and learns the node's id and zone.
func (f *fleet) meet(ctx context.Context, name, zone string) error {
	p, err := f.connect(ctx, name)
	if err != nil {
		return err
	}
	n := &node{name: name, client: csi.NewNodeClient(p.conn), dir: f.home.kubelet(name)}
	if err := checkNode(ctx, f.orch.patience, name, n.client); err != nil {
		return err
	}
	id, found, err := f.orch.info(ctx, name, n.client)
	if err != nil {
		return err
	}
	if id != f.servers[name].ID {
		return fmt.Errorf("%s: NodeGetInfo says server %q, it is %q", name, id, f.servers[name].ID)
	}
	if found != zone {
		return fmt.Errorf("%s: NodeGetInfo says zone %q, the server is in %q", name, found, zone)
	}
	n.id = id
	f.nodes[name] = n
	return nil
}

// freePort returns a port of the loopback that nothing listens on just now.
func freePort(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}
