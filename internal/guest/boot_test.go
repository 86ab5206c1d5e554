package guest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/guest/agent"
	"github.com/cinder-csi/cinder-csi/internal/guest/image"
	"github.com/cinder-csi/cinder-csi/internal/guest/machine"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
)

const (
	// kvmTime is enough for a guest to start where KVM works. Where the
	// processor is itself emulated in part, it crawls and then dies.
	kvmTime = 10 * time.Second
	// tcgTime is enough on a busy machine; an idle one needs a tenth.
	tcgTime = 90 * time.Second
)

// build compiles the tests that run inside and makes the image. It returns the
// names of the tests too.
func build(ctx context.Context, t *testing.T) (*image.Image, []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cinder-csi-guest-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program := filepath.Join(dir, "inside.test")
	compile := exec.CommandContext(ctx, "go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", program, "./inside")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", compile, err, out)
	}
	list := exec.CommandContext(ctx, program, "-test.list=.")
	list.Env = append(os.Environ(), agent.Inside+"=list")
	names, err := list.Output()
	if err != nil {
		t.Fatalf("%s: %v", list, err)
	}
	img, err := image.Build(ctx, program)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = img.Initramfs.Close() })
	return img, strings.Fields(string(names))
}

// start starts a machine with KVM where that works, else without.
func start(ctx context.Context, t *testing.T, cfg machine.Config) *machine.Machine {
	t.Helper()
	if !kvmFails(t) {
		cfg.Accelerator = machine.KVM
		m, err := tryToStart(ctx, t, cfg, kvmTime)
		if err == nil {
			return m
		}
		t.Logf("KVM does not work here, so the guest is emulated: %.200v", err)
		rememberThatKVMFails(t)
	}
	cfg.Accelerator = machine.TCG
	m, err := tryToStart(ctx, t, cfg, tcgTime)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func tryToStart(ctx context.Context, t *testing.T, cfg machine.Config, limit time.Duration) (*machine.Machine, error) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("nothing heard within %v", limit))
	defer cancel()
	m, err := machine.Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	var ready wire.Ready
	if ready, err = m.AwaitReady(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("end the guest: %v", err)
		}
	})
	t.Logf("Linux %s with %s: ready after %v, %v by its own clock",
		ready.Kernel, cfg.Accelerator, time.Since(began).Round(time.Millisecond), ready.Uptime.Round(time.Millisecond))
	return m, nil
}

// kvmFails reports whether KVM is missing, or has been seen not to work since
// this machine was started.
func kvmFails(t *testing.T) bool {
	t.Helper()
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return true
	}
	_ = f.Close()
	_, err = os.Stat(kvmVerdict(t))
	return err == nil
}

func rememberThatKVMFails(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(kvmVerdict(t), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// kvmVerdict returns the path of the mark that KVM doesn't work.
func kvmVerdict(t *testing.T) string {
	t.Helper()
	cache, err := image.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(cache, "kvm-fails-"+strings.TrimSpace(string(boot)))
}
