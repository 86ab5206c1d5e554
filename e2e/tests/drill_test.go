package tests

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// transcriptFile is what TestDrill writes; it isn't run without.
var transcriptFile = flag.String("drill", "", "have TestDrill run, and write what happens to this file")

// stuckPatience is how long an incident that is made beside others waits for one thing: an
// operation has to be stuck for five minutes before a metric tells, and for ten before
// inspect volume does.
const stuckPatience = 12 * time.Minute

// incident is one thing that goes wrong.
type incident struct {
	title string
	// beside tells that it is made beside the others of its kind, after all others: it waits long.
	beside bool
	play   func(*drill)
}

// incidents are made one after another, or their alerts could be taken for each other's.
func incidents() []incident {
	return []incident{
		{"The cloud is down", false, cloudIsDown},
		{"The credential is revoked", false, credentialIsRevoked},
		{"The quota is used up", false, quotaIsUsedUp},
		{"A volume is in error", false, volumeIsInError},
		{"A server hangs", true, serverHangs},
		{"A ghost attachment", true, ghostAttachment},
		{"A disk is refused", false, diskIsRefused},
		{"A node is full", false, nodeIsFull},
		{"A twin volume", false, twinVolume},
		{"An orphan", false, orphan},
	}
}

// drill is an incident that is under way, and its part of the transcript.
type drill struct {
	*scenario
	metrics prometheus.API
	plugin  string
	// dir has the cloud.conf.
	dir  string
	text *part
}

// TestDrill makes ten incidents in the cluster, one after another. It looks at which alert
// holds, what the commands say, and that the documented cure works.
func TestDrill(t *testing.T) {
	if *transcriptFile == "" {
		t.Skip("run it with `make drill`")
	}
	env, err := connected()
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := env.cluster.Prometheus(t.Context(), withDrillAlerts()...)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	plugin := buildPlugin(t, env.cluster.Source, dir)
	conf, err := os.ReadFile(filepath.Join(env.cluster.Dir, "run", "cloud.conf"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(*transcriptFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	text := newTranscript(*transcriptFile, string(page))
	for _, one := range incidents() {
		t.Run(one.title, func(t *testing.T) {
			if one.beside {
				t.Parallel()
			}
			written := newPart(one.title)
			t.Cleanup(func() { // after that of the scenario
				if t.Failed() {
					return
				}
				if err := text.keep(written); err != nil {
					t.Error(err)
				}
			})
			play(t, story{one.title, func(s *scenario) {
				if one.beside {
					s.patience = stuckPatience
				}
				d := &drill{scenario: s, metrics: metrics, plugin: plugin, dir: t.TempDir(), text: written}
				d.must(os.WriteFile(filepath.Join(d.dir, "cloud.conf"), conf, 0o600), "writing cloud.conf")
				written.names[s.namespace] = "drill"
				one.play(d)
			}})
		})
	}
}

// withDrillAlerts is what Helm is told besides: a drill doesn't wait for ten minutes until
// an operation is called stuck, nor for five until the quota is read or volumes are listed
// again.
func withDrillAlerts(more ...string) []string {
	return append([]string{
		"--set=metrics.prometheusRule.alerts.CinderVolumeStuck.threshold=1", "--set=storageCapacity.pollInterval=20s", "--set=sidecars.attacher.reconcileSync=15s",
		"--set=inspect.enabled=true", "--set=controller.extraArgs={--count-orphans-every=15s}",
	}, more...)
}

// buildPlugin builds the driver's binary, which has the commands.
func buildPlugin(t *testing.T, source, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "cinder-csi-plugin")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", path, "./cmd/cinder-csi-plugin")
	build.Dir = source
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the plugin: %v\n%s", err, out)
	}
	return path
}

// tell writes a paragraph of the transcript.
func (d *drill) tell(format string, args ...any) { d.text.paragraph(fmt.Sprintf(format, args...)) }

// alerts returns those of a name whose expression holds, whether or not it has done so for as
// long as the alert says, with the wanted labels.
func (d *drill) alerts(ctx context.Context, name string, labels model.LabelSet) (found []prometheus.Alert, err error) {
	answer, err := d.metrics.Alerts(ctx)
	if err != nil {
		return nil, err
	}
	for _, alert := range answer.Alerts {
		matches := string(alert.Labels[model.AlertNameLabel]) == name
		for label, value := range labels {
			matches = matches && alert.Labels[label] == value
		}
		if matches {
			found = append(found, alert)
		}
	}
	return found, nil
}

// fires waits for an alert's expression to hold, and writes what the alert says.
func (d *drill) fires(name string, labels model.LabelSet) {
	d.Helper()
	var found []prometheus.Alert
	d.eventually("alert "+name, func(ctx context.Context) (err error) {
		found, err = d.alerts(ctx, name, labels)
		if err == nil && len(found) == 0 {
			err = d.otherAlerts(ctx)
		}
		return err
	})
	d.text.alert(found[0], d.pause(name))
}

// otherAlerts is the error that an alert doesn't hold, with those that do.
func (d *drill) otherAlerts(ctx context.Context) error {
	answer, err := d.metrics.Alerts(ctx)
	if err != nil {
		return err
	}
	var others []string
	for _, alert := range answer.Alerts {
		others = append(others, fmt.Sprint(alert.Labels))
	}
	return fmt.Errorf("it doesn't hold; there are %s", strings.Join(others, ", "))
}

// pause is for how long an alert has to hold before it fires.
func (d *drill) pause(name string) time.Duration {
	d.Helper()
	rules, err := d.metrics.Rules(d.Context(), nil)
	d.must(err, "reading the rules")
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			if alert, ok := rule.(prometheus.AlertingRule); ok && alert.Name == name {
				return time.Duration(alert.Duration * float64(time.Second))
			}
		}
	}
	d.Fatalf("Prometheus has no rule %s", name)
	return 0
}

