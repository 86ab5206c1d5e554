// Package node implements the CSI node service: it turns a volume that is
// attached to this server into a mounted filesystem, or a block device, at the
// path where a workload wants it, and takes it away again.
//
// It trusts nothing but what the kernel says at that moment. Every call finds
// the disk of its volume anew, by its serial, and compares device numbers with
// what is mounted; nothing is kept in memory that a restart could lose, but for
// the locks that keep two calls for one volume apart. Every call may be
// repeated, after an answer that was lost or a process that died between any
// two steps, and then finishes what was begun.
package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/inflight"
	"github.com/cinder-csi/cinder-csi/internal/instance"
	"github.com/cinder-csi/cinder-csi/internal/keylock"
	"github.com/cinder-csi/cinder-csi/internal/luks"
	"github.com/cinder-csi/cinder-csi/internal/mkfs"
)

const (
	// DefaultFSType is the filesystem made where nobody asks for one.
	DefaultFSType = "ext4"
	// MaxAttachLimit is the largest number of volumes announced for a node, and
	// the one announced where none, or an impossible one, is configured.
	MaxAttachLimit = 256
)

// lockWait is how long a call waits for another one for the same volume before
// it is told to come back. The kubelet repeats a call only after the first one
// timed out, so a longer wait would pile up calls behind a slow mkfs.
const lockWait = 5 * time.Second

// Filesystems is filesystem.FS, or what a test puts around it.
type Filesystems interface {
	Lookup(target string) (filesystem.MountPoint, bool, error)
	MountsOf(number uint64) ([]filesystem.MountPoint, error)
	Under(path string) (filesystem.MountPoint, error)
	Recognize(ctx context.Context, on filesystem.Device) (filesystem.Content, error)
	Probe(ctx context.Context, on filesystem.Device) (filesystem.Content, error)
	Format(ctx context.Context, on filesystem.Device, proof filesystem.Proof, t *filesystem.Type, options mkfs.List) error
	Check(ctx context.Context, path string, t *filesystem.Type) error
	Grow(ctx context.Context, path, mountpoint string) (int64, error)
	Mount(ctx context.Context, path, target string, t *filesystem.Type, options []string) error
	Bind(ctx context.Context, source, target string, readOnly bool, options []string) error
	Unmount(ctx context.Context, target string) error
	Stats(ctx context.Context, m filesystem.MountPoint) (filesystem.Stats, error)
}

// Encryption is luks.Crypt, or what a test puts around it.
type Encryption interface {
	Read(ctx context.Context, path string) (luks.Header, error)
	Format(ctx context.Context, on filesystem.Device, proof filesystem.Proof, passphrase []byte) error
	Open(ctx context.Context, path string, h luks.Header, title string, passphrase []byte, o luks.Options) error
	Verify(ctx context.Context, h luks.Header, passphrase []byte) error
	Resize(ctx context.Context, path string, h luks.Header, title string) error
	Close(ctx context.Context, title string) error
	DropUnfinished(ctx context.Context, title string) error
}

// Config is what a Server works with. FS is required.
type Config struct {
	// Identity tells which server this is, at each NodeGetInfo, which fails without it.
	Identity func(context.Context) (instance.Identity, error)
	// Finder finds the disk of a volume; default blockdev.System.
	Finder blockdev.Finder
	// Deployed: the disks are a real server's, so that the paths must be too.
	Deployed bool
	// FS works on filesystems.
	FS Filesystems
	// Crypt works on encrypted disks; default luks.New(FS).
	Crypt Encryption
	// WithTopology makes NodeGetInfo tell the node's zone.
	WithTopology bool
	// ZoneFallback is told where the server's zone is unknown, "" for an empty label. Nil:
	// NodeGetInfo fails then, and the kubelet doesn't register the driver.
	ZoneFallback *string
	// WellKnownZone makes NodeGetInfo tell the zone under zone.WellKnownKey, too.
	WellKnownZone bool
	// AdditionalTopology is told beside the zone; it may override it.
	AdditionalTopology map[string]string
	// NodeName is what Kubernetes calls the node, for the log.
	NodeName string
	// AttachLimit is how many volumes the server takes, 1 to MaxAttachLimit;
	// anything else means MaxAttachLimit. No more are announced than Finder has
	// room for.
	AttachLimit int64
	// ReservedAttachments are taken off that: volumes that something else than this
	// driver attaches to the server. At least one place is announced.
	ReservedAttachments int64
	// DefaultFSType is used where a capability names none; default
	// DefaultFSType.
	DefaultFSType string
	// Metrics gets the metrics of the node; nil for none.
	Metrics prometheus.Registerer
}

// Server is the CSI node service. It is safe for concurrent use.
type Server struct {
	csi.UnimplementedNodeServer

	cfg Config
	// root returns the mount of this process's root directory.
	root func() (filesystem.MountPoint, error)

	seen    *observer
	volumes keylock.Locks[string]
	targets keylock.Locks[string]
	flushes inflight.Group[struct{}]
	// zone is the label that NodeGetInfo told last.
	zone atomic.Pointer[string]
}

var _ csi.NodeServer = (*Server)(nil)

// New returns a Server. It touches nothing until it is called.
func New(cfg Config) *Server {
	if cfg.DefaultFSType == "" {
		cfg.DefaultFSType = DefaultFSType
	}
	if cfg.Finder == nil {
		cfg.Finder = &blockdev.System{}
	}
	if fs, ok := cfg.FS.(*filesystem.FS); ok && cfg.Crypt == nil {
		cfg.Crypt = luks.New(fs)
	}
	root := sync.OnceValues(func() (filesystem.MountPoint, error) { return cfg.FS.Under("/") })
	return &Server{cfg: cfg, root: root, seen: newObserver(cfg.Metrics, cfg.Finder)}
}

// lock makes the call the only one for its volume, and for its target where it
// has one. Every call takes the volume first, so that none waits for another in
// a circle.
func (s *Server) lock(ctx context.Context, volumeID, target string) (unlock func(), err error) {
	unlockVolume, err := s.volumes.Lock(ctx, volumeID, lockWait)
	if err != nil {
		return nil, err
	}
	if target == "" {
		return unlockVolume, nil
	}
	unlockTarget, err := s.targets.Lock(ctx, target, lockWait)
	if err != nil {
		unlockVolume()
		return nil, err
	}
	return func() {
		unlockTarget()
		unlockVolume()
	}, nil
}
