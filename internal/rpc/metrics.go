package rpc

import (
	"context"
	"path"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

type metrics struct {
	duration *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cinder_csi_operation_duration_seconds",
			Help: "How long CSI calls took, by method and gRPC code.",
			// From a bind mount to a backup: 5 ms to 11 minutes.
			Buckets: prometheus.ExponentialBuckets(0.005, 2.5, 14),
		}, []string{"method", "code"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cinder_csi_operations_in_flight",
			Help: "CSI calls being served now, by method.",
		}, []string{"method"}),
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.duration, m.inFlight} {
		if err := registerer.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
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
