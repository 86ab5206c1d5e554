package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cinder-csi/cinder-csi/internal/driver"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/report"
)

// commands are those of the binary. Each has a file of its own, which reads its flags and
// calls a package.
func commands() []*cobra.Command {
	return []*cobra.Command{
		newCheckConfigCommand(),
		newInspectCommand(),
		newLogLevelCommand(),
		newProfileCommand(),
		newSupportBundleCommand(),
		newPreStopCommand(),
	}
}

// newInspectCommand returns the command that the looks at one kind of thing are below.
func newInspectCommand() *cobra.Command {
	inspect := newCommand("inspect", "look at a thing from all sides, and say where they disagree")
	inspect.AddCommand(newInspectNodeCommand(), newInspectVolumeCommand(), newInspectOrphansCommand())
	return inspect
}

// newCommand returns a command that has no use without one below it.
func newCommand(use, short string) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return misused(cmd, errors.New("which one?")) },
	}
}

// outputFlag gives a command -o. What it returns is a format of report.Show once the
// flags are read.
func outputFlag(cmd *cobra.Command) *string {
	format := report.Text
	cmd.Flags().VarP((*outputFormat)(&format), "output", "o", "text or json")
	return &format
}

type outputFormat string

func (f *outputFormat) String() string { return string(*f) }
func (f *outputFormat) Type() string   { return "format" }

func (f *outputFormat) Set(format string) error {
	*f = outputFormat(format)
	return report.CheckFormat(format)
}

// misused is an error of the command line.
func misused(cmd *cobra.Command, err error) error {
	return fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())
}

// noArguments refuses arguments, among them commands that don't exist.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unexpected argument %q", args[0])
	cmd.SuggestionsMinimumDistance = 2
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		err = fmt.Errorf("%w, did you mean %s?", err, strings.Join(like, " or "))
	}
	return misused(cmd, err)
}

// newRootCommand returns the command that serves, with all others below it.
func newRootCommand(serve func(context.Context, options) error) *cobra.Command {
	opts := options{driver: driver.Config{Version: version, Revision: revision}}
	groups := append(driverFlags(&opts.driver), group{"Logs", logFlags(&opts)})
	unused := unusedFlags()
	root := &cobra.Command{
		Use:           "cinder-csi-plugin",
		Args:          noArguments,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.showVersion {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "cinder-csi-plugin", version)
				return err
			}
			if err := opts.complete(unused); err != nil {
				return misused(cmd, err)
			}
			return serve(cmd.Context(), opts)
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(misused)
	root.SetGlobalNormalizationFunc(dashes)
	for _, g := range groups {
		root.Flags().AddFlagSet(g.flags)
	}
	root.Flags().AddFlagSet(unused)
	root.AddCommand(commands()...)
	helpOfCommand := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if cmd != root {
			helpOfCommand(cmd, args)
			return
		}
		help(cmd.OutOrStdout(), root.Commands(), groups, unused)
	})
	return root
}

// dashes takes flags in the form that manifests of old releases have, --cloud_config.
func dashes(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
}

// complete checks what the flags say, and adds what the environment says.
func (o *options) complete(unused *pflag.FlagSet) error {
	if o.logFormat != logging.JSON && o.logFormat != logging.Console {
		return fmt.Errorf("--log-format=%s: want %s or %s", o.logFormat, logging.JSON, logging.Console)
	}
	unused.VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			o.withoutEffect = append(o.withoutEffect, f.Name)
		}
	})
	if path := os.Getenv("KUBECONFIG"); path != "" {
		o.driver.Kubernetes.Kubeconfig = path
	}
	return o.driver.Validate()
}

// help writes the commands, and the flags of the plugin by their groups.
func help(w io.Writer, commands []*cobra.Command, groups []group, unused *pflag.FlagSet) {
	const width = 120
	_, _ = fmt.Fprint(w, "CSI driver for OpenStack Cinder.\n\nUsage: cinder-csi-plugin --endpoint=unix:///csi/csi.sock [flags]\n       cinder-csi-plugin COMMAND\n\nCommands:\n")
	for _, c := range commands {
		if c.IsAvailableCommand() {
			_, _ = fmt.Fprintf(w, "  %-20s %s\n", c.Name(), c.Short)
		}
	}
	for _, g := range groups {
		_, _ = fmt.Fprintf(w, "\n%s:\n%s", g.title, g.flags.FlagUsagesWrapped(width))
	}
	var names []string
	unused.VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	_, _ = fmt.Fprintf(w, "\nAccepted without effect, as older manifests have them:\n  %s\n", strings.Join(names, ", "))
	_, _ = fmt.Fprint(w, "\nExit status: 0 when asked to stop, 1 when the plugin could not run, 2 when the command line makes no sense. Of a\n"+
		"command: 0 when all is well, 1 when something is wrong, 2 when it could not look.\n")
}
