package driver_test

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/metadata"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/driver"
	"github.com/cinder-csi/cinder-csi/internal/tracing/otlptest"
)

// life makes a volume, publishes it with a secret, and takes all of that away again.
func life(ctx context.Context, t *testing.T, s started, nodeID, canary string) {
	t.Helper()
	controller, node := csi.NewControllerClient(s.conn), csi.NewNodeClient(s.conn)
	request := volume("pvc", nil)
	ability := request.GetVolumeCapabilities()[0]
	made, err := controller.CreateVolume(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	id, dir := made.GetVolume().GetVolumeId(), t.TempDir()
	published, err := controller.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: id, NodeId: nodeID, VolumeCapability: ability})
	if err != nil {
		t.Fatal(err)
	}
	staging, target := filepath.Join(dir, "staging"), filepath.Join(dir, "target")
	defer func() { _ = unix.Unmount(staging, unix.MNT_DETACH) }() // where the test has failed
	defer func() { _ = unix.Unmount(target, unix.MNT_DETACH) }()
	for _, step := range []func() error{
		func() error {
			_, err := node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
				VolumeId: id, StagingTargetPath: staging, VolumeCapability: ability,
				PublishContext: published.GetPublishContext(), VolumeContext: made.GetVolume().GetVolumeContext(), Secrets: map[string]string{"passphrase": canary},
			})
			return err
		},
		func() error {
			_, err := node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
				VolumeId: id, StagingTargetPath: staging, TargetPath: target, VolumeCapability: ability,
				PublishContext: published.GetPublishContext(), VolumeContext: made.GetVolume().GetVolumeContext(),
			})
			return err
		},
		func() error {
			_, err := node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: target})
			return err
		},
		func() error {
			_, err := node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: staging})
			return err
		},
		func() error {
			_, err := controller.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: nodeID})
			return err
		},
		func() error {
			_, err := controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
			return err
		},
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOneTraceLeadsFromTheCallerToTheCloudAndTheDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test attaches loop devices and mounts filesystems: run it as root")
	}
	collector := otlptest.Start(t)
	cloud, err := devcloud.Start(t.Context(), devcloud.Config{StateDir: t.TempDir(), Servers: []devcloud.Server{{Name: "node1", Zone: "az1"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cloud.Close() })
	conf := filepath.Join(t.TempDir(), "cloud.conf")
	if err := os.WriteFile(conf, []byte(cloud.CloudConf()), 0o600); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.InfoLevel)
	s := startLogging(t, driver.Config{
		Controller: true, Node: true, Topology: true, Version: "v1", Tracing: true, CloudConfig: []string{conf}, CloudNames: []string{""},
		MetadataURL: cloud.MetadataURL("node1"), DevelopmentDeviceDir: cloud.DeviceDir("node1"),
	}, zap.New(core))
	const traceID, caller, canary = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "canary-passphrase"
	// As a side container with tracing calls.
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+traceID+"-"+caller+"-01")
	life(ctx, t, s, cloud.ServerID("node1"), canary)
	if err := s.stop(); err != nil {
		t.Error(err)
	}

	spans := byID(collector.Spans())
	for _, want := range []string{
		"csi.v1.Controller/CreateVolume < caller",
		"POST /volume/v3/{id}/volumes < … < csi.v1.Controller/CreateVolume",
		"wait volume_create < … < csi.v1.Controller/CreateVolume",
		"POST /compute/v2.1/servers/{id}/os-volume_attachments < … < csi.v1.Controller/ControllerPublishVolume",
		"mkfs.ext4 < … < csi.v1.Node/NodeStageVolume",
		"mount < … < csi.v1.Node/NodeStageVolume",
		"csi.v1.Node/NodePublishVolume < caller",
		"DELETE /volume/v3/{id}/volumes/{id} < … < csi.v1.Controller/DeleteVolume",
	} {
		if !slices.ContainsFunc(collector.Spans(), func(span *trace.Span) bool { return hangs(spans, span, want, traceID, caller) }) {
			t.Errorf("no span %s", want)
		}
	}
	if !slices.ContainsFunc(collector.Spans(), func(span *trace.Span) bool { return linked(spans, span) }) {
		t.Error("no poll is linked to a wait")
	}
	if t.Failed() {
		for _, span := range collector.Spans() {
			t.Log(path(spans, span), hex.EncodeToString(span.GetTraceId()))
		}
	}
	password := regexp.MustCompile(`(?m)^password *= *(.*)$`).FindStringSubmatch(cloud.CloudConf())[1]
	for _, secret := range []string{canary, password, "X-Auth-Token", "x-auth-token"} {
		if strings.Contains(collector.Sent(), secret) {
			t.Errorf("a span tells %q", secret)
		}
	}
	if known := logs.FilterMessage("call done").FilterField(zap.String("traceID", traceID)).Len(); known == 0 {
		t.Error("the log doesn't tell the trace")
	}
}

func byID(all []*trace.Span) map[string]*trace.Span {
	spans := make(map[string]*trace.Span)
	for _, span := range all {
		spans[string(span.GetSpanId())] = span
	}
	return spans
}

// path names a span and those that it is below.
func path(spans map[string]*trace.Span, span *trace.Span) string {
	name := span.GetName()
	for parent := spans[string(span.GetParentSpanId())]; parent != nil; parent = spans[string(parent.GetParentSpanId())] {
		name += " < " + parent.GetName()
	}
	return name
}

// linked tells whether a span is a shared poll that one who waits is linked to, or the other
// way round.
func linked(spans map[string]*trace.Span, span *trace.Span) bool {
	return slices.ContainsFunc(span.GetLinks(), func(link *trace.Span_Link) bool {
		both := span.GetName() + ", " + spans[string(link.GetSpanId())].GetName()
		return strings.Contains(both, "poll ") && strings.Contains(both, "wait ")
	})
}

// hangs tells whether a span is of that name and trace, and below those that it is to be.
func hangs(spans map[string]*trace.Span, span *trace.Span, want, traceID, caller string) bool {
	top := span
	for parent := spans[string(span.GetParentSpanId())]; parent != nil; parent = spans[string(parent.GetParentSpanId())] {
		top = parent
	}
	name, above, _ := strings.Cut(want, " < ")
	below := strings.TrimPrefix(above, "… < ")
	return span.GetName() == name && hex.EncodeToString(span.GetTraceId()) == traceID && hex.EncodeToString(top.GetParentSpanId()) == caller &&
		(below == "caller" && top == span || below == top.GetName())
}
