package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
)

// observer tells metrics and traces what the node finds.
type observer struct {
	tracer   trace.Tracer
	refusals *prometheus.CounterVec
	waits    *prometheus.HistogramVec
	abnormal abnormal
	// limit is what NodeGetInfo told last, 0 before.
	limit atomic.Int64
}

func newObserver(metrics prometheus.Registerer, finder blockdev.Finder) *observer {
	auto := promauto.With(metrics)
	o := &observer{
		tracer: otel.Tracer("github.com/cinder-csi/cinder-csi/internal/node"),
		refusals: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "cinder_csi_node_refusals_total",
			Help: "Calls in which the driver refused to touch a disk or a path, by reason: not_blank, wrong_serial, held, mounted_otherwise, corrupt, read_only.",
		}, []string{"reason"}),
		waits: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cinder_csi_node_device_wait_seconds",
			Help: "How long NodeStageVolume waited for the disk of a volume, by how it was found: serial, address, backing_file (development only), or none where it wasn't.",
			// From one look to the longest wait: 1 ms to 64 s.
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"found_by"}),
		abnormal: abnormal{series: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cinder_csi_node_volume_abnormal",
			Help: "1 for each volume that NodeGetVolumeStats found unusable last, by reason: device_gone, given_up, hangs; until it is well again or unstaged. At most 100 volumes.",
		}, []string{"volume_id", "reason"})},
	}
	for _, why := range []reason{notBlank, wrongSerial, held, mountedOtherwise, corrupt, isReadOnlyNow} {
		o.refusals.WithLabelValues(string(why)) // an increase from nothing is seen only where there was 0
	}
	if metrics != nil {
		metrics.MustRegister(newAttachments(finder, &o.limit))
	}
	return o
}

// wait does what waits for a volume's disk.
func (o *observer) wait(ctx context.Context, volumeID string, search func(context.Context) (blockdev.Disk, error)) (blockdev.Disk, error) {
	began := time.Now()
	ctx, span := o.tracer.Start(ctx, "wait for disk")
	defer span.End()
	disk, err := search(ctx)
	foundBy := "none"
	if err == nil {
		foundBy = disk.FoundBy()
	} else {
		span.SetStatus(otelcodes.Error, err.Error())
	}
	if span.IsRecording() {
		span.SetAttributes(attribute.String("cinder.volume.id", volumeID), attribute.String("cinder.found_by", foundBy), attribute.String("cinder.device", disk.Path))
	}
	o.waits.WithLabelValues(foundBy).Observe(time.Since(began).Seconds())
	return disk, err
}

// maxAbnormal bounds the volumes that are told to be abnormal.
const maxAbnormal = 100

// abnormal are the volumes that can't be used as they should be.
type abnormal struct {
	mu     sync.Mutex
	volume map[string]condition
	series *prometheus.GaugeVec
}

// note keeps what was found of a volume last. What is well, or unstaged, is forgotten.
func (a *abnormal) note(volumeID string, found condition) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before, known := a.volume[volumeID]
	if before == found || !known && len(a.volume) >= maxAbnormal {
		return
	}
	if known {
		delete(a.volume, volumeID)
		a.series.DeleteLabelValues(volumeID, string(before))
	}
	if found != normal {
		if a.volume == nil {
			a.volume = make(map[string]condition)
		}
		a.volume[volumeID] = found
		a.series.WithLabelValues(volumeID, string(found)).Set(1)
	}
}

// attachments tells at each scrape how many volumes the server has, and may have.
type attachments struct {
	finder        blockdev.Finder
	limit         *atomic.Int64
	told, volumes *prometheus.Desc
}

func newAttachments(finder blockdev.Finder, limit *atomic.Int64) *attachments {
	return &attachments{
		finder: finder, limit: limit,
		told:    prometheus.NewDesc("cinder_csi_node_attach_limit", "How many volumes the node takes, as NodeGetInfo told the kubelet last.", nil, nil),
		volumes: prometheus.NewDesc("cinder_csi_node_attached_volumes", "Disks of this server that are volumes, whoever attached them; without the one that the system is on.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (a *attachments) Describe(descs chan<- *prometheus.Desc) {
	descs <- a.told
	descs <- a.volumes
}

// scrapeTime is how long a scrape waits for disks that don't tell their serials.
const scrapeTime = 2 * time.Second

// Collect implements prometheus.Collector. What isn't known isn't told.
func (a *attachments) Collect(metrics chan<- prometheus.Metric) {
	if limit := a.limit.Load(); limit > 0 {
		metrics <- prometheus.MustNewConstMetric(a.told, prometheus.GaugeValue, float64(limit))
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	disks, err := a.finder.Disks(ctx)
	if err != nil {
		return
	}
	count := 0
	for _, d := range disks {
		if d.Volume() {
			count++
		}
	}
	metrics <- prometheus.MustNewConstMetric(a.volumes, prometheus.GaugeValue, float64(count))
}
