package main

import (
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// query is a query, and what each of its series is called.
type query struct{ expr, legend string }

// expr puts the selectors into an expression.
func (q query) text() string {
	return strings.NewReplacer("HERE", here, "ITS", its).Replace(q.expr)
}

func (q query) ranged(id int) *prometheus.DataqueryBuilder {
	return prometheus.NewDataqueryBuilder().Expr(q.text()).LegendFormat(q.legend).Range().RefId(string(rune('A' + id)))
}

func (q query) instant(id int) *prometheus.DataqueryBuilder {
	return prometheus.NewDataqueryBuilder().Expr(q.text()).LegendFormat(q.legend).Instant().RefId(string(rune('A' + id)))
}

// quantile is a quantile of a histogram, in the last minutes.
func quantile(q, histogram, selectors, by string) string {
	return "histogram_quantile(" + q + ", sum by (" + by + ", le) (rate(" + histogram + "_bucket{" + selectors + "}[$__rate_interval])))"
}

// graph is lines over time.
func graph(title, description, unit string, width uint32, queries ...query) *timeseries.PanelBuilder {
	panel := timeseries.NewPanelBuilder().
		Title(title).
		Description(description).
		Datasource(source()).
		Unit(unit).
		Min(0).
		Span(width).
		Height(8).
		LineWidth(1).
		FillOpacity(10).
		ShowPoints(common.VisibilityModeAuto).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending)).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom))
	for i, q := range queries {
		panel.WithTarget(q.ranged(i))
	}
	return panel
}

// latency is a graph of times that calls took.
func latency(title, description string, q query) *timeseries.PanelBuilder {
	return named(graph(title, description, "s", 8, q).FillOpacity(0).NoValue("none in this time"), kinds()...)
}

// stacked is a graph whose lines lie on each other, since their sum means something.
func stacked(panel *timeseries.PanelBuilder) *timeseries.PanelBuilder {
	return panel.Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal)).FillOpacity(40)
}

// bars is a graph of what happens seldom: how often in each minute, or longer.
func bars(panel *timeseries.PanelBuilder) *timeseries.PanelBuilder {
	return stacked(panel).DrawStyle(common.GraphDrawStyleBars).FillOpacity(80).Interval("1m").NoValue("none in this time")
}

// named gives series a colour by what they mean.
func named(panel *timeseries.PanelBuilder, colours ...[2]string) *timeseries.PanelBuilder {
	for _, c := range colours {
		panel.OverrideByRegexp(c[0], []dashboard.DynamicConfigValue{{
			Id: "color", Value: map[string]any{"mode": "fixed", "fixedColor": c[1]},
		}})
	}
	return panel
}

// step is a value from which on a number has a colour.
type step struct {
	from   float64
	colour string
}

// thresholds are a colour, and others from a value on.
func thresholds(first string, steps ...step) *dashboard.ThresholdsConfigBuilder {
	all := []dashboard.Threshold{{Color: first}}
	for _, s := range steps {
		all = append(all, dashboard.Threshold{Value: cog.ToPtr(s.from), Color: s.colour})
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(all)
}

// number is the last value, large.
func number(title, description, unit string, width uint32, limits *dashboard.ThresholdsConfigBuilder, queries ...query) *stat.PanelBuilder {
	panel := stat.NewPanelBuilder().
		Title(title).
		Description(description).
		Datasource(source()).
		Unit(unit).
		Span(width).
		Height(4).
		Thresholds(limits).
		ColorMode(common.BigValueColorModeBackground).
		GraphMode(common.BigValueGraphModeNone).
		ReduceOptions(lastValue())
	for i, q := range queries {
		panel.WithTarget(q.instant(i))
	}
	return panel
}

// worded is a number that words stand for.
func worded(panel *stat.PanelBuilder, words map[string][2]string) *stat.PanelBuilder {
	options := map[string]dashboard.ValueMappingResult{}
	for value, word := range words {
		options[value] = dashboard.ValueMappingResult{Text: cog.ToPtr(word[0]), Color: cog.ToPtr(word[1])}
	}
	return panel.Mappings([]dashboard.ValueMapping{{ValueMap: &dashboard.ValueMap{Type: dashboard.MappingTypeValueToText, Options: options}}})
}

func lastValue() *common.ReduceDataOptionsBuilder {
	return common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})
}

// shares are parts of a whole, each as a bar.
func shares(title, description string, width uint32, limits *dashboard.ThresholdsConfigBuilder, q query) *bargauge.PanelBuilder {
	return bargauge.NewPanelBuilder().
		Title(title).
		Description(description).
		Datasource(source()).
		Unit("percentunit").
		Min(0).
		Max(1).
		Decimals(0).
		Span(width).
		Height(8).
		Thresholds(limits).
		Orientation(common.VizOrientationHorizontal).
		DisplayMode(common.BarGaugeDisplayModeBasic).
		ReduceOptions(lastValue()).
		WithTarget(q.instant(0))
}

// column is a label of a list, or its value, and what the column is called.
type column struct{ label, title string }

// list is a table with a row for each series.
func list(title, description, unit string, width uint32, q query, columns ...column) *table.PanelBuilder {
	names, order, shown := map[string]any{}, map[string]any{}, map[string]any{}
	var include []string
	for i, c := range columns {
		names[c.label], order[c.label], shown[c.label] = c.title, i, true
		include = append(include, c.label)
	}
	panel := table.NewPanelBuilder().
		Title(title).
		Description(description).
		Datasource(source()).
		Span(width).
		Height(8).
		NoValue("none").
		WithTarget(q.instant(0).Format(prometheus.PromQueryFormatTable)).
		WithTransformation(dashboard.DataTransformerConfig{Id: "filterFieldsByName", Options: map[string]any{"include": map[string]any{"names": include}}}).
		WithTransformation(dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{"indexByName": order, "renameByName": names}})
	for _, c := range columns {
		if c.label == "Value" {
			panel.OverrideByName(c.title, []dashboard.DynamicConfigValue{{Id: "unit", Value: unit}})
		}
	}
	return panel
}
