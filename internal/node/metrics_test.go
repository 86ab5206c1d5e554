package node_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/cinder-csi/cinder-csi/internal/blockdev"
	"github.com/cinder-csi/cinder-csi/internal/filesystem"
	"github.com/cinder-csi/cinder-csi/internal/instance"
	"github.com/cinder-csi/cinder-csi/internal/node"
)

// counting returns a node service whose metrics are in the registry.
func (r *rig) counting() (*node.Server, *prometheus.Registry) {
	registry := prometheus.NewRegistry()
	r.fs = filesystem.New(filesystem.Options{Metrics: registry})
	return node.New(node.Config{
		Finder: &blockdev.Loop{DevDir: r.dev}, FS: r.fs, Metrics: registry, AttachLimit: 40, ReservedAttachments: 3,
		Identity: func(context.Context) (instance.Identity, error) { return instance.Identity{ServerID: "server"}, nil },
	}), registry
}

// wantMetric fails the test unless all series of that name are these, each as {labels} value.
func wantMetric(t *testing.T, registry *prometheus.Registry, name string, want ...string) {
	t.Helper()
	families, err := registry.Gather()
	must(t, err)
	var got []string
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			value := m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			got = append(got, fmt.Sprintf("{%s} %v", strings.Join(labels, ","), value))
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s is\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// value returns the value of a counter, or how many observations a histogram has.
func value(t *testing.T, registry *prometheus.Registry, name string, labels ...string) (sum float64) {
	t.Helper()
	families, err := registry.Gather()
	must(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			all := " "
			for _, l := range m.GetLabel() {
				all += l.GetName() + "=" + l.GetValue() + " "
			}
			fits := family.GetName() == name
			for _, label := range labels {
				fits = fits && strings.Contains(all, " "+label+" ")
			}
			if fits {
				sum += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func TestWhatTheNodeDoesIsCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, registry := r.counting()
	wantMetric(t, registry, "cinder_csi_node_attach_limit") // not before it was told
	_, err := s.NodeGetInfo(r.context(), &csi.NodeGetInfoRequest{})
	must(t, err)
	wantMetric(t, registry, "cinder_csi_node_attach_limit", "{} 37")
	wantMetric(t, registry, "cinder_csi_node_attached_volumes", "{} 0")

	v, foreign := r.attach(small, filesystemOf("ext4")), r.attach(small, filesystemOf("ext4"))
	r.mkfs(foreign, "xfs")
	_, err = s.NodeStageVolume(r.context(), v.stageRequest())
	must(t, err)
	_, err = s.NodeStageVolume(r.context(), foreign.stageRequest())
	wantCode(t, err, codes.FailedPrecondition, "holds xfs")
	soon, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	absent := r.unattached(small, filesystemOf("ext4"))
	_, err = s.NodeStageVolume(soon, absent.stageRequest())
	wantCode(t, err, codes.Unavailable)

	wantMetric(t, registry, "cinder_csi_node_attached_volumes", "{} 2")
	wantMetric(t, registry, "cinder_csi_node_device_wait_seconds", "{found_by=backing_file} 2", "{found_by=none} 1")
	wantMetric(t, registry, "cinder_csi_node_refusals_total", "{reason=corrupt} 0", "{reason=held} 0",
		"{reason=mounted_otherwise} 0", "{reason=not_blank} 1", "{reason=read_only} 0", "{reason=wrong_serial} 0")
	for _, labels := range [][]string{
		{"tool=mkfs.ext4", "fstype=ext4", "result=success"},
		{"tool=mount", "fstype=ext4", "result=success"},
		{"tool=blkid", "fstype=", "result=success"},
	} {
		if value(t, registry, "cinder_csi_node_tool_duration_seconds", labels...) == 0 {
			t.Errorf("no %v", labels)
		}
	}
}

// TestAnAbnormalVolumeIsToldUntilItIsWellOrUnstaged, by what NodeGetVolumeStats finds.
func TestAnAbnormalVolumeIsToldUntilItIsWellOrUnstaged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, registry := r.counting()
	const metric = "cinder_csi_node_volume_abnormal"
	stats := func(v volume) { // whether it fails is another test's
		_, _ = s.NodeGetVolumeStats(r.context(), &csi.NodeGetVolumeStatsRequest{VolumeId: v.id, VolumePath: v.staging})
	}
	stage := func(v volume) {
		_, err := s.NodeStageVolume(r.context(), v.stageRequest())
		must(t, err)
	}
	v := r.attach(small, filesystemOf("ext4"))
	stage(v)
	stats(v)
	wantMetric(t, registry, metric)
	run(t, "mount", "-o", "remount,ro", v.staging)
	stats(v)
	stats(v)
	wantMetric(t, registry, metric, "{reason=given_up,volume_id="+v.id+"} 1")
	stage(v)
	wantMetric(t, registry, metric)

	run(t, "mount", "-o", "remount,ro", v.staging)
	stats(v)
	_, err := s.NodeUnstageVolume(r.context(), v.unstageRequest())
	must(t, err)
	wantMetric(t, registry, metric)
}

// TestAScrapeWaitsForNoDisk: the serial of one is never told.
func TestAScrapeWaitsForNoDisk(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	block := filepath.Join(root, "sys", "block", "vdb")
	must(t, os.MkdirAll(filepath.Join(block, "device"), 0o750))
	must(t, os.MkdirAll(filepath.Join(root, "proc", "self"), 0o750))
	must(t, os.WriteFile(filepath.Join(root, "proc", "self", "mountinfo"), nil, 0o600))
	for name, text := range map[string]string{"dev": "252:16", "size": "2097152", "diskseq": "7"} {
		must(t, os.WriteFile(filepath.Join(block, name), []byte(text), 0o600))
	}
	serial := filepath.Join(block, "serial")
	must(t, unix.Mkfifo(serial, 0o600))
	t.Cleanup(func() { // whoever reads goes on
		fd, err := unix.Open(serial, unix.O_WRONLY|unix.O_NONBLOCK, 0)
		if err == nil {
			_ = unix.Close(fd)
		}
	})
	registry := prometheus.NewRegistry()
	node.New(node.Config{
		Finder: &blockdev.System{SysDir: filepath.Join(root, "sys"), ProcDir: filepath.Join(root, "proc"), DevDir: filepath.Join(root, "dev")},
		FS:     filesystem.New(filesystem.Options{}), Metrics: registry,
	})
	for range 3 { // what doesn't answer is most likely a volume
		wantMetric(t, registry, "cinder_csi_node_attached_volumes", "{} 1")
	}
}

// TestSpansOfACall: programs and mounts belong to the call, also when it has given up.
func TestSpansOfACall(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)))
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	r := newRig(t)
	v, secret := r.attach(small, filesystemOf("ext4")), r.attach(small, filesystemOf("ext4"))
	secret.secrets = map[string]string{"encryptionPassphrase": "canary-" + uuid.NewString()}
	secret.context = map[string]string{"cinder.csi.openstack.org/encrypted": "luks2"}
	ctx, call := otel.Tracer("test").Start(r.context(), "NodeStageVolume")
	_, err := r.server().NodeStageVolume(ctx, v.stageRequest())
	must(t, err)
	_, _ = r.server().NodeStageVolume(ctx, secret.stageRequest()) // not every kernel here has device-mapper
	call.End()
	must(t, r.unstage(v))
	must(t, r.unstage(secret))
	found := map[string]bool{}
	for _, span := range recorder.Ended() {
		if strings.Contains(fmt.Sprint(span.Attributes(), span.Status()), "canary") {
			t.Errorf("a secret is in %v", span)
		}
		if span.Parent().SpanID() == call.SpanContext().SpanID() {
			found[span.Name()] = true
		}
		for _, a := range span.Attributes() {
			if span.Name() == "mkfs.ext4" && a.Key == "process.exit.code" && a.Value.AsInt64() != 0 {
				t.Errorf("%v", a)
			}
		}
	}
	for _, name := range []string{"wait for disk", "cryptsetup", "mkfs.ext4", "mount"} {
		if !found[name] {
			t.Errorf("no span %q below the call; there are %v", name, found)
		}
	}
}

func TestAbnormalVolumesAreBounded(t *testing.T) {
	registry := prometheus.NewRegistry()
	note := node.Abnormal(registry)
	for n := range 150 {
		note(fmt.Sprint(n), "hangs")
	}
	if n, err := testutil.GatherAndCount(registry, "cinder_csi_node_volume_abnormal"); n != 100 || err != nil {
		t.Errorf("%d series, %v", n, err)
	}
	note("7", "")
	note("149", "hangs") // there is room for it now
	if n, err := testutil.GatherAndCount(registry, "cinder_csi_node_volume_abnormal"); n != 100 || err != nil {
		t.Errorf("%d series, %v", n, err)
	}
}
