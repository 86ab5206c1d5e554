package bench

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/controller"
	"github.com/cinder-csi/cinder-csi/internal/controller/controllertest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/rpc"
	"github.com/cinder-csi/cinder-csi/internal/volumes"
)

const gib = 1 << 30

// stack is a development cloud without disks and the driver's controller in
// front of it: gRPC, services, domain and HTTP as in production.
type stack struct {
	testing.TB
	cloud *devcloud.Cloud
	admin *admin.Client
	// conf is the path of the cloud.conf.
	conf    string
	servers []string
	driver  csi.ControllerClient
	ends    *ends
}

// newCloud starts the cloud, without a driver yet.
func newCloud(tb testing.TB, latency devcloud.Latency, servers int) *stack {
	tb.Helper()
	s := &stack{TB: tb, ends: &ends{at: map[string]time.Time{}}}
	dir := s.dir()
	config := devcloud.Config{
		StateDir: filepath.Join(dir, "cloud"), Disks: devcloud.DisksNone, Latency: latency, Ephemeral: true, Ended: s.ends.note,
	}
	for n := range servers {
		config.Servers = append(config.Servers, devcloud.Server{Name: "server" + strconv.Itoa(n)})
	}
	var err error
	s.cloud, err = devcloud.Start(s.Context(), config)
	s.must(err)
	s.Cleanup(func() { s.must(s.cloud.Close()) })
	s.admin = s.cloud.Admin()
	s.must(s.admin.SetQuotas(s.Context(), map[string]int64{"volumes": -1, "gigabytes": -1, "snapshots": -1}))
	for _, server := range config.Servers {
		s.servers = append(s.servers, s.cloud.ServerID(server.Name))
	}
	s.conf = filepath.Join(dir, "cloud.conf")
	s.must(s.cloud.WriteCloudConf(s.conf))
	return s
}

// newStack starts the cloud and, in this process, the driver.
func newStack(tb testing.TB, latency devcloud.Latency, servers int) *stack {
	tb.Helper()
	s := newCloud(tb, latency, servers)
	service := volumes.New(s.client(), volumes.Options{Cluster: "bench"})
	server := controller.New(controller.Config{Source: controllertest.Clouds{"": service}, WithTopology: true})
	served := rpc.NewServer(rpc.Options{}, func(r grpc.ServiceRegistrar) { csi.RegisterControllerServer(r, server) })
	address := "unix://" + filepath.Join(s.dir(), "csi.sock")
	endpoint, err := rpc.ParseEndpoint(address)
	s.must(err)
	listener, err := endpoint.Listen(s.Context())
	s.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- served.Serve(ctx, listener) }()
	s.Cleanup(func() {
		cancel()
		s.must(<-done)
	})
	s.driver = csi.NewControllerClient(s.connect(address))
	return s
}

// client logs in as the driver does.
func (s *stack) client() *openstack.Client {
	s.Helper()
	config, err := openstack.ReadConfig(s.conf)
	s.must(err)
	section, err := config.Cloud("")
	s.must(err)
	client, err := openstack.Connect(s.Context(), section, openstack.Options{Version: "bench"})
	s.must(err)
	s.Cleanup(client.Close)
	return client
}

func (s *stack) connect(address string) *grpc.ClientConn {
	s.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	s.must(err)
	s.Cleanup(func() { s.must(conn.Close()) })
	return conn
}

// dir is a new directory with a path that is short enough for a socket.
func (s *stack) dir() string {
	s.Helper()
	dir, err := os.MkdirTemp("", "bench")
	s.must(err)
	s.Cleanup(func() { s.must(os.RemoveAll(dir)) })
	return dir
}

func (s *stack) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// seed fills the cloud with volumes, as fast as it can, and returns their ids.
func (s *stack) seed(n int, latency devcloud.Latency) []string {
	s.Helper()
	s.must(s.admin.SetLatency(s.Context(), devcloud.Instant()))
	client := s.client()
	ids := make([]string, n)
	each(n, 16, func(i int) error {
		v, err := client.CreateVolume(s.Context(), cloud.VolumeRequest{
			Name: fmt.Sprintf("pvc-00000000-0000-4000-8000-%012d", i), SizeGiB: 1, Metadata: map[string]string{volumes.ClusterKey: "bench"},
		})
		if err == nil {
			ids[i] = v.ID
		}
		return err
	}, s.Error)
	for s.busy() {
		time.Sleep(100 * time.Millisecond)
	}
	s.must(s.admin.SetLatency(s.Context(), latency))
	return ids
}

// busy reports whether the cloud has something left to do.
func (s *stack) busy() bool {
	d, err := s.admin.Dump(s.Context())
	s.must(err)
	return len(d.Tasks) > 0
}

// requests returns what the cloud has counted since the last reset.
func (s *stack) requests() admin.Requests {
	s.Helper()
	r, err := s.admin.Requests(s.Context())
	s.must(err)
	return r
}

// each calls do for the numbers below n, so many at a time.
func each(n, atOnce int, do func(i int) error, failed func(...any)) {
	numbers := make(chan int)
	var group sync.WaitGroup
	for range min(n, atOnce) {
		group.Go(func() {
			for i := range numbers {
				if err := do(i); err != nil {
					failed(err)
				}
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	group.Wait()
}

// ends knows when the cloud was done with each volume.
type ends struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (e *ends) note(volumeID string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.at[volumeID] = time.Now()
}

// since returns how long ago the cloud was done with a volume.
func (e *ends) since(volumeID string) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Since(e.at[volumeID])
}

// pollsIn returns the requests that only waiting makes, where every volume that
// was created was looked for by one list.
func pollsIn(r admin.Requests) int64 {
	ops := maps.Clone(r.Operations)
	return ops["volume.get"] + ops["attachment.list"] + ops["snapshot.get"] + ops["volume.list"] - ops["volume.create"]
}
