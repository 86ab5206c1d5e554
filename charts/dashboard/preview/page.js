// The page that preview.mjs has a picture taken of: a row of panels, each as Grafana's of its
// type would look. Units, colours, thresholds and mappings are Grafana's own, by @grafana/data.
import { classicColors, createTheme, formattedValueToString, getActiveThreshold, getValueFormat } from '@grafana/data';
import uPlot from 'uplot';
import plotStyle from 'uplot/dist/uPlot.min.css';

const theme = createTheme({ colors: { mode: 'dark' } });
const colour = (name) => theme.visualization.getColorByName(name);
const { row, from, to, width, first } = window.model;
const CELL = 38; // a grid unit is 30 pixels and 8 between panels

const style = document.createElement('style');
style.textContent = `${plotStyle}
  body { margin: 0; background: #111217; color: #ccccdc; font: 12px Inter, "DejaVu Sans", sans-serif; }
  h1 { font-size: 16px; font-weight: 500; margin: 12px 14px 10px; height: 20px; }
  .panel { position: absolute; background: #181b1f; border: 1px solid #25272c; border-radius: 2px; box-sizing: border-box; overflow: hidden; }
  .panel h2 { font-size: 14px; font-weight: 500; margin: 7px 9px 4px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
  .legend { padding: 2px 9px; line-height: 17px; max-height: 52px; overflow: hidden; }
  .legend span { display: inline-block; margin-right: 12px; white-space: nowrap; }
  .legend i { display: inline-block; width: 14px; height: 4px; border-radius: 2px; margin-right: 5px; vertical-align: middle; }
  .empty { text-align: center; color: #7b8087; padding-top: 12%; font-size: 14px; }
  .stats { display: flex; gap: 4px; position: absolute; inset: 32px 6px 6px; }
  .stat { flex: 1; display: flex; flex-direction: column; align-items: center; justify-content: center; border-radius: 2px; font-weight: 500; }
  .stat small { font-size: 13px; }
  .bar { display: flex; align-items: center; margin: 5px 9px; }
  .bar label { width: 36%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .bar div { flex: 1; background: #22252b; height: 18px; }
  .bar div div { height: 100%; }
  .bar b { width: 56px; text-align: right; font-weight: 500; }
  table { border-collapse: collapse; width: 100%; }
  th, td { text-align: left; padding: 6px 9px; border-bottom: 1px solid #25272c; white-space: nowrap; }
  th { color: #6e9fff; font-weight: 500; }
`;
document.head.append(style);

function element(name, text = '', className = '') {
  const e = document.createElement(name);
  e.textContent = text;
  e.className = className;
  return e;
}

const shown = (value, { unit, decimals }) => formattedValueToString(getValueFormat(unit ?? 'none')(value, decimals));
const nameOf = (labels, format) => (format ?? '').replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? '').trim() || 'Value';

// byThreshold is the colour of a value; the thresholds' first step has no value.
function byThreshold(value, { thresholds }) {
  const steps = thresholds.steps.map((s) => ({ ...s, value: s.value ?? -Infinity }));
  return colour(getActiveThreshold(value, steps).color);
}

const clock = (time) => new Date(time * 1000).toISOString().slice(11, 16);

