"""The report's page: one HTML file with its style, its script and all of its data inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

from plotly.offline import get_plotlyjs

from relocalize.evaluation.report import facts, sections
from relocalize.evaluation.report.scene import Scene
from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.table import degrees
from relocalize.place import Place

# Nothing is fetched, whatever is written on the page.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True, eq=False)
class Images:
    """What the page shows of the test images themselves.

    Attributes:
        thumbnails: a ``data:`` address for each, or None.
        photos: HTML of the worst and the typical ones.
    """

    thumbnails: Sequence[str | None]
    photos: str


def page(place: Place, results: Results, scene: Scene, images: Images) -> str:
    """The whole page."""
    shown = [
        sections.accuracy_section(results),
        sections.map_section(results, scene, images.thumbnails),
        sections.errors_section(results),
        sections.leakage_section(results),
        sections.calibration_section(results),
        sections.learning_section(results),
    ]
    figures = {name: figure for one in shown for name, figure in one.figures.items()}
    body = "\n".join(
        [
            f"<h1>{escape(place.name)}</h1>",
            '<div class="soft">How well photos of this place are localized, split '
            f"{escape(results.split)}, {escape(results.raw['made']['finished'][:10])}</div>",
            f'<p class="lead-line">{escape(facts.summary(results))}</p>',
            facts.tiles(results),
            "<h2>What was measured</h2>",
            facts.measured(place, results),
            *(f'<section class="{one.kind}">{one.html}</section>' for one in shown if one.html),
            images.photos,
            "<h2>How it was made</h2>",
            facts.made(results),
        ]
    )
    title = escape(f"{place.name}: {results.split}")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{title}</title><style>{_asset('page.css')}</style>"
        f"<script>{get_plotlyjs()}</script></head>\n"
        f'<body><main>{body}</main><div id="card"></div>\n'
        f"{_data('figures', figures)}{_data('images', _images(results, images.thumbnails))}"
        f"<script>{_asset('page.js')}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _data(name: str, value: Any) -> str:
    # "</" inside a script would end it; in JSON the slash may be escaped.
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    return f'<script id="{name}" type="application/json">{text}</script>'


def _images(results: Results, thumbnails: Sequence[str | None]) -> dict[str, Any]:
    """What the card of a photo says."""
    rows = results.images
    return {
        "localizers": [{"name": name, "color": line.color} for name, line in results.lines.items()],
        "names": [row["image"] for row in rows],
        "thumbs": list(thumbnails),
        "near": [
            f"nearest train view {results.length(row['nearest_train_distance'])}, "
            f"{degrees(row['nearest_train_angle_deg'])}° away"
            for row in rows
        ],
        "said": [[results.error_words(row, name) for name in results.names] for row in rows],
    }
