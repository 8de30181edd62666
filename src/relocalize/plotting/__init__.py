"""Images of a Place's trajectory: PNG, SVG and PDF for papers, HTML to look around in."""

from relocalize.plotting.alignment_figure import draw_alignment
from relocalize.plotting.floor import plot_floor
from relocalize.plotting.place_plot import plot_place

__all__ = ["draw_alignment", "plot_floor", "plot_place"]
