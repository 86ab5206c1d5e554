package rpc

import (
	"path"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/codes"
)

// levelOf returns how loud the outcome of a call is told, by who is at fault: nobody or
// the caller (info), somebody who set something up (warn), the driver, the cloud or a
// disk (error).
func levelOf(fullMethod string, code codes.Code) zapcore.Level {
	switch code {
	case codes.OK:
		if routine(fullMethod) {
			return zap.DebugLevel
		}
		return zap.InfoLevel
	case codes.Canceled, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.OutOfRange, codes.Aborted, codes.Unimplemented:
		return zap.InfoLevel
	case codes.FailedPrecondition:
		if path.Dir(fullMethod) == "/"+csi.Node_ServiceDesc.ServiceName {
			return zap.WarnLevel // a disk or a mount that was refused
		}
		return zap.InfoLevel
	case codes.PermissionDenied, codes.Unauthenticated:
		return zap.WarnLevel
	}
	return zap.ErrorLevel
}

// routine tells of calls that a kubelet, a side container or a probe makes all day.
func routine(fullMethod string) bool {
	switch path.Base(fullMethod) {
	case "Probe", "GetPluginInfo", "NodeGetInfo", "GetPluginCapabilities", "ControllerGetCapabilities", "NodeGetCapabilities",
		"NodeGetVolumeStats", "ListVolumes", "ListSnapshots", "GetSnapshot", "ControllerGetVolume", "GetCapacity":
		return true
	}
	return false
}