const draw = {
  timeseries(panel, body, w, h) {
    const { defaults, overrides } = panel.fieldConfig;
    const custom = defaults.custom;
    const count = Math.floor((to - from) / panel.step) + 1;
    const times = Array.from({ length: count }, (_, i) => from + i * panel.step);
    const series = panel.results.flatMap((result, i) => result.map(({ metric, values }) => {
      const points = new Array(count).fill(null);
      for (const [time, value] of values) {
        if (Number.isFinite(Number(value))) points[Math.round((time - from) / panel.step)] = Number(value);
      }
      return { name: nameOf(metric, panel.targets[i].legendFormat), points };
    })).filter((s) => s.points.some((p) => p !== null));
    if (!series.length) return body.append(element('div', defaults.noValue ?? 'No data', 'empty'));
    series.sort((a, b) => a.name.localeCompare(b.name));
    series.forEach((s, i) => {
      s.colour = colour(classicColors[i % classicColors.length]);
      for (const o of overrides ?? []) {
        if (o.matcher.id === 'byRegexp' && new RegExp(`^${o.matcher.options}$`).test(s.name)) {
          for (const p of o.properties) if (p.id === 'color') s.colour = colour(p.value.fixedColor);
        }
      }
    });
    const stacked = custom.stacking?.mode === 'normal';
    const lines = series.map((s) => s.points);
    if (stacked) {
      const sums = new Array(count).fill(0);
      series.forEach((s, i) => { lines[i] = s.points.map((p, t) => (p === null ? (custom.drawStyle === 'bars' ? null : sums[t]) : (sums[t] += p))); });
    }
    const alpha = Math.round((custom.fillOpacity ?? 0) * 2.55).toString(16).padStart(2, '0');
    const asHex = (c) => (c.length === 4 ? c.replace(/[^#]/g, '$&$&') : c);
    // What is stacked is drawn from the top down, so that each covers what is above it.
    const order = stacked ? [...series.keys()].reverse() : [...series.keys()];
    const plain = custom.drawStyle !== 'bars';
    const format = (v) => shown(v, { unit: defaults.unit, decimals: defaults.decimals });
    const legend = element('div', '', 'legend');
    for (const s of series) {
      const entry = element('span');
      const mark = element('i');
      mark.style.background = s.colour;
      entry.append(mark, s.name);
      legend.append(entry);
    }
    body.append(legend);
    const plot = element('div');
    body.prepend(plot);
    new uPlot({
      width: w, height: h - legend.offsetHeight - 4, legend: { show: false }, cursor: { show: false },
      scales: { x: { time: true, min: from, max: to }, y: { range: (_, min, max) => [0, max > 0 ? max * 1.08 : 1] } },
      axes: [
        { stroke: '#ccccdc', grid: { stroke: '#25272c', width: 1 }, ticks: { show: false }, size: 30, values: (_, ticks) => ticks.map(clock) },
        { stroke: '#ccccdc', grid: { stroke: '#25272c', width: 1 }, ticks: { show: false }, size: 80, values: (_, ticks) => ticks.map(format), incrs: defaults.unit === 'bytes' ? [1, 2, 4, 8, 16, 32, 64, 128, 256].map((n) => n * 2 ** 20) : undefined },
      ],
      series: [{}, ...order.map((i) => ({
        stroke: series[i].colour, width: custom.lineWidth ?? 1,
        fill: stacked ? mix(asHex(series[i].colour), (custom.fillOpacity ?? 0) / 100) : asHex(series[i].colour) + alpha,
        paths: plain ? undefined : uPlot.paths.bars({ size: [0.9, 40], align: 0 }), points: { show: plain && !stacked, size: 3 },
        spanGaps: custom.spanNulls === true,
      }))],
    }, [times, ...order.map((i) => lines[i])], plot);
  },

  stat(panel, body, w, h) {
    const { defaults } = panel.fieldConfig;
    const values = panel.results.flatMap((result, i) => result.map(({ metric, value }) => ({ name: nameOf(metric, panel.targets[i].legendFormat), value: Number(value[1]) })));
    const stats = element('div', '', 'stats');
    const mapped = defaults.mappings?.[0]?.options ?? {};
    for (const { name, value } of values.length ? values : [{ name: 'Value', value: NaN }]) {
      const of = mapped[String(value)];
      const stat = element('div', '', 'stat');
      const number = element('div', Number.isNaN(value) ? (defaults.noValue ?? 'No data') : (of?.text ?? shown(value, defaults)));
      number.style.fontSize = `${Math.min(34, ((w / Math.max(1, values.length) - 20) / Math.max(2, number.textContent.length)) * 1.6)}px`;
      const filled = Number.isNaN(value) ? null : of ? colour(of.color) : byThreshold(value, defaults);
      if (filled && panel.options.colorMode === 'background') Object.assign(stat.style, { background: filled, color: theme.colors.getContrastText(filled) });
      else if (filled) stat.style.color = filled;
      if (name !== 'Value') stat.append(element('small', name));
      stat.append(number);
      stats.append(stat);
    }
    body.append(stats);
  },

  bargauge(panel, body) {
    const { defaults } = panel.fieldConfig;
    const [result] = panel.results;
    if (!result.length) return body.append(element('div', defaults.noValue ?? 'No data', 'empty'));
    for (const { metric, value } of result) {
      const bar = element('div', '', 'bar');
      const [whole, part] = [element('div'), element('div')];
      part.style.width = `${Math.min(1, Number(value[1]) / defaults.max) * 100}%`;
      part.style.background = byThreshold(Number(value[1]), defaults);
      whole.append(part);
      const number = element('b', shown(Number(value[1]), defaults));
      number.style.color = byThreshold(Number(value[1]), defaults);
      bar.append(element('label', nameOf(metric, panel.targets[0].legendFormat)), whole, number);
      body.append(bar);
    }
  },

  table(panel, body) {
    const { defaults, overrides } = panel.fieldConfig;
    const [result] = panel.results;
    if (!result.length) return body.append(element('div', defaults?.noValue ?? 'No data', 'empty'));
    const kept = panel.transformations.find((t) => t.id === 'filterFieldsByName').options.include.names;
    const { indexByName, renameByName } = panel.transformations.find((t) => t.id === 'organize').options;
    const columns = [...kept].sort((a, b) => indexByName[a] - indexByName[b]);
    const table = element('table');
    const head = element('tr');
    for (const c of columns) head.append(element('th', renameByName[c]));
    table.append(head);
    for (const { metric, value } of result) {
      const line = element('tr');
      for (const c of columns) {
        const unit = overrides?.find((o) => o.matcher.options === renameByName[c])?.properties.find((p) => p.id === 'unit')?.value;
        line.append(element('td', c === 'Value' ? shown(Number(value[1]), { unit }) : metric[c] ?? ''));
      }
      table.append(line);
    }
    body.append(table);
  },
};

// mix lays a colour over the panel's, since what is stacked must not shine through.
function mix(hex, part) {
  const under = [0x18, 0x1b, 0x1f];
  const over = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  return `rgb(${over.map((c, i) => Math.round(c * part + under[i] * (1 - part))).join(',')})`;
}

document.body.append(element('h1', row.title));
for (const panel of row.panels) {
  const { x, y, w, h } = panel.gridPos;
  const box = element('div', '', 'panel');
  const [pw, ph] = [(width - 8) * (w / 24) - 8, h * CELL - 8];
  Object.assign(box.style, { left: `${8 + ((width - 8) * x) / 24}px`, top: `${42 + (y - first) * CELL}px`, width: `${pw}px`, height: `${ph}px` });
  const body = element('div');
  box.append(element('h2', panel.title), body);
  document.body.append(box);
  draw[panel.type](panel, body, pw - 6, ph - 32);
}
