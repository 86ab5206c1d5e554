package rpc

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// identity answers Probe as a test wants it to.
type identity struct {
	csi.UnimplementedIdentityServer
	probe func(context.Context) (*csi.ProbeResponse, error)
}

func (i *identity) Probe(ctx context.Context, _ *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return i.probe(ctx)
}

func TestProbeTellsWhetherThePluginServes(t *testing.T) {
	answer := func(ready *wrapperspb.BoolValue) func(context.Context) (*csi.ProbeResponse, error) {
		return func(context.Context) (*csi.ProbeResponse, error) { return &csi.ProbeResponse{Ready: ready}, nil }
	}
	for _, test := range []struct {
		name, network string
		probe         func(context.Context) (*csi.ProbeResponse, error) // nil: accepts connections and says nothing
		says          string
	}{
		{"it serves", "unix", answer(wrapperspb.Bool(true)), ""},
		{"it serves tcp", "tcp", answer(wrapperspb.Bool(true)), ""},
		{"it says nothing of being ready, which CSI has as ready", "unix", answer(nil), ""},
		{"it is not ready", "unix", answer(wrapperspb.Bool(false)), "not ready"},
		{"its calls hang", "unix", func(ctx context.Context) (*csi.ProbeResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, "does not answer"},
		{"nobody serves what is accepted", "unix", nil, "does not answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			endpoint := Endpoint{"tcp", "127.0.0.1:0"}
			if test.network == "unix" {
				endpoint = Endpoint{"unix", filepath.Join(t.TempDir(), "s")}
			}
			listener, err := endpoint.Listen(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			endpoint.Address = listener.Addr().String()
			serveIdentity(t, listener, test.probe)
			patience := 20 * time.Second
			if test.says == "does not answer" {
				patience = 200 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err = Probe(ctx, endpoint)
			if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}

func serveIdentity(t *testing.T, listener net.Listener, probe func(context.Context) (*csi.ProbeResponse, error)) {
	t.Helper()
	if probe == nil {
		t.Cleanup(func() { _ = listener.Close() })
		return
	}
	server := NewServer(Options{Grace: time.Second}, func(r grpc.ServiceRegistrar) {
		csi.RegisterIdentityServer(r, &identity{probe: probe})
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestProbeSaysThatNobodyListens(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := Probe(ctx, Endpoint{"unix", filepath.Join(t.TempDir(), "s")})
	if err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}
