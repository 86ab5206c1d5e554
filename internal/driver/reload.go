package driver

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/backoff"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
)

// reloadEvery is how often the files with credentials are looked at. They are
// read rather than watched: Kubernetes exchanges a symbolic link two levels up,
// and a read of a few kilobytes costs less than the machinery to notice that.
const reloadEvery = 30 * time.Second

// reloader takes up changed files with credentials without a restart.
type reloader struct {
	paths   []string
	clients map[string]*openstack.Client
	every   time.Duration
	logger  *zap.Logger
	// started is the section [BlockStorage] with which the driver works: what it
	// says shapes answers that Kubernetes has stored, so that it holds until the
	// next start.
	started openstack.BlockStorage
	// seen is the state of the files with which the clients are connected.
	seen string
}

// longest is how many times reloadEvery the pause between two attempts with the
// same files may be. Keystone may lock an account after some wrong passwords, and
// with it the old one that still works ([security_compliance]
// lockout_failure_attempts).
const longest = 20

// run looks at the files until ctx ends. A change that does not work, such as a
// file that is half written, is told and tried again after pauses that double; what
// worked before goes on working as long as the cloud lets it.
func (r *reloader) run(ctx context.Context) {
	ticker := time.NewTicker(r.every)
	defer ticker.Stop()
	refused := backoff.New[string](backoff.Options{First: 2 * r.every, Max: longest * r.every, Size: 1})
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.look(ctx, refused)
		}
	}
}

func (r *reloader) look(ctx context.Context, refused *backoff.Failures[string]) {
	found := openstack.Fingerprint(r.paths)
	if found == r.seen {
		return
	}
	if left, _ := refused.Check(found); left > 0 {
		return
	}
	conf, err := openstack.ReadConfig(r.paths...)
	if err != nil {
		r.logger.Error("the changed configuration of the cloud can't be read, the one before stays in use", zap.Error(err))
		return
	}
	if conf.BlockStorage != r.started {
		r.logger.Warn("the section [BlockStorage] has changed: it is taken up at the next start")
	}
	complete := true
	for name, client := range r.clients {
		section, err := conf.Cloud(name)
		if err == nil {
			err = client.Reconnect(ctx, section)
		}
		if err != nil {
			complete = false
			refused.Fail(found, err)
			r.logger.Error("the changed credentials do not work, those before stay in use", zap.String("cloud", name), zap.Error(err))
			continue
		}
		r.logger.Info("changed credentials are in use", zap.String("cloud", name))
	}
	if complete {
		r.seen = found
	}
}
