package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"github.com/cinder-csi/cinder-csi/internal/admin"
	"github.com/cinder-csi/cinder-csi/internal/report"
	"github.com/cinder-csi/cinder-csi/internal/rpc"
)

// adminFlag gives a command the address of a plugin that runs.
func adminFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("admin-endpoint", "unix:///csi/"+admin.Socket, "unix://PATH of the plugin's socket, as its own flag of that name says")
}

// adminClient returns a client for the plugin at an endpoint.
func adminClient(cmd *cobra.Command, endpoint string) (*admin.Client, error) {
	at, err := rpc.ParseEndpoint(endpoint)
	if err != nil || at.Network != "unix" {
		return nil, misused(cmd, fmt.Errorf("--admin-endpoint=%s: want unix://PATH", endpoint))
	}
	return admin.NewClient(at.Address), nil
}

func newLogLevelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log-level [debug|info|warn|error]",
		Short: "tell how much a running plugin logs, or change it",
		Example: "  kubectl exec -n kube-system deploy/cinder-csi-controller -c cinder-csi-plugin -- \\\n" +
			"    cinder-csi-plugin log-level debug --for 10m",
		Args: cobra.MaximumNArgs(1),
	}
	endpoint, format := adminFlag(cmd), outputFlag(cmd)
	lasts := cmd.Flags().Duration("for", 0, "after this time, the level is again the one of the plugin's command line; 0: when the plugin starts again")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := adminClient(cmd, *endpoint)
		if err != nil {
			return err
		}
		if len(args) == 0 {
			now, err := client.LogLevel(cmd.Context())
			if err != nil {
				return err
			}
			return report.Show(cmd.OutOrStdout(), now, *format)
		}
		level, err := zapcore.ParseLevel(args[0])
		if err != nil || level < zapcore.DebugLevel || level > zapcore.ErrorLevel {
			return misused(cmd, fmt.Errorf("%q is no level: want debug, info, warn or error", args[0]))
		}
		if *lasts < 0 {
			return misused(cmd, fmt.Errorf("--for=%s: no time is shorter than 0", *lasts))
		}
		now, err := client.SetLogLevel(cmd.Context(), level, *lasts)
		if err != nil {
			return err
		}
		return report.Show(cmd.OutOrStdout(), now, *format)
	}
	return cmd
}

func newProfileCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "profile cpu|heap|goroutine|allocs|block|mutex|threadcreate|trace",
		Short:   "write a profile of a running plugin to standard output, for go tool pprof or go tool trace",
		Example: "  kubectl exec -n kube-system deploy/cinder-csi-controller -c cinder-csi-plugin -- cinder-csi-plugin profile heap > heap.pb.gz",
		Args:    cobra.ExactArgs(1),
	}
	endpoint := adminFlag(cmd)
	lasts := cmd.Flags().Duration("for", 10*time.Second, "how long cpu and trace are recorded")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := adminClient(cmd, *endpoint)
		if err != nil {
			return err
		}
		switch args[0] {
		case "cpu":
			return client.Profile(cmd.Context(), "profile", *lasts, cmd.OutOrStdout())
		case "trace":
			return client.Profile(cmd.Context(), "trace", *lasts, cmd.OutOrStdout())
		}
		return client.Profile(cmd.Context(), args[0], 0, cmd.OutOrStdout())
	}
	return cmd
}
