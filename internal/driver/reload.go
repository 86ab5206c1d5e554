package driver

import (
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/openstack"
)

// reloadEvery is how often the files with credentials are looked at. They are
// read rather than watched: Kubernetes exchanges a symbolic link two levels up,
// and a read of a few kilobytes costs less than the machinery to notice that.
const reloadEvery = 30 * time.Second

// longest is how many times reloadEvery the pause between two attempts with the
// same files may be. Keystone may lock an account after some wrong passwords, and
// with it the old one that still works ([security_compliance]
// lockout_failure_attempts).
const longest = 20

// reloader takes up changed files with credentials without a restart.
type reloader struct {
	paths  []string
	clouds *clouds
	logger *zap.Logger
	// started is the section [BlockStorage] with which the driver works: what it
	// says shapes answers that Kubernetes has stored, so that it holds until the
	// next start.
	started openstack.BlockStorage
	// seen is the state of the files that all clients work with, empty as soon as another one
	// was tried: some may have taken that up. tried did not work when it was tried last;
	// until is when to try it again.
	seen, tried string
	until       time.Time
	pauses      *backoff.ExponentialBackOff
	results     *prometheus.CounterVec
	mu          sync.Mutex
	// refused are the errors of changed credentials that don't work, by cloud.
	refused map[string]error
}

// newReloads returns the metric of what came of changed files.
func newReloads() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cinder_csi_credentials_reloads_total",
		Help: "How often changed credentials were taken up (success) or could not be, so that those before stay in use (failure).",
	}, []string{"cloud", "result"})
}

// count counts the outcome for a cloud.
func (r *reloader) count(one *account, err error) {
	result := "success"
	if err != nil {
		result = "failure"
	}
	r.results.WithLabelValues(one.name, result).Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused[one.name] = err
}

// refusals are the clouds whose changed credentials don't work, and why.
func (r *reloader) refusals() map[string]error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.refused)
}

// run looks at the files until the clouds are closed. A change that does not work, such
// as a file that is half written, is told and tried again after pauses that double;
// what worked before goes on working as long as the cloud lets it.
func (r *reloader) run(every time.Duration) {
	r.refused = map[string]error{}
	for _, one := range r.clouds.configured {
		// Both outcomes are there from the start: an increase from nothing is none.
		r.results.WithLabelValues(one.name, "success")
		r.results.WithLabelValues(one.name, "failure")
	}
	r.pauses = &backoff.ExponentialBackOff{InitialInterval: 2 * every, MaxInterval: longest * every, Multiplier: 2, RandomizationFactor: 0.2}
	r.clouds.every(every, "reading cloud.conf again", func() bool {
		r.look()
		return false
	})
}

func (r *reloader) look() {
	found := openstack.Fingerprint(r.paths)
	switch {
	case found == r.seen, found == r.tried && time.Now().Before(r.until):
		return
	case found != r.tried:
		r.pauses.Reset()
	}
	r.seen = ""
	conf, err := openstack.ReadConfig(r.paths...)
	if err != nil {
		for _, one := range r.clouds.configured {
			r.count(one, err)
		}
		r.logger.Warn("the changed configuration of the cloud can't be read, the one before stays in use", zap.Error(err))
		return
	}
	if found != r.tried {
		logUnused(r.logger, conf)
	}
	if conf.BlockStorage != r.started {
		r.logger.Warn("the section [BlockStorage] has changed: it is taken up at the next start")
	}
	if r.takeUp(conf) {
		r.seen, r.tried = found, ""
		return
	}
	r.tried, r.until = found, time.Now().Add(r.pauses.NextBackOff())
}

// takeUp hands the sections to the clients and reports whether that need not be tried
// again.
func (r *reloader) takeUp(conf openstack.Config) (complete bool) {
	complete = true
	for name, one := range r.clouds.configured {
		log := r.logger.With(zap.String("cloud", one.name))
		section, err := conf.Cloud(name)
		if err == nil {
			err = one.client.Reconnect(r.clouds.ctx, section)
		}
		r.count(one, err)
		switch {
		case err == nil:
			log.Info("changed credentials are in use")
		case errors.Is(err, openstack.ErrOtherProject):
			log.Warn("the changed credentials are taken up at the next start, those before stay in use", zap.Error(err))
		default:
			complete = false
			log.Warn("the changed credentials do not work, those before stay in use", zap.Error(err))
		}
	}
	return complete
}
