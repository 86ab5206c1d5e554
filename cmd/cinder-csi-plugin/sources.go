package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cinder-csi/cinder-csi/internal/driver"
	"github.com/cinder-csi/cinder-csi/internal/inspect"
	"github.com/cinder-csi/cinder-csi/internal/report"
)

// sourceFlags gives a command the flags by which it finds Kubernetes and the clouds. What
// it returns is filled once the flags are read. Where none is given, the command looks
// where the plugin does in whose container it runs, and outside of one where kubectl and
// the openstack client look.
func sourceFlags(cmd *cobra.Command) func() (inspect.Options, driver.Config) {
	opts := inspect.Options{Version: version}
	fs := cmd.Flags()
	fs.StringSliceVar(&opts.CloudConfig, "cloud-config", nil, "cloud.conf to read, may be repeated; without it: that of the plugin in whose container the command runs, else clouds.yaml and the variables OS_* as the openstack client has them")
	fs.StringSliceVar(&opts.CloudNames, "cloud-name", nil, "clouds of cloud.conf to look at; without it: all of them")
	fs.StringVar(&opts.Kubernetes.Kubeconfig, "kubeconfig", "", "kubeconfig; without it: as kubectl finds it, and the service account inside a pod")
	fs.StringVar(&opts.Kubernetes.Master, "master", "", "address of the apiserver, instead of the one of the kubeconfig")
	return func() (inspect.Options, driver.Config) {
		plugin := ofPlugin("/proc/1/cmdline")
		if len(opts.CloudConfig) == 0 {
			opts.CloudConfig = plugin.CloudConfig
			if len(opts.CloudNames) == 0 && len(plugin.CloudConfig) > 0 {
				opts.CloudNames = plugin.CloudNames
			}
		}
		if opts.Kubernetes.Kubeconfig == "" && opts.Kubernetes.Master == "" {
			opts.Kubernetes.Kubeconfig, opts.Kubernetes.Master = plugin.Kubernetes.Kubeconfig, plugin.Kubernetes.Master
		}
		opts.Kubernetes = opts.Kubernetes.AsKubectl()
		return opts, plugin
	}
}

// ofPlugin returns what a plugin was started with, by the command line of its process;
// nothing if the process is none. In its container, the plugin is the first process.
func ofPlugin(commandLine string) driver.Config {
	var cfg driver.Config
	words, err := words(commandLine)
	if err != nil || filepath.Base(words[0]) != "cinder-csi-plugin" || pluginFlags(&cfg).Parse(withoutProgram(words[1:])) != nil {
		return driver.Config{}
	}
	return cfg
}

// words returns the program and the arguments of a process, by the file with its command
// line: one at least.
func words(commandLine string) ([]string, error) {
	text, err := os.ReadFile(commandLine) // #nosec G304 -- below /proc
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00"), err
}

// showSeen shows what a look has found, and ends with what it could not see.
func showSeen(cmd *cobra.Command, answer report.Answer, unseen inspect.Unseen, format string) error {
	if err := report.Show(cmd.OutOrStdout(), answer, format); err != nil && !errors.Is(err, report.ErrWrong) || len(unseen) == 0 {
		return err
	}
	return unseen.Err()
}
