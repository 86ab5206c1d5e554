// Command sidecar stands for the two side containers of a node that doesn't
// register itself, node-driver-registrar and livenessprobe, whose modules aren't for
// download. It takes the arguments that the chart gives them, and does what each
// of them does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cinder-csi/cinder-csi/internal/registration"
)

type options struct {
	csiAddress, registrationPath, registrationDir, httpEndpoint string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "sidecar:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("sidecar", flag.ContinueOnError)
	flags.StringVar(&o.csiAddress, "csi-address", "", "the plugin's socket")
	flags.StringVar(&o.registrationPath, "kubelet-registration-path", "", "the same as the kubelet sees it: be the registrar")
	flags.StringVar(&o.registrationDir, "plugin-registration-path", "/registration", "the kubelet's directory")
	flags.StringVar(&o.httpEndpoint, "http-endpoint", "", "where to answer for the plugin: be the liveness probe")
	flags.Int("v", 0, "verbosity, which makes no difference")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case o.registrationPath != "":
		return o.register(ctx)
	case o.httpEndpoint != "":
		return o.probe(ctx)
	}
	return errors.New("neither --kubelet-registration-path nor --http-endpoint")
}

// register is the registrar: it asks the plugin for its name and answers the
// kubelet in its place.
func (o options) register(ctx context.Context) error {
	var name string
	err := o.ask(func(plugin csi.IdentityClient) error {
		info, err := plugin.GetPluginInfo(ctx, &csi.GetPluginInfoRequest{}, grpc.WaitForReady(true))
		name = info.GetName()
		return err
	})
	if err != nil {
		return err
	}
	logger, err := zap.NewProduction()
	if err != nil {
		return err
	}
	return registration.Serve(ctx, registration.Config{
		Driver: name, Endpoint: o.registrationPath, Dir: o.registrationDir, Logger: logger,
	})
}

// probe is the liveness probe: whoever asks it is told whether the plugin
// answers.
func (o options) probe(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		err := o.ask(func(plugin csi.IdentityClient) error {
			answer, err := plugin.Probe(ctx, &csi.ProbeRequest{})
			if ready := answer.GetReady(); err == nil && ready != nil && !ready.GetValue() {
				err = errors.New("the plugin is not ready")
			}
			return err
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	server := &http.Server{Addr: o.httpEndpoint, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ask asks the plugin something, on a connection of its own.
func (o options) ask(question func(csi.IdentityClient) error) error {
	conn, err := grpc.NewClient("unix:"+o.csiAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	return errors.Join(question(csi.NewIdentityClient(conn)), conn.Close())
}
