package openstack

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts calls to the cloud, under names that dashboards rely on. A
// call is observed once, however many HTTP requests it took.
type metrics struct {
	duration *prometheus.HistogramVec
	total    *prometheus.CounterVec
	failed   *prometheus.CounterVec
	waits    *prometheus.HistogramVec
}

// newMetrics registers with r, or joins what another client has registered
// there. A nil r leaves the metrics unregistered.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	labels := []string{"request"}
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "openstack_api_request_duration_seconds", Help: "Latency of an OpenStack API call",
		}, labels),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "openstack_api_requests_total", Help: "Total number of OpenStack API calls",
		}, labels),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "openstack_api_request_errors_total", Help: "Total number of errors for an OpenStack API call",
		}, labels),
		waits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "cinder_csi_cloud_request_wait_seconds",
			Help:    "How long requests to the cloud were held back by the limits of the driver's flags, by kind: read or write.",
			Buckets: []float64{0.001, 0.01, 0.1, 1, 10},
		}, []string{"kind"}),
	}
	return m, errors.Join(register(r, &m.duration), register(r, &m.total), register(r, &m.failed), register(r, &m.waits))
}

// register registers a metric, or replaces it by the one that is registered already.
func register[C prometheus.Collector](r prometheus.Registerer, c *C) error {
	if r == nil {
		return nil
	}
	err := r.Register(*c)
	var known prometheus.AlreadyRegisteredError
	if errors.As(err, &known) {
		if existing, ok := known.ExistingCollector.(C); ok {
			*c = existing
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("register the metrics of OpenStack requests: %w", err)
	}
	return nil
}

// observe records a call that began at start; it is for a defer, hence the
// pointer to the error.
func (m *metrics) observe(request string, start time.Time, err *error) {
	m.duration.WithLabelValues(request).Observe(time.Since(start).Seconds())
	m.total.WithLabelValues(request).Inc()
	if *err != nil {
		m.failed.WithLabelValues(request).Inc()
	}
}
