package openstack

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// metrics are those of one client. A call is observed once by the first three, under names
// that dashboards rely on, however many HTTP requests it took; all clients of a registerer
// share them. The others are registered for each cloud, and have its name for a label.
type metrics struct {
	duration *prometheus.HistogramVec
	total    *prometheus.CounterVec
	failed   *prometheus.CounterVec

	requests *prometheus.CounterVec
	retries  *prometheus.CounterVec
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
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cinder_csi_openstack_requests_total",
			Help: "HTTP requests to OpenStack, repetitions among them, by the status of the answer; none stands for no answer.",
		}, []string{"service", "request", "status"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cinder_csi_openstack_retries_total",
			Help: "HTTP requests to OpenStack that were sent again, by the cause: throttled, 5xx, connection (no whole answer came), unsent (it did not leave this machine).",
		}, []string{"service", "cause"}),
		waits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "cinder_csi_openstack_limiter_wait_seconds",
			Help:    "How long requests to the cloud were held back by the limits of the driver's flags, by kind: read or write.",
			Buckets: []float64{0.001, 0.01, 0.1, 1, 10},
		}, []string{"kind"}),
	}
	for service := range newSights() { // an increase from nothing is seen only where there was 0
		for _, cause := range []string{"throttled", "5xx", "connection", "unsent"} {
			m.retries.WithLabelValues(service, cause)
		}
	}
	return m, errors.Join(register(r, &m.duration), register(r, &m.total), register(r, &m.failed))
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
	if *err != nil && !expects(request, *err) {
		m.failed.WithLabelValues(request).Inc()
	}
}

// collector is the metrics of one cloud: what is counted as it happens, and what its
// client knows when somebody asks.
type collector struct {
	client     *Client
	registerer prometheus.Registerer
	gauges     []gauge
}

// gauge is a metric whose values are read when somebody asks for them.
type gauge struct {
	desc *prometheus.Desc
	read func(h Health, c *connection, tell func(value float64, labels ...string))
}

// collect registers the metrics of a client.
func (c *Client) collect() error {
	if c.opts.Registerer == nil {
		return nil
	}
	all := &collector{
		client: c, gauges: gauges(),
		registerer: prometheus.WrapRegistererWith(prometheus.Labels{"cloud": c.opts.Cloud}, c.opts.Registerer),
	}
	if err := all.registerer.Register(all); err != nil {
		return fmt.Errorf("register the metrics of cloud %q: %w", c.opts.Cloud, err)
	}
	c.collector = all
	return nil
}

// end takes the metrics away.
func (c *collector) end() {
	if c != nil {
		c.registerer.Unregister(c)
	}
}

func (c *collector) counted() []prometheus.Collector {
	return []prometheus.Collector{c.client.metrics.requests, c.client.metrics.retries, c.client.metrics.waits}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, counted := range c.counted() {
		counted.Describe(to)
	}
	for _, g := range c.gauges {
		to <- g.desc
	}
}

// Collect implements prometheus.Collector. It asks nobody.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	for _, counted := range c.counted() {
		counted.Collect(to)
	}
	now := c.client.now()
	health := now.health()
	for _, g := range c.gauges {
		g.read(health, now, func(value float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, value, labels...)
		})
	}
}

// gauges is the table of what is told of a cloud.
func gauges() []gauge {
	of := func(name, help string, labels []string, read func(Health, *connection, func(float64, ...string))) gauge {
		return gauge{prometheus.NewDesc(name, help, labels, nil), read}
	}
	at := func(name, help string, read func(Health) time.Time) gauge {
		return of(name, help, nil, func(h Health, _ *connection, tell func(float64, ...string)) { tellTime(read(h), tell) })
	}
	return []gauge{
		of("cinder_csi_cloud_up", "1 while the driver is connected to the cloud, and Keystone, Cinder and Nova answered their newest request below HTTP 500 with the credentials accepted, else 0.", nil,
			func(h Health, c *connection, tell func(float64, ...string)) {
				// What is wrong with a secret is the matter of whoever wrote it.
				if !c.cfg.untrusted || c.connected.Load() {
					tell(map[bool]float64{true: 1}[h.Up])
				}
			}),
		at("cinder_csi_cloud_last_success_timestamp_seconds", "When the cloud last gave an answer below HTTP 500 with the credentials accepted.", func(h Health) time.Time { return h.LastSuccess }),
		at("cinder_csi_token_expiry_timestamp_seconds", "When the driver's token ends. It is renewed before that, unless it is one of the configuration.", func(h Health) time.Time { return h.TokenExpiry }),
		at("cinder_csi_credential_expiry_timestamp_seconds", "When the application credential, the password or the token of the configuration ends; absent where it does not, or where the account may not know.", func(h Health) time.Time { return h.CredentialExpiry }),
		of("cinder_csi_certificate_expiry_timestamp_seconds", "When a certificate ends: of keystone, cinder or nova as the service shows it, ca for the authority that ends first of those that vouch for them, client for cert-file.", []string{"certificate"},
			func(h Health, _ *connection, tell func(float64, ...string)) {
				for name, end := range h.Certificates {
					tellTime(end, func(value float64, _ ...string) { tell(value, name) })
				}
			}),
		of("cinder_csi_quota_limit", "Quota of the project as the driver last read it; +Inf for none.", []string{"resource"},
			func(_ Health, c *connection, tell func(float64, ...string)) {
				for name, line := range quotaLines(c) {
					limit := float64(line.Limit)
					if line.Limit < 0 {
						limit = math.Inf(1)
					}
					tell(limit, name)
				}
			}),
		of("cinder_csi_quota_used", "How much of the quota is in use or reserved, as the driver last read it.", []string{"resource"},
			func(_ Health, c *connection, tell func(float64, ...string)) {
				for name, line := range quotaLines(c) {
					tell(float64(line.Used), name)
				}
			}),
	}
}

func tellTime(t time.Time, tell func(float64, ...string)) {
	if !t.IsZero() {
		tell(float64(t.UnixMilli()) / 1000)
	}
}

// maxQuotas bounds the label of the quota: a cloud has a line for each volume type.
const maxQuotas = 100

// ofType is the quota of one volume type, whose name has at most maxQuotaName bytes: a
// pattern that counts to 255 takes 190 kB of each plugin's memory.
var ofType = regexp.MustCompile(`^(volumes|gigabytes|snapshots)_[[:print:]]+$`)

const maxQuotaName = len("gigabytes_") + 255

// quotaLines returns the quota that was read last: of all kinds of things that the driver
// makes, and of those volume types that have one.
func quotaLines(c *connection) map[string]cloud.QuotaLine {
	lines := maps.Clone(c.quota.last().Lines)
	own := []string{"volumes", "gigabytes", "snapshots", "backups", "backup_gigabytes"}
	kept := 0
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		switch {
		case slices.Contains(own, name):
		case lines[name].Limit < 0 || kept == maxQuotas || len(name) > maxQuotaName || !ofType.MatchString(name):
			delete(lines, name)
		default:
			kept++
		}
	}
	return lines
}
