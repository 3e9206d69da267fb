"""The style sheet of the report: a light and a dark theme, and one column on small screens."""

STYLE = """
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #fff; --ink: #1c2330; --soft: #5b6472; --rule: #e3e6eb; --grid: #e9ecf0;
  --search: #2463eb; --baseline: #c2590a; --dense: #5b6472; --budget: #c81e3a; --paper: #8a3ffc;
  --good: #14763d; --bad: #b3261e;
  --warn-ink: #7a1a1a; --warn: #fdecea; --empty: #eef0f4; }
@media (prefers-color-scheme: dark) { :root {
  --page: #12151b; --card: #1a1f28; --ink: #e6e9ef; --soft: #9aa4b2; --rule: #2b323e; --grid: #262d38;
  --search: #7aa7ff; --baseline: #f5a154; --dense: #9aa4b2; --budget: #ff7b8a; --paper: #c9a0ff;
  --good: #5ed08a; --bad: #ff8a80;
  --warn-ink: #ffc9c2; --warn: #3a1d1c; --empty: #252c37; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink); background: var(--page);
  margin: 0; padding: 24px 16px 48px; }
main { max-width: 1080px; margin: 0 auto; display: grid; gap: 16px;
  grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
header, section { grid-column: 1 / -1; min-width: 0; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 16px 20px; }
section.half { grid-column: auto; }
h1 { font-size: 24px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 4px; }
p { margin: 0 0 8px; }
.soft, figcaption, .note { color: var(--soft); font-size: 13px; }
.note { margin: 8px 0 0; }
.warning { color: var(--warn-ink); background: var(--warn); border-left: 4px solid var(--budget); border-radius: 4px;
  padding: 6px 12px; margin: 8px 0 0; }
.verdict { border-left: 4px solid var(--search); padding: 6px 12px; background: var(--card); border-radius: 4px;
  margin: 12px 0 0; font-weight: 600; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin: 14px 0 0;
  padding: 0; }
.facts div { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 10px 14px; }
.facts dt { color: var(--soft); font-size: 12px; }
.facts dd { margin: 0; font-size: 20px; font-weight: 600; font-variant-numeric: tabular-nums; }
.facts dd small { font-size: 12px; font-weight: 400; color: var(--soft); display: block; }
.rows { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 4px 20px; margin: 6px 0 0; }
.rows dt { color: var(--soft); }
.rows dd { margin: 0; overflow-wrap: anywhere; }
img { max-width: min(100%, 760px); height: auto; border-radius: 6px; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft);
  paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round; }
svg text.title { fill: var(--ink); }
.grid { stroke: var(--grid); stroke-width: 1; }
.search { --c: var(--search); } .baseline { --c: var(--baseline); } .dense { --c: var(--dense); }
.budget { --c: var(--budget); }
.paper { --c: var(--paper); }
svg text.search, svg text.baseline, svg text.dense, svg text.budget { fill: var(--c); }
.line { stroke: var(--c); stroke-width: 2; fill: none; }
.line.error { --c: var(--soft); stroke-width: 1; }
.line.thin { stroke-width: 1; opacity: .45; }
.dashed { stroke-dasharray: 5 4; stroke-width: 1.4; }
.mark { fill: var(--c); stroke: var(--card); stroke-width: 1; }
.mark.pale { opacity: .38; }
.ring { fill: none; stroke: var(--c); stroke-width: 2; }
.fill { fill: var(--c); }
.mark:hover, .ring:hover, .fill:hover { stroke: var(--ink); stroke-width: 2; opacity: 1; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 6px 0 0; padding: 0; font-size: 13px;
  color: var(--soft); }
.legend li { display: flex; align-items: center; gap: 6px; }
.legend svg { width: 20px; flex: none; }
.pair { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 8px 20px; }
.narrow { display: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; font-size: 14px; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 500; font-size: 12px; }
tr:last-child td { border-bottom: 0; }
.words { text-align: left; }
td + td.words, th + th.words { padding-left: 12px; }
tr.best td { font-weight: 600; }
.good { color: var(--good); } .bad { color: var(--bad); }
.bars td { padding: 3px 12px 3px 0; border: 0; }
.bars td.bar { width: 60%; min-width: 60px; }
.bars i { display: block; height: 12px; min-width: 1px; border-radius: 3px;
  background: var(--c); }
code { font: 12.5px ui-monospace, SFMono-Regular, Menlo, monospace; overflow-wrap: anywhere; }
.schedules { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 18px 28px; margin-top: 12px; }
.schedule h3 { font-size: 14px; margin: 0; display: flex; flex-wrap: wrap; gap: 0 10px; }
.schedule h3 span { font-weight: 400; color: var(--soft); }
.depth { display: flex; gap: 6px; margin: 4px 0 2px; }
.stage { display: flex; gap: 1px; flex-basis: 0; min-width: 0; }
.block { flex: 1 1 0; min-width: 0; text-align: center; font-size: 10px; line-height: 13px; color: var(--soft); }
.block .count { height: 13px; color: var(--ink); font-weight: 600; white-space: nowrap; }
.tower { height: 46px; background: var(--empty); display: flex; align-items: flex-end; border-radius: 2px;
  overflow: hidden; }
.tower i { flex: 1; background: var(--c); }
.step { font-weight: 700; color: var(--c); }
footer { grid-column: 1 / -1; color: var(--soft); font-size: 13px; }
@media (max-width: 720px) {
  .rows { grid-template-columns: minmax(0, 1fr); gap: 0; }
  .rows dd { margin-bottom: 6px; }
  body { padding: 14px 10px 32px; font-size: 14px; }
  main { gap: 12px; }
  section { padding: 12px; }
  section.half { grid-column: 1 / -1; }
  .pair, .schedules { grid-template-columns: minmax(0, 1fr); }
  .wide { display: none; } .narrow { display: block; }
  h1 { font-size: 19px; }
  .facts { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .facts dd { font-size: 17px; }
}
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""
