package volumes

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are what the services of all clouds count. Each series bears the name of its
// cloud, and ends with the last service of that name.
type Metrics struct {
	duration, lag, lockWait *prometheus.HistogramVec
	waiters, volumes        *prometheus.GaugeVec
	polls                   *prometheus.CounterVec
	operations              operations

	mu sync.Mutex
	// services counts the services of each cloud, told how many of its volumes had each
	// status.
	services map[string]int
	told     map[string]map[string]int
}

// NewMetrics returns metrics that are registered with r, once for each registry; a nil r
// leaves them unregistered.
func NewMetrics(r prometheus.Registerer) *Metrics {
	auto := promauto.With(r)
	m := &Metrics{
		duration: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cinder_csi_cloud_operation_duration_seconds",
			Help: "The cloud's own time for an operation: from its answer that it accepts the request to the answer of a poll that shows the operation over. " +
				"Repeated calls for one operation count once. An operation that this process has not asked for, or that nobody waited for, is not counted.",
			Buckets: []float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1800},
		}, []string{"cloud", "operation", "result"}),
		lag: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cinder_csi_detection_lag_seconds",
			Help: "How late a call may have returned, at most: from the last answer in which its operation was still going on to the end of the call. " +
				"An operation whose first poll already shows it over is not counted: nothing tells when that happened.",
			Buckets: []float64{0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30},
		}, []string{"cloud", "operation"}),
		lockWait: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "cinder_csi_lock_wait_seconds",
			Help:    "How long calls waited for their turn at a volume, a name or a server, also where they gave up.",
			Buckets: []float64{0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300},
		}, []string{"cloud"}),
		waiters: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cinder_csi_watch_waiters",
			Help: "Calls that wait for the cloud to finish something, now.",
		}, []string{"cloud"}),
		polls: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "cinder_csi_watch_polls_total",
			Help: "Polls for all calls that wait. One poll is one list, or a request for each of a few things.",
		}, []string{"cloud"}),
		volumes: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cinder_csi_volumes",
			Help: "Volumes of the project by their status in Cinder, from the last complete list that was read for another reason.",
		}, []string{"cloud", "status"}),
		services: make(map[string]int), told: make(map[string]map[string]int),
	}
	if r != nil {
		r.MustRegister(&m.operations)
	}
	return m
}

// counted are the metrics of one cloud.
type counted struct {
	all                     *Metrics
	cloud                   string
	stuckAfter              time.Duration
	duration, lag, lockWait prometheus.ObserverVec
	waiters                 prometheus.Gauge
	polls                   prometheus.Counter
}

// open returns the metrics of a cloud for one more service. close has to be called.
func (m *Metrics) open(cloud string, stuckAfter time.Duration) *counted {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.services[cloud]++
	label := prometheus.Labels{"cloud": cloud}
	return &counted{
		all: m, cloud: cloud, stuckAfter: stuckAfter,
		duration: m.duration.MustCurryWith(label), lag: m.lag.MustCurryWith(label), lockWait: m.lockWait.MustCurryWith(label),
		waiters: m.waiters.With(label), polls: m.polls.With(label),
	}
}

// close ends the series of a cloud with its last service.
func (c *counted) close() {
	m := c.all
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.services[c.cloud]--; m.services[c.cloud] > 0 {
		return
	}
	delete(m.services, c.cloud)
	delete(m.told, c.cloud)
	for _, series := range []interface {
		DeletePartialMatch(labels prometheus.Labels) int
	}{m.duration, m.lag, m.lockWait, m.waiters, m.volumes, m.polls} {
		series.DeletePartialMatch(prometheus.Labels{"cloud": c.cloud})
	}
	m.operations.forget(c.cloud)
}

// count sets how many volumes have each status. No series is missing meanwhile.
func (c *counted) count(byStatus map[string]int) {
	m := c.all
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.services[c.cloud] == 0 {
		return
	}
	for status, n := range byStatus {
		m.volumes.WithLabelValues(c.cloud, status).Set(float64(n))
	}
	for status := range m.told[c.cloud] {
		if byStatus[status] == 0 {
			m.volumes.DeleteLabelValues(c.cloud, status)
		}
	}
	m.told[c.cloud] = byStatus
}
