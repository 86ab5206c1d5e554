package rpc

import (
	"context"
	"path"
	"runtime/debug"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/kubernetes-csi/csi-lib-utils/protosanitizer"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// identify gives every call an id and a logger that carries it, and the id of its trace.
func identify(logger *zap.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		fields := []zap.Field{zap.String("requestID", uuid.NewString()), zap.String("method", path.Base(info.FullMethod))}
		if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
			fields = append(fields, zap.String("traceID", span.TraceID().String()))
		}
		return handler(logging.Into(ctx, logger.With(append(fields, subject(req)...)...)), req)
	}
}

// source is a place of a request that tells what the request is about.
type source struct {
	// field is one of the request's, and key one in it if it is a map.
	field protoreflect.Name
	key   string
	// name is the key of the log.
	name string
}

// sources are searched from the top; the first one counts of those that have one name.
// The keys of parameters are those of --extra-create-metadata of the side containers, and
// those of the volume context are the kubelet's (podInfoOnMount).
func sources() []source {
	return []source{
		{"volume_id", "", "volumeID"},
		{"source_volume_id", "", "volumeID"},
		{"snapshot_id", "", "snapshotID"},
		{"node_id", "", "nodeID"},
		{"name", "", "name"},
		{"parameters", "csi.storage.k8s.io/pvc/name", "pvc"},
		{"parameters", "csi.storage.k8s.io/pvc/namespace", "namespace"},
		{"parameters", "csi.storage.k8s.io/pv/name", "pv"},
		{"parameters", "csi.storage.k8s.io/volumesnapshot/name", "volumeSnapshot"},
		{"parameters", "csi.storage.k8s.io/volumesnapshot/namespace", "namespace"},
		{"volume_context", "csi.storage.k8s.io/pod.name", "pod"},
		{"volume_context", "csi.storage.k8s.io/pod.namespace", "namespace"},
	}
}

// subject tells which volume, snapshot, node, claim and pod a request is about.
func subject(req any) []zap.Field {
	message, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	var fields []zap.Field
	for _, s := range sources() {
		value := s.read(message.ProtoReflect())
		if value != "" && !slices.ContainsFunc(fields, func(f zap.Field) bool { return f.Key == s.name }) {
			fields = append(fields, zap.String(s.name, value))
		}
	}
	return fields
}

// read returns what the request says there, empty if nothing.
func (s source) read(request protoreflect.Message) string {
	field := request.Descriptor().Fields().ByName(s.field)
	switch {
	case field == nil || field.IsMap() == (s.key == ""):
		return ""
	case field.IsMap():
		if value := request.Get(field).Map().Get(protoreflect.ValueOfString(s.key).MapKey()); value.IsValid() {
			return value.String()
		}
		return ""
	}
	return request.Get(field).String()
}

// logCalls writes one line for the outcome of every call, as loud as levelOf says.
// Requests and answers, stripped of their secrets, are told at debug level.
func logCalls(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	log := logging.From(ctx)
	if ce := log.Check(zap.DebugLevel, "call"); ce != nil {
		ce.Write(zap.Stringer("request", protosanitizer.StripSecrets(req)))
	}
	start := time.Now()
	resp, err := handler(ctx, req)
	duration := zap.Duration("duration", time.Since(start))
	level := levelOf(info.FullMethod, status.Code(err))
	if err != nil {
		log.Log(level, "call failed", duration, zap.Stringer("code", status.Code(err)), zap.String("error", status.Convert(err).Message()))
		return resp, err
	}
	log.Log(level, "call done", duration)
	if ce := log.Check(zap.DebugLevel, "answer"); ce != nil {
		ce.Write(zap.Stringer("response", protosanitizer.StripSecrets(resp)))
	}
	return resp, err
}

// endAtStop ends the contexts of calls when the server stops: what they wait for is found
// again when they are repeated. A request that changes something in the cloud, and a
// program that changes a disk, are seen through by whoever started them.
func endAtStop(stopping context.Context) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		caller := ctx
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(stopping, cancel)()
		resp, err := handler(ctx, req)
		if err != nil && stopping.Err() != nil && caller.Err() == nil && status.Code(err) == codes.Canceled {
			err = status.Errorf(codes.Unavailable, "the plugin is stopping, ask again: %s", status.Convert(err).Message())
		}
		return resp, err
	}
}

// recoverPanics turns a panic into an error of the one call, and leaves the
// others alone.
func recoverPanics(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if p := recover(); p != nil {
			logging.From(ctx).Error("panic", zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			// Unavailable, since whatever was going on may go on in the cloud:
			// sidecars must not take this for a final answer.
			resp, err = nil, status.Errorf(codes.Unavailable, "%s ended unexpectedly; the plugin's log has the reason", path.Base(info.FullMethod))
		}
	}()
	return handler(ctx, req)
}
