package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cinder-csi/cinder-csi/internal/bundle"
	"github.com/cinder-csi/cinder-csi/internal/checkconfig"
	"github.com/cinder-csi/cinder-csi/internal/driver"
	"github.com/cinder-csi/cinder-csi/internal/identity"
	"github.com/cinder-csi/cinder-csi/internal/inspect"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/report"
)

// errIncomplete is the error of a bundle that lacks something.
var errIncomplete = errors.New("the bundle lacks what could not be read; see its errors.txt")

// bundleFlags are those of support-bundle.
type bundleFlags struct {
	sources                  func() (inspect.Options, driver.Config)
	cluster, namespace, file string
	volumes                  []string
	timeout                  time.Duration
}

// newSupportBundleCommand returns the command that gathers all of this in one archive.
func newSupportBundleCommand() *cobra.Command {
	flags := bundleFlags{}
	cmd := &cobra.Command{
		Use:   "support-bundle",
		Short: "gather versions, configuration, objects, logs and metrics in one archive without secrets",
		Long: "Gathers in one .tar.gz what somebody needs who is to find out what is wrong: versions, the configuration without\n" +
			"its secrets, what the other commands find out, objects of Kubernetes that concern the driver, logs and metrics.\n\n" +
			"Exit status: 0 when all of it could be read, 2 when the archive lacks something, which its errors.txt names.",
		Args: noArguments,
	}
	flags.sources = sourceFlags(cmd)
	fs := cmd.Flags()
	fs.StringVarP(&flags.namespace, "namespace", "n", ownNamespace(), "namespace of the driver's pods")
	fs.StringVar(&flags.cluster, "cluster", "", "name of the cluster, to look for its orphans; without it: that of the plugin in whose container the command runs, else none are looked for")
	fs.StringSliceVar(&flags.volumes, "volume", nil, "volume to inspect, as in inspect volume, may be repeated")
	fs.StringVar(&flags.file, "file", "", "file to write, - for standard output; named after the time where it is missing")
	fs.DurationVar(&flags.timeout, "timeout", 5*time.Minute, "longest time for all of it; what is missing then is told")
	format := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		answer, err := flags.write(cmd.Context(), cmd.OutOrStdout())
		if err != nil {
			return err
		}
		where := cmd.OutOrStdout()
		if flags.file == "-" {
			where = cmd.ErrOrStderr()
		}
		if err := report.Show(where, answer, *format); err != nil {
			return err
		}
		if len(answer.Missing) > 0 {
			return errIncomplete
		}
		return nil
	}
	return cmd
}

// ownNamespace is the one of this pod, else where the driver usually is.
func ownNamespace() string {
	if name, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace"); err == nil {
		return strings.TrimSpace(string(name))
	}
	return "kube-system"
}

// write makes the bundle. A file that was begun and not ended is removed.
func (f *bundleFlags) write(ctx context.Context, stdout io.Writer) (answer *bundle.Answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	sources, plugin := f.sources()
	opts := bundle.Options{
		Version: version, Arguments: os.Args[1:], CloudConfig: sources.CloudConfig, Namespace: f.namespace, Driver: identity.DriverName, Made: time.Now(),
		Reports: f.reports(sources, plugin),
	}
	if opts.Cluster, opts.NoCluster = kube.New(sources.Kubernetes); opts.NoCluster == nil {
		defer opts.Cluster.Close()
	}
	if f.file == "-" {
		answer, err = bundle.Write(ctx, stdout, opts)
		if answer != nil {
			answer.Path = "standard output"
		}
		return answer, err
	}
	path := f.file
	if path == "" {
		path = fmt.Sprintf("cinder-csi-%s.tar.gz", opts.Made.UTC().Format("20060102-150405"))
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // #nosec G304 -- the operator's own file
	if err != nil {
		return nil, err
	}
	answer, err = bundle.Write(ctx, file, opts)
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	answer.Path = path
	return answer, nil
}

// reports are what the other commands find out.
func (f *bundleFlags) reports(sources inspect.Options, plugin driver.Config) (reports []bundle.Report) {
	add := func(name string, ask func(context.Context) (report.Answer, error)) {
		reports = append(reports, bundle.Report{Name: name, Ask: ask})
	}
	if len(sources.CloudConfig) > 0 {
		add("check-config", func(ctx context.Context) (report.Answer, error) {
			return checkconfig.Check(ctx, checkconfig.Options{Files: sources.CloudConfig, Names: sources.CloudNames, Version: version}), nil
		})
	}
	if cluster := cmp.Or(f.cluster, plugin.Cluster); cluster != "" {
		add("inspect/orphans", func(ctx context.Context) (report.Answer, error) {
			from, done, err := inspect.Open(ctx, sources)
			if err != nil {
				return nil, err
			}
			defer done()
			return answered(inspect.LookForOrphans(ctx, from, cluster, inspect.CountedAge, time.Now()))
		})
	}
	for _, name := range f.volumes {
		add("inspect/volume-"+strings.ReplaceAll(name, "/", "-"), func(ctx context.Context) (report.Answer, error) {
			from, done, err := inspect.Open(ctx, sources)
			if err != nil {
				return nil, err
			}
			defer done()
			return answered(inspect.LookAtVolume(ctx, from, name, time.Now()))
		})
	}
	if found, _ := runningPlugin(); found != "" {
		add("inspect/node", func(ctx context.Context) (report.Answer, error) {
			look := newInspectNodeCommand()
			look.SetContext(ctx)
			return answered(lookApart(look))
		})
	}
	return reports
}

// answered is an answer, or nil and not a nil of some type.
func answered[T any, A interface {
	*T
	report.Answer
}](answer A, err error) (report.Answer, error) {
	if answer == nil {
		return nil, err
	}
	return answer, err
}
