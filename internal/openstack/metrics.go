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
	duration, err := register(r, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "openstack_api_request_duration_seconds",
		Help: "Latency of an OpenStack API call",
	}, labels))
	if err != nil {
		return nil, err
	}
	total, err := register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "openstack_api_requests_total",
		Help: "Total number of OpenStack API calls",
	}, labels))
	if err != nil {
		return nil, err
	}
	failed, err := register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "openstack_api_request_errors_total",
		Help: "Total number of errors for an OpenStack API call",
	}, labels))
	if err != nil {
		return nil, err
	}
	waits, err := register(r, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "cinder_csi_cloud_request_wait_seconds",
		Help:    "How long requests to the cloud were held back by the limits of the driver's flags, by kind: read or write.",
		Buckets: []float64{0.001, 0.01, 0.1, 1, 10},
	}, []string{"kind"}))
	if err != nil {
		return nil, err
	}
	return &metrics{duration: duration, total: total, failed: failed, waits: waits}, nil
}

func register[C prometheus.Collector](r prometheus.Registerer, c C) (C, error) {
	if r == nil {
		return c, nil
	}
	err := r.Register(c)
	var known prometheus.AlreadyRegisteredError
	if errors.As(err, &known) {
		if existing, ok := known.ExistingCollector.(C); ok {
			return existing, nil
		}
	}
	if err != nil {
		return c, fmt.Errorf("register the metrics of OpenStack requests: %w", err)
	}
	return c, nil
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
