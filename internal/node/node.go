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
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/inflight"
	"github.com/cinder-csi/cinder-csi/internal/instance"
	"github.com/cinder-csi/cinder-csi/internal/keylock"
	"github.com/cinder-csi/cinder-csi/internal/luks"
)

const (
	// DefaultFSType is the filesystem made where nobody asks for one.
	DefaultFSType = "ext4"
	// DefaultTopologyKey is the label that carries a node's zone.
	DefaultTopologyKey = "topology.cinder.csi.openstack.org/zone"
	// MaxAttachLimit is the largest number of volumes announced for a node, and
	// the one announced where none, or an impossible one, is configured.
	MaxAttachLimit = 256
)

// lockWait is how long a call waits for another one for the same volume before
// it is told to come back. The kubelet repeats a call only after the first one
// timed out, so a longer wait would pile up calls behind a slow mkfs.
const lockWait = 5 * time.Second

// Config is what a Server works with. Finder and FS are required.
type Config struct {
	// Identity tells which server this is; it is asked until it has once
	// succeeded. NodeGetInfo fails without it.
	Identity func(context.Context) (instance.Identity, error)
	// Finder finds the disk of a volume.
	Finder blockdev.Finder
	// FS works on filesystems.
	FS *filesystem.FS
	// Crypt works on encrypted disks; default luks.New(FS).
	Crypt *luks.Crypt
	// WithTopology makes NodeGetInfo tell the node's zone.
	WithTopology bool
	// AdditionalTopology is told beside the zone; it may override it.
	AdditionalTopology map[string]string
	// AttachLimit is how many volumes the server takes, 1 to MaxAttachLimit;
	// anything else means MaxAttachLimit. No more are announced than Finder, if
	// it can tell (as blockdev.System can), has room for.
	AttachLimit int64
	// DefaultFSType is used where a capability names none; default
	// DefaultFSType.
	DefaultFSType string
	// TopologyKey is the label of the zone; default DefaultTopologyKey.
	TopologyKey string
	// Step is for tests: it is called between any two steps that leave something
	// behind, with the name of what has just been done.
	Step func(done string)
}

// Server is the CSI node service. It is safe for concurrent use.
type Server struct {
	csi.UnimplementedNodeServer

	cfg Config
	// deployed: the disks are a real server's, so that the paths must be too.
	deployed bool
	// root returns the mount of this process's root directory.
	root func() (filesystem.MountPoint, error)

	volumes keylock.Locks[string]
	targets keylock.Locks[string]
	flushes inflight.Group[struct{}]
	self    self

	// step is Config.Step, or does nothing.
	step func(done string)
}

var _ csi.NodeServer = (*Server)(nil)

// New returns a Server. It touches nothing until it is called.
func New(cfg Config) *Server {
	if cfg.DefaultFSType == "" {
		cfg.DefaultFSType = DefaultFSType
	}
	if cfg.TopologyKey == "" {
		cfg.TopologyKey = DefaultTopologyKey
	}
	if cfg.Step == nil {
		cfg.Step = func(string) {}
	}
	if cfg.Crypt == nil {
		cfg.Crypt = luks.New(cfg.FS)
	}
	_, deployed := cfg.Finder.(blockdev.System)
	root := sync.OnceValues(func() (filesystem.MountPoint, error) { return cfg.FS.Under("/") })
	return &Server{cfg: cfg, deployed: deployed, root: root, step: cfg.Step}
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
