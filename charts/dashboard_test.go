package charts

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// grafanaPanel is as much of a panel as is checked.
type grafanaPanel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	GridPos     struct{ H, W, X, Y int }
	Targets     []struct{ Expr, RefID string }
	Datasource  struct{ Type, UID string }
}

type grafanaDashboard struct {
	UID        string
	Panels     []grafanaPanel
	Templating struct {
		List []struct{ Name, Query string }
	}
}

func readDashboard(t *testing.T) grafanaDashboard {
	t.Helper()
	var board grafanaDashboard
	if err := json.Unmarshal(document(t, filepath.Join(chart, "dashboard.json")), &board); err != nil {
		t.Fatal(err)
	}
	return board
}

func TestTheDashboardIsCurrent(t *testing.T) {
	golden(t, filepath.Join(chart, "dashboard.json"), goCommand(t, "dashboard", "run", ".")+"\n")
}

// TestTheDashboardIsWhole: panels have a title, an explanation and a data source, none
// lies on another, and their queries are Prometheus'.
func TestTheDashboardIsWhole(t *testing.T) {
	board := readDashboard(t)
	taken := map[[2]int]string{}
	queries := objects{}
	for _, panel := range board.Panels {
		for x := panel.GridPos.X; x < panel.GridPos.X+panel.GridPos.W; x++ {
			for y := panel.GridPos.Y; y < panel.GridPos.Y+panel.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%q lies on %q, or beside the page", panel.Title, other)
				}
				taken[[2]int{x, y}] = panel.Title
			}
		}
		if panel.Type == "row" {
			continue
		}
		if panel.Title == "" || panel.Description == "" || panel.Datasource.UID != "${datasource}" || len(panel.Targets) == 0 {
			t.Errorf("%q: %+v", panel.Title, panel)
		}
		for _, target := range panel.Targets {
			expr := strings.NewReplacer("$__rate_interval", "5m", "$cluster", ".*", "$namespace", ".*", "$cloud", ".*").Replace(target.Expr)
			queries = append(queries, object{"record": "checked", "expr": expr})
		}
	}
	if len(board.Panels) < 40 || len(board.Templating.List) != 4 {
		t.Errorf("%d panels, %d variables", len(board.Panels), len(board.Templating.List))
	}
	rules := filepath.Join(t.TempDir(), "queries.yaml")
	writeRules(t, rules, queries)
	promtool(t, "check", "rules", "--lint=none", rules)
}

// TestTheDashboardIsForGrafanasSidecar: a ConfigMap that it finds by its label, with the
// dashboard as it is.
func TestTheDashboardIsForGrafanasSidecar(t *testing.T) {
	found := render(t, "", withValues(t, "metrics: {dashboard: {enabled: true, namespace: monitoring, annotations: {grafana_folder: Storage}}}")...).only(t, "ConfigMap")
	if found.text("metadata", "labels", "grafana_dashboard") != "1" || found.text("metadata", "annotations", "grafana_folder") != "Storage" || found.text("metadata", "namespace") != "monitoring" {
		t.Errorf("%v", found.object("metadata"))
	}
	if text := found.text("data", "cinder-csi.json"); text != strings.TrimSuffix(string(document(t, filepath.Join(chart, "dashboard.json"))), "\n") {
		t.Error("the dashboard of the ConfigMap is another one")
	}
}

// TestAlertAndDashboardCountTheSameFailures holds both to one list of codes.
func TestAlertAndDashboardCountTheSameFailures(t *testing.T) {
	_, codes, _ := strings.Cut(alerts(t).one(t, "CinderOperationsFailing", "alert").text("expr"), `grpc_code=~"`)
	codes, _, _ = strings.Cut(codes, `"`)
	for _, panel := range readDashboard(t).Panels {
		if panel.Title == "Calls failing" && strings.Contains(panel.Targets[0].Expr, `grpc_code=~"`+codes+`"`) && codes != "" {
			return
		}
	}
	t.Errorf("the panel \"Calls failing\" doesn't count %s", codes)
}
