package rpc

import (
	grpcprometheus "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
)

// newMetrics returns the metrics of the server by the names that gRPC servers have
// everywhere: grpc_server_started_total, grpc_server_handled_total and
// grpc_server_handling_seconds, by service and method.
func newMetrics() *grpcprometheus.ServerMetrics {
	return grpcprometheus.NewServerMetrics(grpcprometheus.WithServerHandlingTimeHistogram(
		// Seconds: from a bind mount to a backup.
		grpcprometheus.WithHistogramBuckets([]float64{.005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600})))
}
