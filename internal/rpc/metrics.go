package rpc

import (
	"slices"

	grpcprometheus "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"google.golang.org/grpc"
)

// newMetrics returns the metrics of the server by the names that gRPC servers have
// everywhere: grpc_server_started_total, grpc_server_handled_total and
// grpc_server_handling_seconds, by service and method.
func newMetrics() *grpcprometheus.ServerMetrics {
	return grpcprometheus.NewServerMetrics(grpcprometheus.WithServerHandlingTimeHistogram(
		// Seconds: from a bind mount to a backup.
		grpcprometheus.WithHistogramBuckets([]float64{.005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600})))
}

// changing is a server with those methods alone that are not routine. Their series are
// there from the start: an alert about what never happened before needs its zero. Those of
// the others come with the first call, and would be half of a node's page until then.
type changing struct{ server *grpc.Server }

// GetServiceInfo returns the methods by their services.
func (c changing) GetServiceInfo() map[string]grpc.ServiceInfo {
	services := c.server.GetServiceInfo()
	for name, service := range services {
		service.Methods = slices.DeleteFunc(service.Methods, func(m grpc.MethodInfo) bool { return routine("/" + name + "/" + m.Name) })
		services[name] = service
	}
	return services
}
