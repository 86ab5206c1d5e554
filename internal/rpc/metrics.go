package rpc

import (
	"context"
	"path"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

type metrics struct {
	duration *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	auto := promauto.With(registerer)
	return &metrics{
		duration: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cinder_csi_operation_duration_seconds",
			Help: "How long CSI calls took, by method and gRPC code.",
			// From a bind mount to a backup: 5 ms to 11 minutes.
			Buckets: prometheus.ExponentialBuckets(0.005, 2.5, 14),
		}, []string{"method", "code"}),
		inFlight: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cinder_csi_operations_in_flight",
			Help: "CSI calls being served now, by method.",
		}, []string{"method"}),
	}
}

func (m *metrics) observe(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method := path.Base(info.FullMethod)
	gauge := m.inFlight.WithLabelValues(method)
	gauge.Inc()
	defer gauge.Dec()
	start := time.Now()
	resp, err := handler(ctx, req)
	m.duration.WithLabelValues(method, status.Code(err).String()).Observe(time.Since(start).Seconds())
	return resp, err
}
