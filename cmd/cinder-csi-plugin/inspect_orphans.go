package main

import (
	"cmp"
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/cinder-csi/cinder-csi/internal/inspect"
)

// newInspectOrphansCommand returns the command that looks for what Kubernetes has no object of.
func newInspectOrphansCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "orphans",
		Short: "find the volumes, snapshots, backups and attachments of this cluster that Kubernetes has no object of",
		Args:  noArguments,
	}
	format, sources := outputFlag(cmd), sourceFlags(cmd)
	cluster := cmd.Flags().String("cluster", "", "name of the cluster, as the driver has it; without it: that of the plugin in whose container the command runs")
	olderThan := cmd.Flags().Duration("older-than", inspect.CountedAge, "least age of what is told, at least "+inspect.YoungestOrphan.String())
	timeout := cmd.Flags().Duration("timeout", 10*time.Minute, "longest time for the whole look")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), *timeout)
		defer cancel()
		opts, plugin := sources()
		from, done, err := inspect.Open(ctx, opts)
		if err != nil {
			return err
		}
		defer done()
		orphans, err := inspect.LookForOrphans(ctx, from, cmp.Or(*cluster, plugin.Cluster), *olderThan, time.Now())
		if err != nil {
			return err
		}
		return showSeen(cmd, orphans, orphans.Unseen, *format)
	}
	return cmd
}
