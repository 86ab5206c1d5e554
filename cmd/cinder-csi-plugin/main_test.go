package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/admin"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/driver"
	"github.com/cinder-csi/cinder-csi/internal/report"
	"github.com/cinder-csi/cinder-csi/internal/unixsocket"
)

// conf writes a cloud.conf and returns the flags of a controller that reads it.
func conf(t *testing.T, content string) []string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "cloud.conf")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--endpoint=unix://" + filepath.Join(dir, "csi.sock"), "--cloud-config=" + path}
}

func global(authURL, password string) string {
	return fmt.Sprintf("[Global]\nauth-url = %s\nusername = demo\npassword = %s\ntenant-name = demo\ndomain-name = Default\nregion = RegionOne\n", authURL, password)
}

func TestBadInputEndsInOneClearLineWithinTenSeconds(t *testing.T) {
	cloud, err := devcloud.Start(t.Context(), devcloud.Config{StateDir: t.TempDir(), Disks: devcloud.DisksNone})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cloud.Close() })
	for _, test := range []struct {
		name string
		args []string
		exit int
		says []string
	}{
		{"an unknown flag", []string{"--endpoint=unix:///tmp/x", "--bogus"}, 2, []string{"--bogus"}},
		{"a stray argument", []string{"--endpoint=unix:///tmp/x", "controller"}, 2, []string{`"controller"`}},
		{"a command that doesn't exist", []string{"inspct"}, 2, []string{`"inspct"`, "did you mean inspect?"}},
		{"a command without what it is about", []string{"inspect"}, 2, []string{"cinder-csi-plugin inspect --help"}},
		{"a command that doesn't exist below another", []string{"inspect", "moon"}, 2, []string{`"moon"`, "cinder-csi-plugin inspect --help"}},
		{"a flag that a command doesn't have", []string{"inspect", "--endpoint=unix:///tmp/x"}, 2, []string{"--endpoint", "cinder-csi-plugin inspect --help"}},
		{"a command for a shell that the images don't have", []string{"completion", "bash"}, 2, []string{`"completion"`}},
		{"a flag without its value", []string{"--endpoint"}, 2, []string{"--endpoint", "cinder-csi-plugin --help"}},
		{"no endpoint", nil, 2, []string{"--endpoint"}},
		{"an endpoint that is none", []string{"--endpoint=/csi.sock"}, 2, []string{"--endpoint", "/csi.sock"}},
		{"no cloud.conf for the controller", []string{"--endpoint=unix:///tmp/x"}, 2, []string{"--cloud-config"}},
		{"an admin endpoint that all of a node reach", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--admin-endpoint=tcp://127.0.0.1:6060"}, 2, []string{"--admin-endpoint=tcp://127.0.0.1:6060", "loopback"}},
		{"an admin endpoint that is none", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--admin-endpoint=:6060"}, 2, []string{"--admin-endpoint", "unix://PATH"}},
		{"an admin endpoint that is CSI's", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--admin-endpoint=unix://tmp/x"}, 2, []string{"--admin-endpoint=unix://tmp/x", "--endpoint"}},
		{"a level that is none", []string{"log-level", "loud"}, 2, []string{`"loud"`, "debug, info, warn or error"}},
		{"a level for less than no time", []string{"log-level", "debug", "--for=-1s"}, 2, []string{"--for=-1s"}},
		{"a plugin that isn't there", []string{"log-level", "--admin-endpoint=unix:///no/such/admin.sock"}, 2, []string{"/no/such/admin.sock"}},
		{"a profile by way of TCP", []string{"profile", "heap", "--admin-endpoint=tcp://127.0.0.1:1"}, 2, []string{"--admin-endpoint=tcp://127.0.0.1:1"}},
		{"no role", []string{"--endpoint=unix:///tmp/x", "--provide-controller-service=false", "--provide-node-service=false"}, 2, []string{"--provide-controller-service"}},
		{"a filesystem that nobody has", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--default-fstype=reiserfs"}, 2, []string{"--default-fstype", "reiserfs"}},
		{"a registration of no node plugin", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--provide-node-service=false", "--kubelet-registration-path=/x"}, 2, []string{"--kubelet-registration-path"}},
		{"a registration of a socket that has no place", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--kubelet-registration-path=csi.sock"}, 2, []string{"--kubelet-registration-path=csi.sock", "absolute"}},
		{"a registration of what is no socket", []string{"--endpoint=tcp://127.0.0.1:1", "--cloud-config=x", "--kubelet-registration-path=/x"}, 2, []string{"--endpoint=tcp"}},
		{"a cloud.conf that is missing", []string{"--endpoint=unix:///tmp/x", "--cloud-config=/no/such/cloud.conf"}, 1, []string{"/no/such/cloud.conf", "no such file"}},
		{"a cloud.conf that is a directory", []string{"--endpoint=unix:///tmp/x", "--cloud-config=/"}, 1, []string{"/", "directory"}},
		{"a cloud.conf that makes no sense", conf(t, "[Global\nauth-url"), 1, []string{"cloud.conf", "line 1"}},
		{"a cloud.conf with a number that is none", conf(t, "[BlockStorage]\nnode-volume-attach-limit = many\n"), 1, []string{"cloud.conf", "node-volume-attach-limit"}},
		{"a cloud.conf without an auth-url", conf(t, "[Global]\nusername = demo\n"), 1, []string{"cloud.conf", "auth-url"}},
		{"a cloud that cloud.conf does not know", append(conf(t, global(cloud.AuthURL(), "secret")), "--cloud-name=mars"), 1, []string{"mars"}},
		{"an auth URL that is none", conf(t, global("keystone.example.com", "secret")), 1, []string{"cloud.conf", "auth-url keystone.example.com"}},
		{"a ca-file that is missing", conf(t, global(cloud.AuthURL(), "secret")+"ca-file = /no/such/ca.pem\n"), 1, []string{"cloud.conf", "/no/such/ca.pem"}},
		{"tags that are the driver's", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--extra-tags=a=b,cinder.csi.openstack.org/cluster=c"}, 2, []string{"--extra-tags", "the driver's own"}},
		{"tags without annotations", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--tag-annotation-prefix=a/"}, 2, []string{"--pvc-annotations"}},
		{"tags from the driver's annotations", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--pvc-annotations", "--tag-annotation-prefix=cinder."}, 2, []string{"--tag-annotation-prefix=cinder.", "the driver's own"}},
		{"a taint that is Kubernetes' own", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--startup-taint=node.kubernetes.io/not-ready"}, 2, []string{"--startup-taint=node.kubernetes.io/not-ready", "Kubernetes' own"}},
		{"a taint that is none", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--startup-taint=a=b:NoExecute"}, 2, []string{"--startup-taint=a=b:NoExecute", "key"}},
		{"addresses of secrets that are none", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--secret-auth-urls=keystone.example.com"}, 2, []string{"--secret-auth-urls", "keystone.example.com"}},
		{"a zone that can be no label", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--zone-fallback=..."}, 2, []string{"--zone-fallback", "label"}},
		{"tags that are the driver's own", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--extra-tags=cinder.csi.openstack.org/cluster=x"}, 2, []string{"--extra-tags", "cinder.csi.openstack.org/cluster"}},
		{"tags without a value", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--extra-tags=team"}, 2, []string{"extra-tags", "team"}},
		{"tags that Cinder can't store", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--extra-tags=tëam=x"}, 2, []string{"--extra-tags", "Cinder takes"}},
		{"a time below nothing", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--cloud-login-timeout=-1s"}, 2, []string{"--cloud-login-timeout", "negative"}},
		{"a limit below nothing", []string{"--endpoint=unix:///tmp/x", "--cloud-config=x", "--cloud-reads-per-second=-1"}, 2, []string{"--cloud-reads-per-second", "negative"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			start := time.Now()
			exit := run(test.args, &stdout, &stderr)
			took := time.Since(start)
			said := stderr.String()
			if exit != test.exit {
				t.Errorf("exit status %d, want %d", exit, test.exit)
			}
			if took > 11*time.Second {
				t.Errorf("took %v", took)
			}
			if test.exit == 1 {
				said = failure(t, said)
			} else if strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "cinder-csi-plugin: ") {
				t.Errorf("not one line: %q", said)
			}
			for _, word := range test.says {
				if !strings.Contains(said, word) {
					t.Errorf("%q does not say %q", said, word)
				}
			}
			if strings.Contains(said, "wrong-password") {
				t.Errorf("the password is told: %q", said)
			}
		})
	}
}

// failure returns the text of the only error of a log, which ends with it.
func failure(t *testing.T, log string) (text string) {
	t.Helper()
	for line := range strings.Lines(log) {
		var entry struct{ Level, Msg, Error string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("not an entry of the log: %q", line)
		}
		if text != "" {
			t.Errorf("the log goes on after the failure: %q", line)
		}
		if entry.Level == "error" {
			text = entry.Msg + ": " + entry.Error
		}
	}
	return text
}

// parse reads the command line of a plugin that serves.
func parse(args []string, stdout io.Writer) (opts options, err error) {
	root := newRootCommand(func(_ context.Context, read options) error {
		opts = read
		return nil
	})
	root.SetArgs(withoutProgram(args))
	root.SetOut(stdout)
	return opts, root.Execute()
}

func TestManifestsOfTheReferenceDriverAreUnderstood(t *testing.T) {
	opts, err := parse([]string{
		"--endpoint=unix://csi/csi.sock", "--cloud_config=/etc/config/cloud.conf", "--cloud-config=/etc/config/more.conf",
		"--cluster=kubernetes", "--nodeid=worker-1", "--pvc-annotations", "--provide-node-service=false", "--v=4", "--vmodule=x=1",
		"--additional-topology=topology.kubernetes.io/region=R1", "--user-agent=a", "--user-agent=b", "--cloud-name=one,two",
		"--node-service-no-os-client", "--kubeconfig=/x", "--master=y", "--kube-api-qps=5", "--kube-api-burst=10",
		"--min-resync-period=12h", "--log-flush-frequency=5s", "--http-endpoint=:8080", "--with-topology=false",
	}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if got := opts.driver.CloudConfig; len(got) != 2 || got[0] != "/etc/config/cloud.conf" {
		t.Errorf("cloud configs %q", got)
	}
	if got := opts.driver.CloudNames; len(got) != 2 || got[1] != "two" {
		t.Errorf("cloud names %q", got)
	}
	if opts.driver.Topology || opts.driver.Node || !opts.driver.Controller || opts.verbosity != 4 {
		t.Errorf("options %+v", opts)
	}
	if len(opts.withoutEffect) == 0 {
		t.Error("flags without effect are not told")
	}
}

// Each flag in each form that manifests have it in.
func TestFlagsOfOlderManifestsHaveNoEffect(t *testing.T) {
	for _, test := range []struct{ args, names []string }{
		{[]string{"--logtostderr"}, []string{"logtostderr"}},
		{[]string{"--logtostderr=true", "--alsologtostderr=false", "--stderrthreshold=INFO"}, []string{"alsologtostderr", "logtostderr", "stderrthreshold"}},
		{[]string{"--add_dir_header", "--skip_headers=true", "--skip_log_headers", "--one_output"}, []string{"add-dir-header", "one-output", "skip-headers", "skip-log-headers"}},
		{[]string{"--log_dir=/var/log", "--log_file=", "--log_file_max_size=1800", "--log_backtrace_at=x.go:1"}, []string{"log-backtrace-at", "log-dir", "log-file", "log-file-max-size"}},
		{[]string{"--logging-format", "json", "--log-json-info-buffer-size=0", "--log-json-split-stream"}, []string{"log-json-info-buffer-size", "log-json-split-stream", "logging-format"}},
		{[]string{"--feature-gates=Topology=true,X=false", "--feature-gates=Y=true"}, []string{"feature-gates"}},
		{[]string{"--vmodule=a=1", "--log-flush-frequency=5s", "--min-resync-period=12h", "--node-service-no-os-client"}, []string{"log-flush-frequency", "min-resync-period", "node-service-no-os-client", "vmodule"}},
		{[]string{"-v", "5"}, nil},
	} {
		opts, err := parse(append([]string{"--endpoint=unix:///tmp/x", "--provide-controller-service=false"}, test.args...), io.Discard)
		if slices.Sort(opts.withoutEffect); err != nil || !slices.Equal(opts.withoutEffect, test.names) {
			t.Errorf("%q: %q, %v", test.args, opts.withoutEffect, err)
		}
	}
}

func TestHelpTellsEachFlagOnceInItsGroup(t *testing.T) {
	var out bytes.Buffer
	if exit := run([]string{"--help"}, &out, io.Discard); exit != 0 {
		t.Errorf("exit status %d", exit)
	}
	for _, word := range []string{"Roles:", "Clouds:", "Controller role:", "Node role:", "Logs:", "Accepted without effect"} {
		if strings.Count(out.String(), "\n"+word) != 1 {
			t.Errorf("no %q in %s", word, out.String())
		}
	}
	for _, g := range driverFlags(&driver.Config{}) {
		g.flags.VisitAll(func(f *pflag.Flag) {
			if strings.Count(out.String(), "  --"+f.Name+" ") != 1 || f.Usage == "" {
				t.Errorf("--%s is not told once", f.Name)
			}
		})
	}
}

// As kubectl exec does it beside a plugin that runs.
func TestTheLogLevelOfARunningPluginIsChanged(t *testing.T) {
	dir := t.TempDir()
	listener, err := unixsocket.ListenPrivate(t.Context(), filepath.Join(dir, "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	level := zap.NewAtomicLevel()
	server := &http.Server{Handler: admin.Handler(level, zap.NewNop())}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	at := "--admin-endpoint=unix://" + filepath.Join(dir, "admin.sock")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"log-level", at}, "info\n"},
		{[]string{"log-level", "debug", at}, "debug until the plugin starts again, then info\n"},
		{[]string{"log-level", "error", "--for=1h", at, "-o", "json"}, `"level": "error"`},
		{[]string{"profile", "goroutine", at}, "\x1f\x8b"},
	} {
		var stdout, stderr bytes.Buffer
		if exit := run(test.args, &stdout, &stderr); exit != 0 || !strings.Contains(stdout.String(), test.want) {
			t.Errorf("%q: exit status %d, %q, %s", test.args, exit, stdout.String(), stderr.String())
		}
	}
	if level.Level() != zap.ErrorLevel {
		t.Errorf("the level is %v", level)
	}
}

func TestHelpTellsTheCommands(t *testing.T) {
	for _, test := range []struct {
		args []string
		says []string
	}{
		{[]string{"--help"}, []string{"\nCommands:\n", "\n  inspect ", "\nExit status: "}},
		{[]string{"/bin/cinder-csi-plugin", "-h"}, []string{"\n  inspect "}},
		{[]string{"--v=4", "--cloud_config", "inspect", "--help"}, []string{"\nCommands:\n"}},
		{[]string{"inspect", "--help"}, []string{"cinder-csi-plugin inspect"}},
	} {
		var out, stderr bytes.Buffer
		exit := run(test.args, &out, &stderr)
		for _, word := range test.says {
			if exit != 0 || stderr.Len() > 0 || strings.Count(out.String(), word) == 0 {
				t.Errorf("%q: exit status %d, %q, no %q in %s", test.args, exit, stderr.String(), word, out.String())
			}
		}
	}
}

func TestAnOutputThatNobodyWritesIsRefused(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
		exit int
	}{{nil, "text", 0}, {[]string{"-o", "json"}, "json", 0}, {[]string{"--output=text"}, "text", 0}, {[]string{"-oyaml"}, "", 2}} {
		cmd := &cobra.Command{Use: "x", RunE: func(*cobra.Command, []string) error { return nil }, SilenceErrors: true, SilenceUsage: true}
		format := outputFlag(cmd)
		cmd.SetArgs(test.args)
		err := cmd.Execute()
		if report.Status(err) != test.exit || err == nil && *format != test.want {
			t.Errorf("%q: %q, %v", test.args, *format, err)
		}
	}
}

func TestArgumentsThatBeginWithTheProgramAreUnderstood(t *testing.T) {
	opts, err := parse([]string{"/bin/cinder-csi-plugin", "--endpoint=unix://csi/csi.sock", "--provide-controller-service=false", "--v=1"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if opts.driver.Endpoint != "unix://csi/csi.sock" || opts.driver.Controller {
		t.Errorf("options %+v", opts)
	}
	for _, args := range [][]string{
		{"/bin/sh", "--endpoint=unix://csi/csi.sock"},
		{"--endpoint=unix://csi/csi.sock", "--provide-controller-service=false", "/bin/cinder-csi-plugin"},
	} {
		if _, err := parse(args, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "unexpected argument") {
			t.Errorf("%q: got %v", args, err)
		}
	}
}

func TestAFallbackThatIsEmptyIsNotOneThatIsMissing(t *testing.T) {
	for _, test := range []struct {
		args []string
		want *string
	}{
		{nil, nil},
		{[]string{"--zone-fallback="}, new("")},
		{[]string{"--zone-fallback", "nova"}, new("nova")},
		{[]string{"--zone_fallback=AZ 1"}, new("AZ 1")},
	} {
		opts, err := parse(append([]string{"--endpoint=unix:///tmp/x", "--provide-controller-service=false"}, test.args...), io.Discard)
		if got := opts.driver.ZoneFallback; err != nil || (got == nil) != (test.want == nil) || got != nil && *got != *test.want {
			t.Errorf("%q: %v, %v", test.args, got, err)
		}
	}
}
