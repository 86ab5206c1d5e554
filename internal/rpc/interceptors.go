package rpc

import (
	"context"
	"path"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"github.com/kubernetes-csi/csi-lib-utils/protosanitizer"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/cinder-csi/cinder-csi/internal/logging"
)

// identify gives every call an id and a logger that carries it.
func identify(logger *zap.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		fields := []zap.Field{zap.String("requestID", uuid.NewString()), zap.String("method", path.Base(info.FullMethod))}
		return handler(logging.Into(ctx, logger.With(append(fields, subject(req)...)...)), req)
	}
}

// subject tells which volume, snapshot and node a request is about.
func subject(req any) []zap.Field {
	message, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	var fields []zap.Field
	request := message.ProtoReflect()
	for _, f := range []struct {
		name protoreflect.Name
		key  string
	}{{"volume_id", "volumeID"}, {"source_volume_id", "sourceVolumeID"}, {"snapshot_id", "snapshotID"}, {"node_id", "nodeID"}, {"name", "name"}} {
		if known := request.Descriptor().Fields().ByName(f.name); known != nil && request.Has(known) {
			fields = append(fields, zap.String(f.key, request.Get(known).String()))
		}
	}
	return fields
}

// logCalls writes one line for the outcome of every call. Calls that a kubelet
// or a liveness probe makes all day are told at debug level while they succeed;
// requests and answers, stripped of their secrets, are told at debug level too.
func logCalls(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	log := logging.From(ctx)
	if ce := log.Check(zap.DebugLevel, "call"); ce != nil {
		ce.Write(zap.Stringer("request", protosanitizer.StripSecrets(req)))
	}
	start := time.Now()
	resp, err := handler(ctx, req)
	took := zap.Duration("took", time.Since(start))
	switch {
	case err != nil:
		log.Error("call failed", took, zap.Stringer("code", status.Code(err)), zap.String("error", status.Convert(err).Message()))
	case routine(info.FullMethod):
		log.Debug("call done", took)
	default:
		log.Info("call done", took)
	}
	if err == nil {
		if ce := log.Check(zap.DebugLevel, "answer"); ce != nil {
			ce.Write(zap.Stringer("response", protosanitizer.StripSecrets(resp)))
		}
	}
	return resp, err
}

func routine(fullMethod string) bool {
	switch path.Base(fullMethod) {
	case "Probe", "GetPluginInfo", "NodeGetInfo", "GetPluginCapabilities", "ControllerGetCapabilities", "NodeGetCapabilities",
		"NodeGetVolumeStats", "ListVolumes", "ListSnapshots", "GetSnapshot", "GetCapacity":
		return true
	}
	return false
}

// endAtStop ends the contexts of a service's calls when the server stops: what they wait
// for is found again when they are repeated. A request that changes something is seen
// through by whoever sends it.
func endAtStop(stopping context.Context, service string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if service == "" || path.Dir(info.FullMethod) != "/"+service {
			return handler(ctx, req)
		}
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
