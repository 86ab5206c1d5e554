package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/cinder-csi/cinder-csi/internal/checkconfig"
	"github.com/cinder-csi/cinder-csi/internal/report"
)

// errUnseen is the error of an answer that is not whole.
var errUnseen = errors.New("a part could not be looked at; see the lines that say unseen")

// newCheckConfigCommand returns the command that tries a cloud.conf.
func newCheckConfigCommand() *cobra.Command {
	opts := checkconfig.Options{Version: version}
	cmd := &cobra.Command{
		Use:   "check-config --cloud-config=FILE [--cloud-name=NAME]",
		Short: "log in to the clouds of a cloud.conf and tell what they allow, what ends soon and what is wrong",
		Long: "Logs in to the clouds of a cloud.conf, asks what changes nothing, and tells what is well, what to know and what is wrong.\n\n" +
			"Exit status: 0 when the driver works with it (it may warn), 1 when something is wrong, 2 when a file can't be read\nor a cloud gives no answer and nothing else is wrong.",
		Args: noArguments,
	}
	cmd.Flags().StringSliceVar(&opts.Files, "cloud-config", nil, "cloud.conf to read, may be repeated, later files overwrite; without it: that of the plugin in whose container the command runs")
	cmd.Flags().StringSliceVar(&opts.Names, "cloud-name", nil, `clouds to look at: the names of its [Global "name"] sections, default for the one without a name; all where it is missing`)
	cmd.Flags().DurationVar(&opts.Patience, "patience", 15*time.Second, "longest time for one question to a cloud")
	brief := cmd.Flags().Bool("brief", false, "leave out what is well")
	format := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(opts.Files) == 0 {
			opts.Files = ofPlugin("/proc/1/cmdline").CloudConfig
		}
		if len(opts.Files) == 0 {
			return misused(cmd, errors.New("--cloud-config is missing"))
		}
		answer := checkconfig.Check(cmd.Context(), opts)
		if *brief {
			answer = answer.Brief()
		}
		if err := report.Show(cmd.OutOrStdout(), answer, *format); err != nil {
			return err
		}
		if answer.Unseen() {
			return errUnseen
		}
		return nil
	}
	return cmd
}
