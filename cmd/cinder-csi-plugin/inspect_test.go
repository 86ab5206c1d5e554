package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/kube/kubetest"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/openstack/openstacktest"
)

// lookedAt is a cloud with a volume, and a cluster with its PersistentVolume pv-1.
func lookedAt(t *testing.T) (id, cloudConf, kubeconfig string) {
	t.Helper()
	c, err := devcloud.Start(t.Context(), devcloud.Config{StateDir: t.TempDir(), Disks: devcloud.DisksNone})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	cloudConf = filepath.Join(t.TempDir(), "cloud.conf")
	if err := c.WriteCloudConf(cloudConf); err != nil {
		t.Fatal(err)
	}
	client := openstacktest.Connect(t, c.CloudConf(), openstack.Options{})
	v, err := client.CreateVolume(t.Context(), cloud.VolumeRequest{Name: "pv-1", SizeGiB: 1, Metadata: map[string]string{"cinder.csi.openstack.org/cluster": "test"}})
	if err != nil {
		t.Fatal(err)
	}
	server := kubetest.New(t, "token")
	server.Store(kube.PersistentVolumes, "", "pv-1", map[string]any{"spec": map[string]any{
		"capacity": map[string]any{"storage": "1Gi"}, "csi": map[string]any{"driver": "cinder.csi.openstack.org", "volumeHandle": v.ID},
	}})
	server.Store(kube.PersistentVolumes, "", "lost", map[string]any{"spec": map[string]any{
		"csi": map[string]any{"driver": "cinder.csi.openstack.org", "volumeHandle": "0d5a1f2e-1111-4222-8333-00000000000a"},
	}})
	return v.ID, cloudConf, server.Kubeconfig(t, "token")
}

func TestInspectVolumeExitsByWhatItSees(t *testing.T) {
	id, cloudConf, kubeconfig := lookedAt(t)
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	known := []string{"--cloud-config", cloudConf, "--kubeconfig", kubeconfig}
	for name, test := range map[string]struct {
		args []string
		exit int
		says []string
	}{
		"all is well":              {append([]string{"pv-1"}, known...), 0, []string{id, "All sides agree."}},
		"as JSON":                  {append([]string{id, "-o", "json"}, known...), 0, []string{`"volumeID": "` + id + `"`}},
		"something is wrong":       {append([]string{"lost"}, known...), 1, []string{"openstack volume show 0d5a1f2e"}},
		"nothing of that name":     {append([]string{"nothing"}, known...), 2, []string{"nothing of that name"}},
		"no name":                  {known, 2, []string{"want one volume"}},
		"two names":                {append([]string{"a", "b"}, known...), 2, []string{"want one volume"}},
		"an output that is none":   {append([]string{"pv-1", "-o", "yaml"}, known...), 2, []string{"yaml"}},
		"no Kubernetes":            {[]string{id, "--cloud-config", cloudConf}, 2, []string{id, "available", "name a --kubeconfig", "could not look everywhere"}},
		"no cloud":                 {[]string{"pv-1", "--kubeconfig", kubeconfig}, 2, []string{id, "clouds.yaml", "could not look everywhere"}},
		"a cloud that is none":     {append([]string{"pv-1", "--cloud-name", "mars"}, known...), 2, []string{"mars"}},
		"a cloud.conf that is not": {[]string{"pv-1", "--cloud-config", "/no/such"}, 2, []string{"/no/such"}},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			exit := run(append([]string{"inspect", "volume"}, test.args...), &stdout, &stderr)
			said := stdout.String() + stderr.String()
			if exit != test.exit {
				t.Errorf("exit status %d, want %d", exit, test.exit)
			}
			for _, word := range test.says {
				if !strings.Contains(said, word) {
					t.Errorf("does not say %q", word)
				}
			}
			if strings.Contains(strings.Join(test.args, " "), "json") && !json.Valid(stdout.Bytes()) {
				t.Error("no JSON")
			}
			if t.Failed() {
				t.Log(said)
			}
		})
	}
}

func TestInspectOrphansExitsByWhatItSees(t *testing.T) {
	_, cloudConf, kubeconfig := lookedAt(t)
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	known := []string{"--cloud-config", cloudConf, "--kubeconfig", kubeconfig, "--cluster", "test"}
	for name, test := range map[string]struct {
		args []string
		exit int
		says []string
	}{
		"all is well":       {known, 0, []string{"1 volumes (1 with a PersistentVolume)", "No orphans."}},
		"as JSON":           {append([]string{"-o", "json"}, known...), 0, []string{`"orphans": []`}},
		"no name":           {known[:4], 2, []string{"--cluster"}},
		"too young":         {append([]string{"--older-than", "1s"}, known...), 2, []string{"--older-than=1s"}},
		"a stray argument":  {append([]string{"all"}, known...), 2, []string{`"all"`}},
		"no Kubernetes":     {slices.Concat(known[:2], known[4:]), 2, []string{"name a --kubeconfig", "could not look everywhere"}},
		"no cloud":          {known[2:], 2, []string{"clouds.yaml", "could not look everywhere"}},
		"another --cluster": {append(slices.Clone(known[:4]), "--cluster", "other"), 0, []string{"0 volumes"}},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			exit := run(append([]string{"inspect", "orphans"}, test.args...), &stdout, &stderr)
			said := stdout.String() + stderr.String()
			if exit != test.exit {
				t.Errorf("exit status %d, want %d", exit, test.exit)
			}
			for _, word := range test.says {
				if !strings.Contains(said, word) {
					t.Errorf("does not say %q", word)
				}
			}
			if t.Failed() {
				t.Log(said)
			}
		})
	}
}

func TestACommandTakesWhatThePluginOfItsContainerHas(t *testing.T) {
	commandLine := filepath.Join(t.TempDir(), "cmdline")
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"the plugin":               {[]string{"/bin/cinder-csi-plugin", "--endpoint=unix:///x", "--cloud_config=/a", "--cloud-config", "/b", "--cluster=c"}, "/a,/b c"},
		"as manifests start it":    {[]string{"/bin/cinder-csi-plugin", "/bin/cinder-csi-plugin", "--cloud-config=/a"}, "/a "},
		"with flags of its future": {[]string{"cinder-csi-plugin", "--future=1", "--cloud-config=/a"}, "/a "},
		"a command":                {[]string{"cinder-csi-plugin", "inspect", "volume", "--cloud-config=/a", "x"}, "/a "},
		"something else":           {[]string{"/sbin/init", "--cloud-config=/a"}, " "},
		"nothing":                  {nil, " "},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(commandLine, []byte(strings.Join(test.args, "\x00")+"\x00"), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg := ofPlugin(commandLine)
			if got := strings.Join(cfg.CloudConfig, ",") + " " + cfg.Cluster; got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
	if cfg := ofPlugin("/no/such/file"); cfg.CloudConfig != nil {
		t.Errorf("%v", cfg)
	}
}
