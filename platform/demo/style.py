"""The style sheet of a report: light and dark, readable on paper and on a phone."""

from __future__ import annotations

STYLE = """\
:root {
  --paper: #fbfbf9; --card: #ffffff; --ink: #1c2024; --soft: #5b636d; --rule: #e3e5e8;
  --ours: #1d5fd1; --frozen: #b4560b; --warn: #a87400; --drift: #c62f3b; --good: #19764a;
  --changing: #7a4fd0; --calm: #cfd6de;
  color-scheme: light dark;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #111417; --card: #181c21; --ink: #e7eaee; --soft: #9aa4b0; --rule: #2b3138;
    --ours: #6ea8ff; --frozen: #f0a05a; --warn: #e0b040; --drift: #ff7a83; --good: #59c690;
    --changing: #b396ff; --calm: #3a434d;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1040px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -0.015em; margin: 4px 0 8px; }
h2 { font-size: 19px; letter-spacing: -0.005em; margin: 48px 0 4px; }
p { margin: 0 0 8px; max-width: 72ch; }
.brand { font-weight: 650; color: var(--ours); letter-spacing: 0.01em; }
.lead, .note { color: var(--soft); }
.note { font-size: 14.5px; }
.verdict {
  display: flex; gap: 12px; align-items: baseline; margin: 20px 0 0; padding: 12px 16px;
  border-left: 4px solid var(--good); background: var(--card); border-radius: 4px;
}
.verdict.open { border-color: var(--drift); }
.verdict b { white-space: nowrap; }
.verdict ul { margin: 0; padding-left: 18px; }
.tiles {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 1px;
  margin: 24px 0 0; background: var(--rule); border: 1px solid var(--rule); border-radius: 8px;
  overflow: hidden;
}
.tile { background: var(--card); padding: 16px 18px; }
.tile .what { color: var(--soft); font-size: 14px; }
.tile .value { font-size: 30px; font-weight: 620; letter-spacing: -0.02em; line-height: 1.25; }
.tile .more { color: var(--soft); font-size: 14px; }
.value .ours { color: var(--ours); }
.plot { overflow-x: auto; margin-top: 8px; }
.plot svg { display: block; width: 100%; min-width: 680px; height: auto; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Arial, sans-serif; fill: var(--soft); }
svg .end { text-anchor: end; }
svg .mid { text-anchor: middle; }
svg .tick.warn { fill: var(--warn); }
svg .tick.drift { fill: var(--drift); }
svg text.name { fill: var(--ink); font-weight: 600; }
svg text.ends { font-size: 14px; font-weight: 650; }
svg text.ends.ours { fill: var(--ours); }
svg text.ends.frozen { fill: var(--frozen); }
.grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke-linejoin: round; stroke-linecap: round; }
.line.ours { stroke: var(--ours); stroke-width: 2.5; }
.line.frozen { stroke: var(--frozen); stroke-width: 2.2; stroke-dasharray: 1 5; }
.line.signal { stroke: var(--ink); stroke-width: 1.3; opacity: 0.85; }
.between { fill: var(--ours); opacity: 0.09; }
.changing { fill: var(--changing); opacity: 0.12; }
.swap { stroke: var(--ours); stroke-width: 1; opacity: 0.45; }
.truth { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 4 4; }
.limit { stroke-width: 1.2; stroke-dasharray: 5 4; }
.limit.warn { stroke: var(--warn); }
.limit.drift { stroke: var(--drift); }
.over { opacity: 0.3; }
.over.warn { fill: var(--warn); }
.over.drift { fill: var(--drift); opacity: 0.45; }
.mark { stroke: none; }
.mark.warn { fill: var(--warn); }
.mark.drift { fill: var(--drift); }
.mark.ours { fill: var(--ours); }
.mark.muted { stroke: var(--soft); stroke-width: 2; fill: none; }
.span { fill: var(--ours); opacity: 0.85; stroke: var(--paper); stroke-width: 1.5; }
.span.even { opacity: 0.68; }
svg text.onspan { fill: var(--card); text-anchor: middle; font-weight: 650; }
.phase { fill: var(--calm); }
.phase.warning { fill: var(--warn); }
.phase.drift, .phase.cooldown { fill: var(--drift); }
.phase.retraining, .phase.candidate, .phase.swapping { fill: var(--changing); }
.phase.probation { fill: var(--ours); opacity: 0.55; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: 14px; color: var(--soft);
  max-width: none; margin: 4px 0 0; }
.legend span { display: inline-flex; align-items: center; gap: 6px; }
.swatch {
  width: 14px; height: 12px; display: inline-block; border-radius: 2px; background: var(--calm);
}
.swatch.retraining { background: var(--changing); }
.swatch.shade { background: var(--changing); opacity: 0.25; }
.swatch.warning { background: var(--warn); }
.swatch.drift { background: var(--drift); }
.swatch.probation { background: var(--ours); opacity: 0.55; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 15px; margin-top: 8px; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 14px; }
th, td { padding: 7px 16px 7px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
th.n, td.n { text-align: right; white-space: nowrap; }

table.compact { width: auto; margin-top: 24px; }
table.compact th, table.compact td { padding-right: 40px; white-space: nowrap; }
pre { font: 13px ui-monospace, "SF Mono", Menlo, Consolas, monospace; margin: 4px 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
td.kind { white-space: nowrap; font-weight: 600; }
td.kind.warning { color: var(--warn); }
td.kind.drift, td.kind.rolled_back, td.kind.failed { color: var(--drift); }
td.kind.retraining, td.kind.candidate { color: var(--changing); }
td.kind.promoted { color: var(--ours); }
code { font: 13.5px ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
.columns {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 0 40px;
}
dl {
  display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; font-size: 15px;
  margin: 8px 0;
}
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
details { margin: 4px 0; }
summary { cursor: pointer; color: var(--soft); font-size: 14px; }
@media (max-width: 600px) { main { padding: 24px 16px 56px; } h1 { font-size: 25px; } }
@media print { .plot svg { min-width: 0; } body { background: #fff; } }
"""
