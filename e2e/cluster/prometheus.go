package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/api"
	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

// prometheusOperator is the module with the definitions of PodMonitors and
// PrometheusRules; charts/kubeconform_test.go holds the chart to the same version.
const prometheusOperator = "github.com/prometheus-operator/prometheus-operator@v0.85.0"

// PrometheusURL is where Prometheus answers, and shows its own page.
const PrometheusURL = "http://" + hostIP + ":9090"

func (p Paths) prometheus(program string) process {
	return process{group: []string{hostGroup, "prometheus"}, log: p.log("prometheus"), args: []string{
		program, "--config.file=" + p.run("prometheus", "prometheus.yml"), "--storage.tsdb.path=" + p.run("prometheus", "data"),
		"--web.listen-address=" + hostIP + ":9090", "--web.enable-lifecycle",
	}}
}

// Prometheus returns the API of a Prometheus that scrapes the driver and evaluates the
// alerts of its chart, and starts it before if it isn't running: Debian's, as a process
// of the machine. The driver is installed, or upgraded, with metrics.podMonitor and
// metrics.prometheusRule, and further arguments for Helm, as Install takes them. What
// Prometheus does is what the API server has then of these objects, as the Prometheus
// operator would configure it. Prometheus returns when each pod has been scraped.
func (c *Cluster) Prometheus(ctx context.Context, extraHelmArgs ...string) (prometheus.API, error) {
	if err := c.defineMonitors(ctx); err != nil {
		return nil, fmt.Errorf("define the objects of the Prometheus operator: %w", err)
	}
	values := []string{"--set=metrics.podMonitor.enabled=true", "--set=metrics.prometheusRule.enabled=true"}
	if err := c.Install(ctx, append(values, extraHelmArgs...)...); err != nil {
		return nil, err
	}
	if err := c.configurePrometheus(ctx); err != nil {
		return nil, fmt.Errorf("configure Prometheus: %w", err)
	}
	client, err := api.NewClient(api.Config{Address: PrometheusURL})
	if err != nil {
		return nil, err
	}
	answers := prometheus.NewAPI(client)
	if err := c.startPrometheus(ctx, answers); err != nil {
		return nil, err
	}
	return answers, nil
}

// defineMonitors tells the API server of the kinds of the Prometheus operator.
func (c *Cluster) defineMonitors(ctx context.Context) error {
	find := command(ctx, "go", "mod", "download", "-json", prometheusOperator)
	find.Dir = filepath.Join(c.Source, "charts", "tools")
	out, err := output(find)
	if err != nil {
		return err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return err
	}
	for _, kind := range []string{"podmonitors", "prometheusrules"} {
		file := "--filename=" + filepath.Join(module.Dir, "example", "prometheus-operator-crd", "monitoring.coreos.com_"+kind+".yaml")
		if _, err := c.Kubectl(ctx, "apply", "--server-side", "--force-conflicts", file); err != nil {
			return err
		}
		if _, err := c.Kubectl(ctx, "wait", "--for=condition=Established", "--timeout=60s", file); err != nil {
			return err
		}
	}
	return nil
}

// startPrometheus starts Prometheus, or has it read its configuration again, and
// returns when it has scraped all of its targets.
func (c *Cluster) startPrometheus(ctx context.Context, answers prometheus.API) error {
	p := c.paths()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		return fmt.Errorf("prometheus is missing: install Debian's package of that name: %w", err)
	}
	g, err := p.groups()
	if err != nil {
		return err
	}
	if err := g.ensure(ctx, p.targets(), componentPatience, func(context.Context) error {
		_, err := os.Stat(p.targetsFile())
		return err
	}); err != nil {
		return err
	}
	if err := g.ensure(ctx, p.prometheus(program), componentPatience, httpOK(PrometheusURL+"/-/ready")); err != nil {
		return err
	}
	if err := reloadPrometheus(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, componentPatience, errors.New("Prometheus didn't scrape every pod in time"))
	defer cancel()
	return poll(ctx, time.Second, func(ctx context.Context) error {
		found, err := answers.Targets(ctx)
		if err != nil {
			return err
		}
		if len(found.Active) <= len(c.Nodes) { // a controller is more than a pod of each node
			return fmt.Errorf("there are %d targets", len(found.Active))
		}
		for _, target := range found.Active {
			if target.Health != prometheus.HealthGood {
				return fmt.Errorf("%s is %s: %s", target.ScrapeURL, target.Health, target.LastError)
			}
		}
		return nil
	})
}

func reloadPrometheus(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, PrometheusURL+"/-/reload", http.NoBody)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		var text bytes.Buffer
		_, _ = text.ReadFrom(answer.Body)
		return fmt.Errorf("Prometheus doesn't take its configuration: %s", text.String())
	}
	return nil
}

// Firing returns the labels of the alerts of that name that fire.
func Firing(ctx context.Context, answers prometheus.API, name string) ([]model.LabelSet, error) {
	found, err := answers.Alerts(ctx)
	if err != nil {
		return nil, err
	}
	var firing []model.LabelSet
	for _, alert := range found.Alerts {
		if alert.State == prometheus.AlertStateFiring && string(alert.Labels[model.AlertNameLabel]) == name {
			firing = append(firing, alert.Labels)
		}
	}
	return firing, nil
}
