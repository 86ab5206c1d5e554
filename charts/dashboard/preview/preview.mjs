// Draws each row of the dashboard, from the answers of a Prometheus, into a PNG. See README.md.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildSync } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const { values: flags } = parseArgs({
  options: {
    prometheus: { type: 'string', default: 'http://127.0.0.1:9090' },
    to: { type: 'string', default: '0' }, // seconds since 1970; 0 is now
    minutes: { type: 'string', default: '15' }, // before that
    scrape: { type: 'string', default: '15' }, // Prometheus' scrape interval, in seconds
    width: { type: 'string', default: '1440' },
    out: { type: 'string', default: 'pictures' },
  },
});
const [scrape, width] = [Number(flags.scrape), Number(flags.width)];
const to = Number(flags.to) || Date.now() / 1000;
const from = to - Number(flags.minutes) * 60;

const seconds = (text) => Number(/^\d+/.exec(text)[0]) * { s: 1, m: 60, h: 3600 }[text.at(-1)];

// stepOf is Grafana's $__interval: a point for each two pixels or so, not more often than
// Prometheus scrapes, nor than the panel wants.
function stepOf(panel) {
  const points = (width * panel.gridPos.w) / 24 / 2;
  const least = Math.max(panel.interval ? seconds(panel.interval) : 0, scrape);
  return Math.max(least, Math.ceil((to - from) / points / least) * least);
}

// ask sends a target's query, with the dashboard's variables at All.
async function ask(panel, target) {
  const step = stepOf(panel);
  const expr = target.expr
    .replaceAll('$__rate_interval', `${Math.max(step + scrape, 4 * scrape)}s`)
    .replaceAll('$__interval', `${step}s`)
    .replace(/\$(cluster|namespace|cloud)\b/g, '.*');
  const path = target.instant ? 'query' : 'query_range';
  const times = target.instant ? { time: to } : { start: from, end: to, step };
  const answer = await (await fetch(`${flags.prometheus}/api/v1/${path}`, { method: 'POST', body: new URLSearchParams({ query: expr, ...times }) })).json();
  if (answer.status !== 'success') throw new Error(`${panel.title}: ${answer.error}\n${expr}`);
  return answer.data.result;
}

function rowsOf(dashboard) {
  const rows = [];
  for (const panel of dashboard.panels) {
    if (panel.type === 'row') rows.push({ title: panel.title, panels: [] });
    else rows.at(-1).panels.push(panel);
  }
  return rows;
}

const dashboard = JSON.parse(readFileSync(join(here, '../../cinder-csi/dashboard.json'), 'utf8'));
const script = buildSync({ entryPoints: [join(here, 'page.js')], bundle: true, write: false, format: 'iife', minify: true, loader: { '.css': 'text' } }).outputFiles[0].text;
mkdirSync(flags.out, { recursive: true });
const work = mkdtempSync(join(tmpdir(), 'dashboard-'));
try {
  for (const row of rowsOf(dashboard)) {
    for (const panel of row.panels) {
      panel.step = stepOf(panel);
      panel.results = await Promise.all(panel.targets.map((target) => ask(panel, target)));
      if (panel.results.every((result) => result.length === 0)) console.log(`${row.title}: ${panel.title}: no data`);
    }
    const first = Math.min(...row.panels.map((p) => p.gridPos.y));
    const last = Math.max(...row.panels.map((p) => p.gridPos.y + p.gridPos.h));
    const page = join(work, 'page.html');
    writeFileSync(page, `<!doctype html><meta charset="utf-8"><body><script>window.model = ${JSON.stringify({ row, from, to, width, first }).replaceAll('<', '\\u003c')}</script><script>${script.replaceAll('</script', '<\\/script')}</script>`);
    const picture = join(flags.out, `dashboard-${row.title.toLowerCase().replaceAll(' ', '-')}.png`);
    execFileSync('chromium', [
      '--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', `--user-data-dir=${join(work, 'profile')}`, '--virtual-time-budget=2000',
      `--window-size=${width},${(last - first) * 38 + 44}`, `--screenshot=${picture}`, `file://${page}`,
    ], { stdio: ['ignore', 'ignore', 'pipe'] });
    console.log(picture);
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
