"""The page's style sheet: system fonts, light and dark by the reader's setting, prints on white."""

STYLE = """
:root { --page: #f6f7f9; --card: #fff; --text: #1f2733; --muted: #667085; --line: #e4e7ec; --accent: #1664d9; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0f141a; --card: #171d25; --text: #e6eaf0; --muted: #98a2b3; --line: #2c3440; --accent: #6ea8ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem clamp(1rem, 3vw, 2.5rem) 4rem; max-width: 1240px; background: var(--page);
  color: var(--text); font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif; }
h1 { font-size: 1.9rem; letter-spacing: -0.02em; margin: 0; }
h2 { font-size: 1.2rem; letter-spacing: -0.01em; margin: 0 0 .3rem; }
h3 { font-size: .95rem; margin: 1.2rem 0 .3rem; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
header dl { display: flex; flex-wrap: wrap; gap: .3rem 1.8rem; margin: .5rem 0 1rem; }
header dt { display: inline; color: var(--muted); }
header dt::after { content: ' '; }
header dd { display: inline; margin: 0; font-variant-numeric: tabular-nums; }
nav { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; border-top: 1px solid var(--line); padding-top: .8rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.3rem 1.5rem;
  margin-top: 1.2rem; scroll-margin-top: 1rem; }
.lead, figcaption, .meaning { color: var(--muted); }
.lead { margin: 0 0 .8rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
.metrics { width: 100%; table-layout: fixed; min-width: 640px; font-variant-numeric: tabular-nums; }
.metrics.narrow { max-width: 640px; min-width: 320px; }
.metrics th, .metrics td { padding: .42rem .8rem; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap; }
.metrics thead th { color: var(--muted); font-weight: 500; font-size: .86rem; }
.metrics th:first-child { text-align: left; font-weight: 500; padding-left: 0; white-space: normal; width: 42%; }
.metrics th.better { width: 5rem; }
.metrics tfoot td, .metrics tfoot th { border-bottom: 0; font-weight: 600; }
.metrics tbody tr:last-child > * { border-bottom: 0; }
.metrics tfoot tr > * { border-top: 1px solid var(--line); }
.metrics b { color: var(--accent); }
.metrics .better, .metrics .missing { color: var(--muted); font-weight: 400; font-size: .86rem; }
.metrics .missing { text-align: left; white-space: normal; }
.meaning { font-weight: 400; font-size: .82rem; line-height: 1.35; }
.unit { color: var(--muted); font-weight: 400; }
figure { margin: 1.1rem 0 0; }
figcaption { font-size: .86rem; margin-top: .4rem; }
.chart { display: block; height: auto; }
.grid td { padding: 0 .5rem .5rem 0; }
.grid th { text-align: left; color: var(--muted); font-weight: 500; font-size: .86rem; padding: 0 0 .25rem; }
.grid img { display: block; width: 176px; min-width: 88px; max-width: 100%; height: auto; border-radius: 6px; }
.video { display: inline-block; margin: .8rem 1.2rem 0 0; max-width: 100%; }
video { display: block; max-width: 100%; min-height: 200px; max-height: 360px; border-radius: 8px;
  background: #000; }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""
