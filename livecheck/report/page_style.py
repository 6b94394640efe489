"""The style sheet of the report's page: light and dark, for screens of any width and for paper."""

STYLE = """
:root { color-scheme: light dark;
  --paper: #ffffff; --ink: #1c2024; --muted: #5c666f; --grid: #d9dee3; --panel: #f5f7f9;
  --series-1: #1f66b1; --series-2: #c2570c; --series-3: #0d7a5f; --series-4: #8a3ea8;
  --good: #1a7a3c; --bad: #c22f2f; --open: #7a4fc0; --warn: #946000; }
@media screen and (prefers-color-scheme: dark) { :root {
  --paper: #14181c; --ink: #e6eaee; --muted: #9aa5b0; --grid: #343c44; --panel: #1c2228;
  --series-1: #6cb0f5; --series-2: #f59a57; --series-3: #4fcfa9; --series-4: #cf93ea;
  --good: #5ccb82; --bad: #ff7b72; --open: #b79cf2; --warn: #e0b050; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.25rem 1rem 3rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0 0 .3rem; }
.verdict { border: 2px solid; border-radius: .5rem; padding: .9rem 1.1rem; margin: 0 0 1rem; }
.verdict strong { font-size: 1.9rem; line-height: 1.1; display: block; }
.verdict span { color: var(--ink); font-weight: 400; white-space: normal; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; }
dt { color: var(--muted); } dd { margin: 0; min-width: 0; }
.wide { overflow-x: auto; background:  /* a shadow at the side where there is more */
  linear-gradient(to left, var(--paper) 1rem, transparent) right / 2rem 100% no-repeat local,
  linear-gradient(to left, var(--grid), transparent) right / .8rem 100% no-repeat scroll; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--grid);
  vertical-align: top; }
th { color: var(--muted); font-weight: 600; white-space: nowrap; }
td:nth-child(2) { min-width: 8.5rem; }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.told td { border-bottom: 0; padding-bottom: 0; }
.why td { color: var(--muted); font-size: .85rem; padding-top: 0; }
.good, .bad, .open, .warn { font-weight: 600; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); } .open { color: var(--open); }
.warn { color: var(--warn); } .muted { color: var(--muted); }
.wide + .wide { margin-top: 1.2rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr));
  gap: 1.2rem; align-items: start; }
figure { margin: 0; padding: .9rem; background: var(--panel); border-radius: .5rem;
  break-inside: avoid; }
figure svg:not(.line) { width: 100%; height: auto; display: block; }
figure.timeline { margin: 0 0 1.2rem; } figure.timeline details { border: 0; }
svg.line { display: block; overflow: visible; font: 11px system-ui, sans-serif; }
svg.line text { fill: var(--muted); } svg.line .head { fill: var(--ink); font-weight: 600; }
svg.line .grid { stroke: var(--grid); } svg.line .other { stroke: var(--muted); }
svg.line rect { fill: currentColor; } svg.line rect.pale { opacity: .3; }
svg.line circle { fill: currentColor; }
svg.line .series-1 { color: var(--series-1); } svg.line .series-2 { color: var(--series-2); }
svg.line .series-3 { color: var(--series-3); }
svg.line .bar { cursor: default; outline: none; } svg.line .tip { display: none; fill: var(--ink); }
svg.line:has(.bar:hover) .hint, svg.line:has(.bar:focus) .hint { display: none; }
svg.line .bar:hover .tip, svg.line .bar:focus .tip { display: block; }
svg.line .bar:hover rect, svg.line .bar:focus rect { stroke: var(--ink); stroke-width: 1px; }
svg.strip { display: block; max-width: 46rem; margin: .4rem 0; color: var(--bad); }
.evidence { border: 0; padding: .15rem 0; }
.evidence > summary { color: var(--muted); font-size: .92rem; }
.evidence[open] { border-left: 3px solid var(--grid); padding-left: .7rem; margin-bottom: .8rem; }
.exchange { margin: .9rem 0; padding: .6rem .8rem; background: var(--panel); border-radius: .4rem; }
.exchange h4 { font-size: .92rem; font-weight: 600; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.exchange h4 .muted { font-weight: 400; } .exchange p { margin: .4rem 0 .1rem; }
.fields, .label, .evidence > p { font-size: .85rem; overflow-wrap: anywhere; }
pre { margin: 0; padding: .5rem .6rem; max-height: 16rem; overflow: auto; background: var(--paper);
  border: 1px solid var(--grid); border-radius: .3rem; font-size: .8rem; line-height: 1.4;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.checks { list-style: none; padding-left: 0; } .checks > li { margin: .45rem 0; }
.wrap { white-space: normal; } a { color: var(--series-1); }
figcaption { font-size: .87rem; color: var(--muted); margin-top: .4rem; }
details { border-bottom: 1px solid var(--grid); padding: .35rem 0; }
summary { cursor: pointer; } ul { margin: .4rem 0 .6rem; padding-left: 1.1rem; }
li { font-size: .92rem; } code { font-size: .9em; overflow-wrap: anywhere; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; } tr, .exchange, .timeline { break-inside: avoid; }
  pre { max-height: none; } .hint { display: none; }
  .evidence:not([open]), .timeline details:not([open]) { display: none; }
  .pictures { grid-template-columns: 1fr 1fr; } figure { border: 1px solid var(--grid); } }
"""
