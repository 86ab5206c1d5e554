// Command devcloud is an OpenStack for one machine, for development and tests:
// see package devcloud. It serves until SIGINT or SIGTERM.
//
//	devcloud --state-dir DIR --server node1=az1 --server node2=az2 --cloud-conf FILE
//	devcloud wipe --state-dir DIR
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/latency"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	if errors.Is(err, pflag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "devcloud: "+strings.TrimPrefix(err.Error(), "devcloud: "))
		stop()
		os.Exit(1)
	}
}

type options struct {
	config    devcloud.Config
	cloudConf string
	wipe      bool
}

func parse(args []string) (options, error) {
	var o options
	flags := pflag.NewFlagSet("devcloud", pflag.ContinueOnError)
	flags.StringVar(&o.config.StateDir, "state-dir", "", "folder in which everything lives (required)")
	flags.StringVar(&o.config.Listen, "listen", "127.0.0.1:0", "address on loopback, or of a bridge without uplink; port 0 takes a free one")
	servers := flags.StringArray("server", nil, "server to create at the first start, as NAME=ZONE (repeat)")
	timing := flags.String("latency", "instant", "how long operations take: instant, fast or realistic")
	flags.StringVar(&o.cloudConf, "cloud-conf", "", "file to write a cloud.conf for the driver to")
	disks := flags.String("disks", "loop", "what is behind the volumes: loop (loop devices, needs root) or none")
	flags.BoolVar(&o.config.Ephemeral, "ephemeral", false, "remove everything at the end")
	verbose := flags.Bool("verbose", false, "log every request to standard error")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch rest := flags.Args(); {
	case len(rest) == 1 && rest[0] == "wipe":
		o.wipe = true
	case len(rest) > 0:
		return o, fmt.Errorf("unknown argument %q; the only command is wipe", rest[0])
	}
	if o.config.StateDir == "" {
		return o, errors.New("--state-dir is required")
	}
	var err error
	if o.config.Latency, err = latency.Named(*timing); err != nil {
		return o, fmt.Errorf("--latency: %w", err)
	}
	if o.config.Disks, err = devcloud.ParseDiskMode(*disks); err != nil {
		return o, fmt.Errorf("--disks: %w", err)
	}
	for _, s := range *servers {
		name, zone, _ := strings.Cut(s, "=")
		o.config.Servers = append(o.config.Servers, devcloud.Server{Name: name, Zone: zone})
	}
	o.config.Logger, err = logger(*verbose)
	return o, err
}

func logger(verbose bool) (*zap.Logger, error) {
	cfg := zap.NewDevelopmentConfig()
	cfg.DisableStacktrace, cfg.DisableCaller = true, true
	if !verbose {
		cfg.Level = zap.NewAtomicLevelAt(zap.WarnLevel)
	}
	return cfg.Build()
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.wipe {
		return devcloud.Wipe(o.config.StateDir)
	}
	cloud, err := devcloud.Start(ctx, o.config)
	if err != nil {
		return err
	}
	if o.cloudConf != "" {
		if err := cloud.WriteCloudConf(o.cloudConf); err != nil {
			return errors.Join(fmt.Errorf("--cloud-conf: %w", err), cloud.Close())
		}
	}
	_, err = fmt.Fprintf(os.Stdout, "devcloud ready at %s, auth %s, state in %s\n", cloud.URL(), cloud.AuthURL(), o.config.StateDir)
	if err != nil {
		return errors.Join(err, cloud.Close())
	}
	<-ctx.Done()
	return cloud.Close()
}
