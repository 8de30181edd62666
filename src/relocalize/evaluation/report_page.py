"""The report's page: one HTML file with its style, its script and all of its data inside."""

from __future__ import annotations

import html
import json
from typing import Any

from plotly.offline import get_plotlyjs

# Mid tones that stand out on white and on near-black alike; a localizer keeps its colour
# everywhere on the page. The baselines are quiet on purpose.
BASELINE_COLORS = {"constant": "#8b939c", "retrieval": "#c58a1b"}
COLORS = ("#2f7fd1", "#c2558f", "#2c9c78", "#8464c9", "#c9603a", "#4a9fb5")

_STYLE = """
:root { color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --ink: #1d2329; --soft: #5d6670; --line: #e3e5e8;
  --bar: #2f7fd11f; --true: #1d2329; --grid: #eceef0; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14171a; --card: #1b1f23; --ink: #e6e9ec; --soft: #9aa4ae; --line: #2d3339;
  --bar: #2f7fd138; --true: #f2f4f6; --grid: #262b30; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 28px 64px; }
h1 { font-size: 26px; font-weight: 650; letter-spacing: -0.01em; margin: 0 0 4px; }
h2 { font-size: 17px; font-weight: 650; margin: 44px 0 4px; }
p { margin: 0 0 12px; max-width: 76ch; } .soft, figcaption, dt { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr));
  gap: 1px; background: var(--line); border: 1px solid var(--line); border-radius: 10px;
  overflow: hidden; margin: 24px 0 8px; }
.tile { background: var(--card); padding: 14px 18px; }
.tile b { display: block; font-size: 25px; font-weight: 600; letter-spacing: -0.01em; }
.tile b small { font-size: 15px; font-weight: 500; color: var(--soft); }
.tile span { color: var(--soft); font-size: 13px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 12px 0; }
dd { margin: 0; max-width: 80ch; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: 10px 0 6px; font-size: 14px; }
th, td { padding: 7px 10px; text-align: right; white-space: nowrap; }
th { font-weight: 500; color: var(--soft); font-size: 13px; vertical-align: bottom;
  border-bottom: 1px solid var(--line); line-height: 1.3; }
td { border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr.lead td { font-weight: 620; }
td.recall { background: linear-gradient(90deg, var(--bar) var(--share), transparent 0); }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 5px; margin-right: 9px; }
.figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 8px; margin: 10px 0; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 14px; }
.photos { display: grid; grid-template-columns: repeat(3, 1fr); gap: 18px 14px; }
figure { margin: 0; } figure svg { width: 100%; height: auto; display: block;
  border-radius: 8px; background: var(--line); }
figcaption { font-size: 13px; padding-top: 6px; overflow-wrap: anywhere; }
figcaption b { color: var(--ink); font-weight: 600; }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 6px;
  vertical-align: -1px; margin: 0 5px 0 2px; }
code { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@media (max-width: 760px) { .pair, .photos { grid-template-columns: 1fr; }
  main { padding: 24px 16px; } }
"""

# Figures take their ink from the page, so both follow the reader's light or dark setting.
_SCRIPT = """
const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
function inked(value, css) {
  if (typeof value === "string" && value.startsWith("var(--"))
    return css.getPropertyValue(value.slice(4, -1)).trim();
  if (Array.isArray(value)) return value.map(one => inked(one, css));
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, inked(v, css)]));
  return value;
}
function draw() {
  const css = getComputedStyle(document.documentElement);
  for (const [id, figure] of Object.entries(figures)) {
    const drawn = inked(figure, css);
    Plotly.react(id, drawn.data, drawn.layout,
      {responsive: true, displaylogo: false, displayModeBar: id === "map",
       modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"]});
  }
}
draw();
dark.addEventListener("change", draw);
"""


def page(title: str, body: str, figures: dict[str, dict[str, Any]]) -> str:
    """The whole page.

    Args:
        title: plain text.
        body: HTML that has an empty ``div`` with the key of each figure as its id.
        figures: plotly's ``data`` and ``layout`` by id; colours may be ``var(--name)``.
    """
    # "</" inside a script would end it; in JSON the slash may be escaped.
    data = json.dumps(figures, separators=(",", ":")).replace("</", "<\\/")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head>\n"
        f"<body><main>{body}</main>\n"
        f'<script id="figures" type="application/json">{data}</script>'
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def text(value: object) -> str:
    """Escaped for HTML."""
    return html.escape(str(value))


def color_of(localizer: str, localizers: list[str]) -> str:
    """The colour of a localizer on the whole page."""
    if localizer in BASELINE_COLORS:
        return BASELINE_COLORS[localizer]
    others = [name for name in localizers if name not in BASELINE_COLORS]
    return COLORS[others.index(localizer) % len(COLORS)]
