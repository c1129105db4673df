"""Figures of the report, of a comparison and of one reconstruction.

Every function returns a matplotlib Figure and needs no display. Curves come from the metrics of
`zwicky.evaluate.battery`; a panel without data says so.
"""

from zwicky.evaluate.figures.calibration import calibration_figure, pixels_figure
from zwicky.evaluate.figures.comparison import comparison_figure
from zwicky.evaluate.figures.convergence import convergence_figure
from zwicky.evaluate.figures.examples import Example, images_figure, maps_figure, slices_figure
from zwicky.evaluate.figures.masses import mass_figure, scatter_figure, sets_figure
from zwicky.evaluate.figures.power import power_figure
from zwicky.evaluate.figures.profiles import profiles_figure
from zwicky.evaluate.figures.reconstruction import reconstruction
from zwicky.evaluate.figures.shapes import shapes_figure
from zwicky.evaluate.figures.style import COLOURS, COLUMN, EMPTY, STYLE, log_ticks, new_figure, save
from zwicky.evaluate.figures.trends import regression_figure, trends_figure

__all__ = [
    "COLOURS", "COLUMN", "EMPTY", "STYLE", "Example", "calibration_figure", "comparison_figure",
    "convergence_figure", "images_figure", "log_ticks", "maps_figure", "mass_figure", "new_figure", "pixels_figure",
    "power_figure", "profiles_figure", "reconstruction", "regression_figure", "save", "scatter_figure", "sets_figure",
    "shapes_figure", "slices_figure", "trends_figure",
]  # fmt: skip
