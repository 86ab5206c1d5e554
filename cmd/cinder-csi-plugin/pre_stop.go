package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/cinder-csi/cinder-csi/internal/identity"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/prestop"
	"github.com/cinder-csi/cinder-csi/internal/report"
)

// newPreStopCommand returns the hook of a node plugin's container.
func newPreStopCommand() *cobra.Command {
	cfg := prestop.Config{Driver: identity.DriverName, Node: os.Getenv("NODE_NAME")}
	var access kube.Options
	cmd := &cobra.Command{
		Use:   "pre-stop",
		Short: "wait, on a node that is being emptied, until its volumes have left it",
		Long: "The hook preStop of a node plugin's container. It returns at once on a node that stays. On a node that is drained, shut\n" +
			"down or deleted, it returns when none of the driver's volumes is mounted or attached there any more.\n\n" +
			"Exit status: 0 when there is nothing to wait for, 1 when volumes are left after the time, 2 when nothing is known of the node.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.Node == "" {
				return misused(cmd, errors.New("--node-name is missing, and so is the variable NODE_NAME"))
			}
			client, err := kube.New(access)
			if err != nil {
				return err
			}
			defer client.Close()
			cfg.Kubernetes, cfg.Logger = client, hookLogger()
			err = prestop.Wait(cmd.Context(), cfg)
			if err != nil {
				cfg.Logger.Error("the plugin stops without having waited for its volumes to the end", zap.String("name", cfg.Node), zap.Error(err))
			}
			if errors.Is(err, prestop.ErrLeft) {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "cinder-csi-plugin: %v\n", err)
				return report.ErrWrong
			}
			return err
		},
	}
	cmd.Flags().StringVar(&cfg.Node, "node-name", cfg.Node, "name of this server's Node; the variable NODE_NAME if empty")
	cmd.Flags().StringVar(&cfg.KubeletDir, "kubelet-dir", "/var/lib/kubelet", "the kubelet's directory, whose mounts tell what is left where the Node is gone")
	cmd.Flags().DurationVar(&cfg.Timeout, "timeout", 40*time.Second, "longest time to wait; less than the terminationGracePeriodSeconds of the pod")
	cmd.Flags().StringVar(&access.Kubeconfig, "kubeconfig", "", "kubeconfig to read the Node with, instead of the service account of the pod")
	return cmd
}

// hookLogger writes to the log of the container, if its first process is the plugin: what
// a hook itself writes is seen by nobody.
func hookLogger() *zap.Logger {
	log := os.Stderr
	first, err := os.Readlink("/proc/1/exe")
	if own, _ := os.Readlink("/proc/self/exe"); err == nil && first == own {
		if plugin, err := os.OpenFile("/proc/1/fd/2", os.O_WRONLY|os.O_APPEND, 0); err == nil {
			log = plugin
		}
	}
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(config), zapcore.Lock(log), zapcore.InfoLevel))
}
