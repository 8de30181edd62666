"""The one HTML shell: a page is a file that fetches nothing, light or dark as its reader likes.

A room's template extends ``shell.html`` and takes its tables, switches and lists from
``parts.html``. Every value is escaped but what a template marks as safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs


def html_page(
    package: str, template: str, *, figures: Mapping[str, Mapping[str, Any]], **values: Any
) -> str:
    """The page that a template makes.

    Args:
        package: that has the template.
        template: its file's name.
        figures: plotly's ``data`` and ``layout`` by the id of the element that they fill. Colours
            may be ``var(--name)`` of ``page.css``; a legend's buttons switch traces by ``meta``.
        values: what the template names, ``title`` among them.

    Raises:
        ValueError: a figure has a number that is not finite.
    """
    own = PackageLoader(__name__, ".")
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), own]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}

    def asset(name: str) -> Markup:
        assert environment.loader is not None
        return Markup(environment.loader.get_source(environment, name)[0])

    return environment.get_template(template).render(
        asset=asset, plotly=Markup(get_plotlyjs()), figures=figures, **values
    )
