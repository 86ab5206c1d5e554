// Package devcloud is an OpenStack for one machine: Keystone, Cinder, Nova and
// the instance metadata service over HTTP on loopback, with states that pass as
// the real ones do, literal answers, latencies, faults on demand, and volumes
// that are real block devices. It is for development, tests and measurements;
// its state outlives its process.
//
// One port serves everything: /identity/v3, /volume/v3/<project>,
// /compute/v2.1, /metadata/<server>/openstack/latest/ and /admin.
package devcloud

import (
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

// Latency says how long operations take; see package latency. The zero value
// is as fast as possible.
type Latency = latency.Model

// Behaviour is what real clouds differ in.
type Behaviour = state.Behaviour

// Instant is the latency that takes no time.
func Instant() Latency { return latency.Instant() }

// Fast is a latency that shows every transitional state for milliseconds.
func Fast() Latency { return latency.Fast() }

// Realistic is the latency of a small real cloud, as measured.
func Realistic() Latency { return latency.Realistic() }

// DiskMode says what is behind the volumes.
type DiskMode int

const (
	// DisksLoop gives every volume a sparse file and every attachment a loop
	// device. It needs root.
	DisksLoop DiskMode = iota
	// DisksNone gives volumes no data at all.
	DisksNone
)

// Server is a server that the cloud has from the start.
type Server struct {
	// Name is a file name of at most 50 characters; its device directory and
	// its metadata are found by it.
	Name string
	// Zone is its availability zone; "nova" when empty.
	Zone string
	// ID is a UUID; a random one when empty. A server that the state directory
	// knows already keeps the id that it has.
	ID string
}

// Config is what a cloud is started with.
type Config struct {
	// StateDir is where everything lives; it is created.
	StateDir string
	// Listen is the address, on loopback or on a bridge without uplink;
	// "127.0.0.1:0" when empty.
	Listen string
	// Servers are created at the first start and kept from then on.
	Servers []Server
	Latency Latency
	// Behaviour replaces the one in the state directory; nil keeps that, or
	// takes the default.
	Behaviour *Behaviour
	Disks     DiskMode
	// Ephemeral makes Close remove everything: loop devices, files, StateDir.
	Ephemeral bool
	// Logger may be nil.
	Logger *zap.Logger
	// Ended is called at the moment at which something that was asked of a
	// volume is over, whatever came of it, so that one can measure how late
	// others notice. It must not block. Nil: nobody is told.
	Ended func(volumeID string)
}

// check completes a configuration and refuses what makes no sense.
func (cfg Config) check() (Config, error) {
	if cfg.StateDir == "" {
		return cfg, errors.New("a state directory is needed")
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if err := checkListen(cfg.Listen); err != nil {
		return cfg, err
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	return cfg, nil
}

// ParseDiskMode returns the mode called "loop" or "none".
func ParseDiskMode(name string) (DiskMode, error) {
	switch name {
	case "loop":
		return DisksLoop, nil
	case "none":
		return DisksNone, nil
	}
	return DisksNone, fmt.Errorf("unknown mode %q: use loop or none", name)
}
