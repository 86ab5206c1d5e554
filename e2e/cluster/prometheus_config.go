package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// podMonitor is as much of a PodMonitor as the chart uses.
type podMonitor struct {
	Metadata struct{ Name, Namespace string }
	Spec     struct {
		Selector  struct{ MatchLabels map[string]string }
		Endpoints []struct {
			Port, Path, Interval, ScrapeTimeout string

			Relabelings       []map[string]any
			MetricRelabelings []map[string]any
		} `json:"podMetricsEndpoints"`
	}
}

// configurePrometheus writes Prometheus' configuration: what the operator of that name
// makes of the PodMonitors and PrometheusRules of the cluster.
func (c *Cluster) configurePrometheus(ctx context.Context) error {
	p := c.paths()
	if err := os.MkdirAll(p.run("prometheus"), 0o755); err != nil { // #nosec G301 -- everyone may read it
		return err
	}
	var rules struct {
		Items []struct {
			Spec struct {
				Groups []any `json:"groups"`
			} `json:"spec"`
		} `json:"items"`
	}
	var monitors struct{ Items []podMonitor }
	if err := errors.Join(c.list(ctx, "prometheusrules", &rules), c.list(ctx, "podmonitors", &monitors)); err != nil {
		return err
	}
	groups := []any{}
	for _, rule := range rules.Items {
		groups = append(groups, rule.Spec.Groups...)
	}
	scraped := []any{}
	for _, monitor := range monitors.Items {
		scraped = append(scraped, monitor.scrapeConfigs(p.targetsFile())...)
	}
	return errors.Join(
		writeYAML(p.run("prometheus", "rules.yml"), map[string]any{"groups": groups}),
		writeYAML(p.run("prometheus", "prometheus.yml"), map[string]any{
			// More often than a real one, so that tests wait less.
			"global":         map[string]any{"scrape_interval": "5s", "scrape_timeout": "5s", "evaluation_interval": "5s"},
			"rule_files":     []string{"rules.yml"},
			"scrape_configs": scraped,
		}),
	)
}

// list reads all objects of a kind.
func (c *Cluster) list(ctx context.Context, kind string, into any) error {
	out, err := c.Kubectl(ctx, "get", kind, "--all-namespaces", "--output=json")
	if err != nil {
		return err
	}
	return json.Unmarshal(out, into)
}

func writeYAML(path string, content any) error {
	text, err := yaml.Marshal(content)
	if err != nil {
		return err
	}
	return writeFile(path, text, 0o644)
}

// scrapeConfigs are those of a PodMonitor: one for each of its endpoints, with the
// labels that the operator gives.
func (m *podMonitor) scrapeConfigs(targets string) []any {
	pods := []any{
		relabel("drop", "__meta_kubernetes_pod_phase", "Failed|Succeeded"),
		relabel("keep", "__meta_kubernetes_namespace", regexp.QuoteMeta(m.Metadata.Namespace)),
	}
	for label, value := range m.Spec.Selector.MatchLabels {
		pods = append(pods, relabel("keep", "__meta_kubernetes_pod_label_"+notInLabels.ReplaceAllString(label, "_"), regexp.QuoteMeta(value)))
	}
	var all []any
	for i, endpoint := range m.Spec.Endpoints {
		labels := append(append([]any{}, pods...), relabel("keep", "__meta_kubernetes_pod_container_port_name", endpoint.Port))
		for _, label := range [][2]string{{"namespace", "namespace"}, {"pod_container_name", "container"}, {"pod_name", "pod"}} {
			labels = append(labels, map[string]any{"source_labels": []string{"__meta_kubernetes_" + label[0]}, "target_label": label[1]})
		}
		labels = append(labels,
			map[string]any{"target_label": "job", "replacement": m.Metadata.Namespace + "/" + m.Metadata.Name},
			map[string]any{"target_label": "endpoint", "replacement": endpoint.Port})
		config := map[string]any{
			"job_name":               fmt.Sprintf("podMonitor/%s/%s/%d", m.Metadata.Namespace, m.Metadata.Name, i),
			"metrics_path":           endpoint.Path,
			"relabel_configs":        append(labels, snakeCase(endpoint.Relabelings)...),
			"metric_relabel_configs": snakeCase(endpoint.MetricRelabelings),
			"file_sd_configs":        []any{map[string]any{"files": []string{targets}}},
		}
		for key, value := range map[string]string{"scrape_interval": endpoint.Interval, "scrape_timeout": endpoint.ScrapeTimeout} {
			if value != "" {
				config[key] = value
			}
		}
		all = append(all, config)
	}
	return all
}

func relabel(action, label, regex string) map[string]any {
	return map[string]any{"action": action, "source_labels": []string{label}, "regex": regex}
}

var (
	notInLabels = regexp.MustCompile(`[^a-zA-Z0-9_]`)
	capital     = regexp.MustCompile(`[A-Z]`)
)

// snakeCase gives the keys of relabelings the words that they have in Prometheus' own
// configuration: sourceLabels is source_labels.
func snakeCase(relabelings []map[string]any) []any {
	all := []any{}
	for _, relabeling := range relabelings {
		own := map[string]any{}
		for key, value := range relabeling {
			own[capital.ReplaceAllStringFunc(key, func(letter string) string { return "_" + strings.ToLower(letter) })] = value
		}
		all = append(all, own)
	}
	return all
}
