"""A self-contained HTML page around a text and one figure, light or dark as its reader likes."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from plotly.offline import get_plotlyjs

# Nothing is fetched, whatever is written on the page.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --ink: #1d2329; --soft: #5d6670; --line: #e1e4e7;
  --grid: #eceef0; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14171a; --card: #1b1f23; --ink: #e6e9ec; --soft: #9aa4ae; --line: #2d3339;
  --grid: #262b30; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 28px 64px; }
h1 { font-size: 26px; font-weight: 650; letter-spacing: -0.01em; margin: 0 0 4px; }
h2 { font-size: 18px; font-weight: 650; margin: 44px 0 4px; }
p { margin: 0 0 10px; max-width: 78ch; overflow-wrap: anywhere; } .soft, dt { color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 12px 0; }
dd { margin: 0; max-width: 82ch; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: 10px 0 12px; font-size: 14px; }
th, td { padding: 7px 9px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { font-weight: 500; color: var(--soft); font-size: 13px; vertical-align: bottom;
  line-height: 1.3; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr.lead td { font-weight: 640; }
.plot { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 8px; margin: 10px 0; }
@media (max-width: 760px) { main { padding: 24px 16px; } }
"""
# The figure takes its ink from the page.
_SCRIPT = """
const figure = JSON.parse(document.getElementById("figure").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
function inked(value, css) {
  if (typeof value === "string")
    return value.startsWith("var(--") ? css.getPropertyValue(value.slice(4, -1)).trim() : value;
  if (Array.isArray(value))
    return typeof value[0] === "object" ? value.map((one) => inked(one, css)) : value;
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, inked(v, css)]));
  return value;
}
function draw() {
  const drawn = inked(figure, getComputedStyle(document.documentElement));
  Plotly.react("plot", drawn.data, drawn.layout,
    {responsive: true, displaylogo: false, displayModeBar: false});
}
draw();
dark.addEventListener("change", draw);
"""

# Where the figure goes.
PLOT = '<div class="plot"><div id="plot"></div></div>'


def framed(title: str, body: str, figure: dict[str, Any]) -> str:
    """The whole page.

    Args:
        title: plain text.
        body: HTML, with `PLOT` in it.
        figure: plotly's ``data`` and ``layout``; colours may be ``var(--name)``.
    """
    # "</" inside a script would end it; in JSON the slash may be escaped.
    data = json.dumps(figure, separators=(",", ":")).replace("</", "<\\/")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head>\n<body><main>{body}</main>\n"
        f'<script id="figure" type="application/json">{data}</script>'
        f"<script>{_SCRIPT}</script></body></html>\n"
    )
