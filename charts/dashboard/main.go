// Command dashboard prints the chart's Grafana dashboard: make manifests keeps
// charts/cinder-csi/dashboard.json by it.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	built, err := build().Build()
	if err == nil {
		out := json.NewEncoder(os.Stdout)
		out.SetEscapeHTML(false)
		out.SetIndent("", "  ")
		err = out.Encode(built)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// What the series of a panel are selected by: of everything, and of what has a cloud. All
// is .*, which a series without the label has, too.
const (
	here = `cluster=~"$cluster", namespace=~"$namespace"`
	its  = here + `, cloud=~"$cloud"`
)

// builder builds a dashboard of the first form, which every Grafana reads.
type builder = dashboard.DashboardBuilder //nolint:staticcheck // the second form is for Grafana 12 and later

func build() *builder {
	board := dashboard.NewDashboardBuilder("cinder-csi"). //nolint:staticcheck // as builder
								Uid("cinder-csi").
								Description("The CSI driver for OpenStack Cinder: its clouds, its calls, its nodes.").
								Tags([]string{"cinder-csi", "kubernetes", "openstack", "storage"}).
								Time("now-6h", "now").
								Refresh("1m").
								Timezone("browser").
								Tooltip(dashboard.DashboardCursorSyncCrosshair).
								Link(dashboard.NewDashboardLinkBuilder("Alerts explained").
									Type(dashboard.DashboardLinkTypeLink).
									Icon("doc").
									TargetBlank(true).
									Url("https://github.com/cinder-csi/cinder-csi/blob/main/docs/alerts.md")).
								WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus")).
								WithVariable(variable("cluster", "Cluster", `label_values(cinder_csi_build_info, cluster)`)).
								WithVariable(variable("namespace", "Namespace", `label_values(cinder_csi_build_info{cluster=~"$cluster"}, namespace)`)).
								WithVariable(variable("cloud", "Cloud", `label_values(cinder_csi_cloud_up{`+here+`}, cloud)`))
	for _, row := range []func(*builder){health, calls, clouds, operations, nodes, sidecars} {
		row(board)
	}
	return board
}

func variable(name, label, query string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).
		Label(label).
		Datasource(source()).
		Query(dashboard.StringOrMap{String: cog.ToPtr(query)}).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
		Sort(dashboard.VariableSortAlphabeticalAsc).
		Multi(true).
		IncludeAll(true).
		AllValue(".*").
		Current(dashboard.VariableOption{
			Selected: cog.ToPtr(true),
			Text:     dashboard.StringOrArrayOfString{String: cog.ToPtr("All")},
			Value:    dashboard.StringOrArrayOfString{String: cog.ToPtr("$__all")},
		})
}

// source is what the variable datasource is set to.
func source() common.DataSourceRef {
	return common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}
}