// calm waits until an alert's expression holds no more.
func (d *drill) calm(name string, labels model.LabelSet) {
	d.Helper()
	d.eventually("alert "+name+" to end", func(ctx context.Context) error {
		found, err := d.alerts(ctx, name, labels)
		if err == nil && len(found) > 0 {
			err = fmt.Errorf("it holds with %v", found[0].Labels)
		}
		return err
	})
	d.text.paragraph(fmt.Sprintf("%s ends.", name))
}

// looked is the exit status of a command that could look, whatever it found.
const looked = -1

// says runs a command of the plugin on this machine, until it ends with a status and says
// all of the words, and writes what it printed.
func (d *drill) says(status int, words []string, args ...string) {
	d.Helper()
	d.asks("cinder-csi-plugin "+strings.Join(args, " "), status, words, func(ctx context.Context) *exec.Cmd {
		cmd := exec.CommandContext(ctx, d.plugin, args...)
		cmd.Dir = d.dir
		cmd.Env = append(os.Environ(), "KUBECONFIG="+d.cluster.Kubeconfig)
		return cmd
	})
}

// saysOnNode is says for a command inside the pod of the node plugin.
func (d *drill) saysOnNode(node string, status int, words []string, args ...string) {
	d.Helper()
	pods, err := d.kube.CoreV1().Pods(driverNamespace).List(d.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	d.must(err, "looking for the node plugin of %s", node)
	i := slices.IndexFunc(pods.Items, func(p podOf) bool { return strings.HasPrefix(p.Name, nodeName+"-") })
	if i < 0 {
		d.Fatalf("node %s has no plugin", node)
	}
	shown := fmt.Sprintf("kubectl -n %s exec %s -- /bin/cinder-csi-plugin %s", driverNamespace, pods.Items[i].Name, strings.Join(args, " "))
	d.asks(shown, status, words, func(ctx context.Context) *exec.Cmd {
		return exec.CommandContext(ctx, filepath.Join(d.cluster.BinDir, "kubectl"), append([]string{
			"--kubeconfig", d.cluster.Kubeconfig, "--namespace", driverNamespace, "exec", pods.Items[i].Name, "--container", "cinder-csi-plugin", "--", "/bin/cinder-csi-plugin",
		}, args...)...)
	})
}

func (d *drill) asks(shown string, status int, words []string, command func(context.Context) *exec.Cmd) {
	d.Helper()
	var said string
	var ended int
	d.eventually("answer of "+shown, func(ctx context.Context) error {
		cmd := command(ctx)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		if err != nil && !errors.As(err, new(*exec.ExitError)) {
			return err
		}
		said = stdout.String() + stderr.String()
		got := cmd.ProcessState.ExitCode()
		if wanted := status; wanted != looked && got != wanted || got > 1 && wanted == looked {
			return fmt.Errorf("exit status %d, want %d:\n%s", got, wanted, said)
		}
		ended = got
		plain := strings.Join(strings.Fields(said), " ")
		for _, word := range words {
			if !strings.Contains(plain, word) {
				return fmt.Errorf("it doesn't say %q:\n%s", word, said)
			}
		}
		return nil
	})
	d.text.console(shown, said, ended)
}

// cure writes what the documents say is to be done, and does it.
func (d *drill) cure(text string, do func()) {
	d.Helper()
	d.text.paragraph("**Cure.** " + text)
	do()
}
