package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/cinder-csi/cinder-csi/internal/inspect"
)

// newInspectVolumeCommand returns the command that looks at one volume from all sides.
func newInspectVolumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "volume NAMESPACE/CLAIM | PERSISTENTVOLUME | UUID",
		Short: "look at a volume in Kubernetes, Cinder and Nova, and say where they disagree and what mends it",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return misused(cmd, errors.New("want one volume: namespace/claim, the name of a PersistentVolume, or the id in Cinder"))
			}
			return nil
		},
	}
	format, sources := outputFlag(cmd), sourceFlags(cmd)
	timeout := cmd.Flags().Duration("timeout", 2*time.Minute, "longest time for the whole look")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), *timeout)
		defer cancel()
		opts, _ := sources()
		from, done, err := inspect.Open(ctx, opts)
		if err != nil {
			return err
		}
		defer done()
		volume, err := inspect.LookAtVolume(ctx, from, args[0], time.Now())
		if err != nil {
			return err
		}
		return showSeen(cmd, volume, volume.Unseen, *format)
	}
	return cmd
}
