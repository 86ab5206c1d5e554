package charts

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"
)

// withAlerts has the PrometheusRule made.
const withAlerts = "--set=metrics.prometheusRule.enabled=true"

// alerts returns the rules of the chart, in their order.
func alerts(t *testing.T, settings ...string) objects {
	t.Helper()
	groups := render(t, "", append(settings, withAlerts)...).only(t, "PrometheusRule").list("spec", "groups")
	if len(groups) != 1 {
		t.Fatalf("%d groups of rules", len(groups))
	}
	return groups[0].list("rules")
}

// alertNames are the names of the alerts, each once.
func alertNames(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, rule := range alerts(t) {
		names = append(names, rule.text("alert"))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// promtool runs Prometheus' own check.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatalf("promtool is missing, it is in Debian's package prometheus (make prerequisites): %v", err)
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// writeRules writes rules as Prometheus reads them.
func writeRules(t *testing.T, path string, rules objects) {
	t.Helper()
	text, err := yaml.Marshal(object{"groups": []any{object{"name": "cinder-csi", "rules": rules}}})
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestTheAlertsFireWhenTheyMust runs the unit tests of the alerts, testdata/alerts. These
// tell the summary of an alert as it has to be; the descriptions are checked as templates.
func TestTheAlertsFireWhenTheyMust(t *testing.T) {
	dir := t.TempDir()
	rules := alerts(t)
	writeRules(t, filepath.Join(dir, "whole.yaml"), rules)
	promtool(t, "check", "rules", filepath.Join(dir, "whole.yaml"))
	for _, rule := range rules {
		rule["annotations"] = object{"summary": rule.text("annotations", "summary")}
	}
	if err := os.CopyFS(dir, os.DirFS("testdata/alerts")); err != nil {
		t.Fatal(err)
	}
	writeRules(t, filepath.Join(dir, "rules.yaml"), rules)
	for _, file := range alertTests(t) {
		promtool(t, "test", "rules", filepath.Join(dir, filepath.Base(file)))
	}
}

func alertTests(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/alerts/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files of tests, %v", len(files), err)
	}
	return files
}

// TestEachAlertIsTested wants each alert quiet first, then firing, then quiet again.
func TestEachAlertIsTested(t *testing.T) {
	course := map[string]string{}
	for _, file := range alertTests(t) {
		for _, test := range parseFile(t, file).list("tests") {
			for _, moment := range test.list("alert_rule_test") {
				step := "quiet "
				if len(moment.list("exp_alerts")) > 0 {
					step = "fires "
				}
				course[moment.text("alertname")] += step
			}
		}
	}
	whole := regexp.MustCompile(`^(quiet )+(fires )+(quiet )+$`)
	for _, name := range alertNames(t) {
		if !whole.MatchString(course[name]) {
			t.Errorf("%s: the tests want %q, instead of quiet, fires, quiet", name, course[name])
		}
		delete(course, name)
	}
	for name := range course {
		t.Errorf("there is no alert %s, which is tested", name)
	}
}

// TestEachAlertIsExplained: runbook_url leads to a section of docs/alerts.md, and no
// section is about an alert that there isn't.
func TestEachAlertIsExplained(t *testing.T) {
	names := alertNames(t)
	var explained []string
	for _, heading := range regexp.MustCompile(`(?m)^## (Cinder\w+)$`).FindAllStringSubmatch(string(document(t, "../docs/alerts.md")), -1) {
		explained = append(explained, heading[1])
	}
	slices.Sort(explained)
	if !slices.Equal(names, explained) {
		t.Errorf("docs/alerts.md explains %q, the chart has %q", explained, names)
	}
	for _, rule := range alerts(t) {
		if url := rule.text("annotations", "runbook_url"); !strings.HasSuffix(url, "/docs/alerts.md#"+strings.ToLower(rule.text("alert"))) {
			t.Errorf("%s: the runbook is %s", rule.text("alert"), url)
		}
	}
}

func TestAlertsOfARoleThatIsElsewhereAreLeftOut(t *testing.T) {
	names := func(settings ...string) (names []string) {
		for _, rule := range alerts(t, settings...) {
			names = append(names, rule.text("alert"))
		}
		return names
	}
	for _, elsewhere := range []string{"--set=controller.enabled=false", "--set=controller.replicas=0"} {
		if got := names(elsewhere); slices.Contains(got, "CinderCSIControllerDown") || !slices.Contains(got, "CinderNodeRefusesDisk") || !slices.Contains(got, "CinderOperationsFailing") {
			t.Errorf("nodes only: %q", got)
		}
	}
	if got := names("--set=node.enabled=false"); !slices.Contains(got, "CinderCSIControllerDown") || slices.Contains(got, "CinderNodeRefusesDisk") || !slices.Contains(got, "CinderOperationsFailing") {
		t.Errorf("a controller only: %q", got)
	}
}

// TestAlertsAreWhatOperatorsMakeOfThem: thresholds, severities, pauses, labels, matchers.
func TestAlertsAreWhatOperatorsMakeOfThem(t *testing.T) {
	rules := alerts(t, withValues(t, `
metrics:
  prometheusRule:
    matchers: cluster="a", job=~"storage/.*"
    alertLabels: {team: storage}
    runbookURL: https://wiki.example.org/alerts
    alerts:
      CinderQuotaNearlyUsed: {threshold: 0.75, for: 1h, severity: info, labels: {team: cloud}}
      CinderCredentialExpiring: {threshold: 30, critical: 7}
      CinderOrphans: {enabled: false}
      CinderNodeNearlyFull: {threshold: 0}
`)...)
	var names []string
	for _, rule := range rules {
		name, expr := rule.text("alert"), rule.text("expr")
		names = append(names, name)
		if strings.Contains(expr, "MATCHERS") || strings.Contains(expr, "THRESHOLD") || strings.Contains(expr, "namespace=") || !strings.Contains(expr, `{cluster="a", job=~"storage/.*"`) {
			t.Errorf("%s: %s", name, expr)
		}
		team, suffix := "storage", ""
		switch name + rule.text("labels", "severity") {
		case "CinderQuotaNearlyUsedinfo":
			team, suffix = "cloud", "> 0.75"
			if rule.text("for") != "1h" {
				t.Errorf("%s: for %s", name, rule.text("for"))
			}
		case "CinderCredentialExpiringwarning":
			suffix = "< 30"
		case "CinderCredentialExpiringcritical":
			suffix = "< 7"
		case "CinderNodeNearlyFullinfo":
			suffix = "> 0"
		}
		if rule.text("labels", "team") != team || !strings.HasSuffix(expr, suffix) {
			t.Errorf("%s: %v, %s", name, rule.object("labels"), expr)
		}
		if url := rule.text("annotations", "runbook_url"); url != "https://wiki.example.org/alerts#"+strings.ToLower(name) {
			t.Errorf("%s: %s", name, url)
		}
	}
	if slices.Contains(names, "CinderOrphans") || len(names) < 15 {
		t.Errorf("%q", names)
	}
	// Each role's series are in its namespace. With one, absent() has the label, too.
	for name, series := range map[string]string{
		"CinderCSIControllerDown": `{namespace="kube-system"`, "CinderNodeRefusesDisk": `{namespace="nodes"`, "CinderOperationsFailing": `{namespace=~"kube-system|nodes"`,
	} {
		if expr := alerts(t, "--set=node.namespaceOverride=nodes").one(t, name, "alert").text("expr"); !strings.Contains(expr, series) {
			t.Errorf("%s: %s", name, expr)
		}
	}
	for _, rule := range alerts(t) {
		if !strings.Contains(rule.text("expr"), `{namespace="kube-system"`) {
			t.Errorf("%s: %s", rule.text("alert"), rule.text("expr"))
		}
	}
	// A severity that is critical already keeps the earlier of two thresholds.
	of := func(settings string) (levels []string) {
		for _, rule := range alerts(t, "--set=metrics.prometheusRule.alerts.CinderCredentialExpiring."+settings) {
			if rule.text("alert") == "CinderCredentialExpiring" {
				_, threshold, _ := strings.Cut(rule.text("expr"), "86400 ")
				levels = append(levels, rule.text("labels", "severity")+" "+threshold)
			}
		}
		return levels
	}
	for settings, want := range map[string][]string{
		"severity=critical": {"critical < 14"},
		"severity=page":     {"critical < 2", "page < 14"},
		"critical=0":        {"critical < 0", "warning < 14"},
	} {
		if got := of(settings); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", settings, got, want)
		}
	}
	refused(t, []string{"CinderOrphan;", "CinderOrphans"}, withAlerts, "--set=metrics.prometheusRule.alerts.CinderOrphan.enabled=false")
	refused(t, []string{"CinderCloudUnreachable", "threshold"}, withAlerts, "--set=metrics.prometheusRule.alerts.CinderCloudUnreachable.threshold=1")
	refused(t, []string{"CinderOrphans", "critical"}, withAlerts, "--set=metrics.prometheusRule.alerts.CinderOrphans.critical=1")
	refused(t, []string{"CinderOrphans", "expr"}, withAlerts, "--set=metrics.prometheusRule.alerts.CinderOrphans.expr=up")
}
