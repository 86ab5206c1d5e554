package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cinder-csi/cinder-csi/internal/driver"
	"github.com/cinder-csi/cinder-csi/internal/nodeinspect"
	"github.com/cinder-csi/cinder-csi/internal/report"
)

// inspectTime is more than a look at a node takes, unless a disk hangs in a way that even
// its bounds don't know.
const inspectTime = 90 * time.Second

// newInspectNodeCommand returns the command that looks at the node that it runs on.
func newInspectNodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "look at this node: who it is, its limit, disks, volumes, and the kubelet's registration",
		Long: "Looks at the node that it runs on, as the node role of the driver does, and changes nothing:\n\n" +
			"    kubectl exec -n NAMESPACE POD -c cinder-csi-plugin -- cinder-csi-plugin inspect node\n\n" +
			"It takes the flags of the plugin that runs beside it. Flags that are given go first; on a server without a plugin\nthey are all that is known.\n\n" +
			"Exit status: 0 when all is well, 1 when something is wrong, 2 when it could not look.",
		Args: noArguments,
	}
	kubeletDir := cmd.Flags().String("kubelet-dir", "", "the kubelet's directory; by default the one that the plugin is registered with, or /var/lib/kubelet")
	here := cmd.Flags().Bool("in-this-process", false, "look in this process, which can't end before a disk that hangs answers")
	plugin := pluginFlags(&driver.Config{})
	for _, name := range []string{
		"cloud-config", "http-endpoint", "with-topology", "kubelet-registration-path", "plugin-registration-path", "nodeid", "node-name", "metadata-url",
		"zone-fallback", "reserved-volume-attachments", "development-device-dir",
	} {
		cmd.Flags().String(name, "", "of the plugin: "+strings.ReplaceAll(plugin.Lookup(name).Usage, "`", ""))
	}
	format := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		look := lookApart
		if *here {
			look = func(cmd *cobra.Command) (*nodeinspect.Answer, error) { return lookHere(cmd, *kubeletDir) }
		}
		answer, err := look(cmd)
		if err != nil {
			return err
		}
		return report.Show(cmd.OutOrStdout(), answer, *format)
	}
	return cmd
}

// lookHere looks in this process.
func lookHere(cmd *cobra.Command, kubeletDir string) (*nodeinspect.Answer, error) {
	var cfg driver.Config
	plugin := pluginFlags(&cfg)
	found, args := runningPlugin()
	if err := plugin.Parse(args); err != nil {
		return nil, fmt.Errorf("the flags of %s: %w", found, err)
	}
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		of := plugin.Lookup(f.Name)
		if of == nil {
			return
		}
		if list, ok := of.Value.(pflag.SliceValue); ok {
			_ = list.Replace(nil) // to set it adds to it
		}
		if serr := of.Value.Set(f.Value.String()); serr != nil {
			err = errors.Join(err, misused(cmd, fmt.Errorf("--%s: %w", f.Name, serr)))
		}
	})
	if err != nil {
		return nil, err
	}
	const toTell = 15 * time.Second // of inspectTime, for an answer about what was looked at
	ctx, cancel := context.WithTimeout(cmd.Context(), inspectTime-toTell)
	defer cancel()
	return driver.InspectNode(ctx, cfg, found, kubeletDir)
}

// lookApart looks in another process: one with a thread that waits for a disk that hangs
// can't end, whatever ends it.
func lookApart(cmd *cobra.Command) (*nodeinspect.Answer, error) {
	args := []string{"inspect", "node", "--in-this-process", "--output=json"}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Name != "output" {
			args = append(args, "--"+f.Name+"="+f.Value.String())
		}
	})
	ctx, cancel := context.WithTimeout(cmd.Context(), inspectTime)
	defer cancel()
	other := exec.CommandContext(ctx, "/proc/self/exe", args...)
	answers, err := other.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	other.Stderr = &said
	if err := other.Start(); err != nil {
		return nil, err
	}
	type outcome struct {
		answer *nodeinspect.Answer
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		var answer nodeinspect.Answer
		err := json.NewDecoder(answers).Decode(&answer)
		if err != nil {
			_ = other.Wait() // what it said is complete then
			err = fmt.Errorf("the look ended without an answer: %w: %s", err, strings.TrimSpace(said.String()))
		}
		done <- outcome{&answer, err}
	}()
	select {
	case o := <-done:
		return o.answer, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("the look didn't end within %v: a disk hangs; the kernel's log (dmesg) says which", inspectTime)
	}
}

// pluginFlags returns all flags of a plugin that serves.
func pluginFlags(cfg *driver.Config) *pflag.FlagSet {
	fs := newFlags()
	fs.ParseErrorsAllowlist.UnknownFlags = true // of an older or a newer one
	fs.SetNormalizeFunc(dashes)
	for _, g := range append(driverFlags(cfg), group{"Logs", logFlags(&options{})}) {
		fs.AddFlagSet(g.flags)
	}
	fs.AddFlagSet(unusedFlags())
	return fs
}

// runningPlugin finds the plugin with the node role that runs in this container, or on this
// machine, by its program, and returns its arguments; empty if there is none.
func runningPlugin() (found string, args []string) {
	own, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", nil
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return "", nil
	}
	for _, dir := range processes {
		exe, err := os.Stat(filepath.Join(dir, "exe"))
		if err != nil || !os.SameFile(own, exe) {
			continue
		}
		words, err := words(filepath.Join(dir, "cmdline"))
		if err != nil {
			continue // it has just ended
		}
		var cfg driver.Config
		args := withoutProgram(words[1:])
		plugin := pluginFlags(&cfg)
		if plugin.Parse(args) == nil && plugin.NArg() == 0 && cfg.Node && cfg.Endpoint != "" {
			return "process " + filepath.Base(dir) + ": " + strings.Join(words, " "), args
		}
	}
	return "", nil
}
