package charts

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// selector finds a metric with what selects its series.
var selector = regexp.MustCompile(`([a-z_][a-z0-9_]*)\{([^}]*)\}`)

// matcher finds a label that is selected by, grouping the labels that are kept or dropped.
var (
	matcher  = regexp.MustCompile(`([a-z_]+) *(?:=~|!~|!=|=) *"`)
	grouping = regexp.MustCompile(`\b(?:by|without|on) \(([^)]*)\)`)
)

// metricsOfCode are the labels of each metric, by the page that is made from the code.
func metricsOfCode(t *testing.T) map[string][]string {
	t.Helper()
	metrics := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (\\w+) \\| ([a-z_, ]*)\\|").FindAllStringSubmatch(string(document(t, "../docs/metrics.md")), -1) {
		labels := strings.FieldsFunc(row[3], func(r rune) bool { return r == ',' || r == ' ' })
		metrics[row[1]] = labels
		if row[2] == "histogram" {
			metrics[row[1]+"_bucket"], metrics[row[1]+"_count"], metrics[row[1]+"_sum"] = append(labels, "le"), labels, labels
		}
	}
	if len(metrics) < 30 {
		t.Fatalf("docs/metrics.md has only %d metrics", len(metrics))
	}
	return metrics
}

// TestTheMetricsOfAlertsAndDashboardExist: what they name is what the code declares, labels
// included, and so are the series of the alerts' tests.
func TestTheMetricsOfAlertsAndDashboardExist(t *testing.T) {
	metrics := metricsOfCode(t)
	// Labels of Prometheus' targets, and those that a query makes for itself.
	others := []string{"cluster", "namespace", "pod", "node", "instance", "container", "what", "method"}
	// The side containers' metrics, of csi-lib-utils, and Prometheus' own.
	metrics["csi_sidecar_operations_seconds_bucket"] = []string{"driver_name", "method_name", "grpc_status_code", "le"}
	metrics["csi_sidecar_operations_seconds_count"] = metrics["csi_sidecar_operations_seconds_bucket"]
	metrics["ALERTS"] = []string{"alertname", "alertstate"}

	named := map[string]bool{}
	check := func(where, expr string) {
		t.Helper()
		known := slices.Clone(others)
		for _, found := range selector.FindAllStringSubmatch(expr, -1) {
			labels, declared := metrics[found[1]]
			if !declared {
				t.Errorf("%s: the code has no metric %s", where, found[1])
			}
			named[found[1]] = true
			known = append(known, labels...)
			for _, label := range matcher.FindAllStringSubmatch(found[2], -1) {
				if !slices.Contains(labels, label[1]) && !slices.Contains(others, label[1]) {
					t.Errorf("%s: %s has no label %s", where, found[1], label[1])
				}
			}
		}
		for _, group := range grouping.FindAllStringSubmatch(expr, -1) {
			for label := range strings.FieldsFuncSeq(group[1], func(r rune) bool { return r == ',' || r == ' ' }) {
				if !slices.Contains(known, label) {
					t.Errorf("%s: nothing has the label %s", where, label)
				}
			}
		}
	}
	for _, rule := range alerts(t) {
		check(rule.text("alert"), rule.text("expr"))
	}
	for _, panel := range readDashboard(t).Panels {
		for _, target := range panel.Targets {
			check(panel.Title, target.Expr)
		}
	}
	for _, file := range alertTests(t) {
		for _, test := range parseFile(t, file).list("tests") {
			for _, series := range test.list("input_series") {
				check(file, series.text("series"))
			}
		}
	}
	for name := range metrics {
		base := strings.TrimSuffix(name, "_bucket")
		if strings.HasPrefix(name, "cinder_csi_") && metrics[base] != nil && !named[name] && !named[base] && !named[base+"_bucket"] && !named[base+"_count"] &&
			!strings.HasSuffix(name, "_sum") && !strings.HasSuffix(name, "_count") {
			t.Errorf("neither an alert nor the dashboard shows %s", name)
		}
	}
}
