"""The figures of a report: what draws each, and how to read it.

A new figure is one function in `figures` and one entry of PLATES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure
from numpy.typing import NDArray

from zwicky.evaluate import figures
from zwicky.evaluate.figures import Example

Arrays = Mapping[str, Mapping[str, NDArray]]  # aperture -> mass, mass_pred, mass_std -> (N,) [Msun]


@dataclass(frozen=True)
class Material:
    """What the figures of a report are drawn from; see `report.write_report`."""

    channels: Mapping[str, dict]
    arrays: Mapping[str, Arrays]
    examples: Sequence[Example] = ()
    sets: Mapping[str, NDArray] = field(default_factory=dict)


@dataclass(frozen=True)
class Plate:
    """One figure, or one for each channel.

    Args:
        draw: {what its name ends in: figure}; empty without material.
        title, caption: what it shows, and what an ideal model gives.
    """

    draw: Callable[[Material], dict[str, Figure]]
    title: str
    caption: str


def _of_channels(draw: Callable[[Mapping[str, dict]], Figure]) -> Callable[[Material], dict[str, Figure]]:
    return lambda material: {"": draw(material.channels)}


def _sets(m: Material) -> dict[str, Figure]:
    return {"": figures.sets_figure(m.sets)} if m.sets else {}


def _images(m: Material) -> dict[str, Figure]:
    return {"": figures.images_figure(m.examples)} if m.examples else {}


def _maps(m: Material) -> dict[str, Figure]:
    return {f"_{c}": figures.maps_figure(m.examples, c) for c in m.channels} if m.examples else {}


def _masses(m: Material) -> dict[str, Figure]:
    return {"": figures.mass_figure({c: m.arrays.get(c, {}).get("map", {}) for c in m.channels})}


def _scatter(m: Material) -> dict[str, Figure]:
    return {"": figures.scatter_figure({c: m.arrays.get(c, {}) for c in m.channels})}


PLATES: dict[str, Plate] = {
    "sets": Plate(
        _sets, "Masses of the sets of maps.",
        "Number of maps per 0.1 dex of M200m. A model knows the masses it was trained on: what is judged must lie "
        "inside the range of the training maps. After figure 3 of H25.",
    ),
    "images": Plate(
        _images, "Inputs and true maps.",
        "Held-out sightlines of lowest, middle and highest mass, with M200m in the corner and a circle at R200m. Each "
        "channel has one scale for all clusters. After figure 2 of H25.",
    ),
    "maps": Plate(
        _maps, "Truth and posterior.",
        "The same sightlines: true map, posterior mean, one sample, standard deviation of the samples, and the "
        "error of the mean in standard deviations. A good mean looks like a smoothed truth, a good sample like "
        "another truth; the last column should be patternless, with a third of its pixels beyond 1. After figure 4 "
        "of H25 and the maps of de Andres et al. 2024.",
    ),
    "convergence": Plate(
        _of_channels(figures.convergence_figure), "Convergence with the number of samples.",
        "Top: variance of the first n samples over that of all, flat where n is enough; the band is the scatter "
        "between maps. Middle: squared error of the mean of n samples over the variance; a calibrated posterior "
        "follows 1 + 1/n, higher is over-confident. Bottom: power of the mean. After figure 5 of H25.",
    ),
    "pixels": Plate(
        _of_channels(figures.pixels_figure), "Standardised errors of pixels.",
        "Error of the posterior mean over the standard deviation of the samples, in bins of true M200m. Ideal is "
        "the unit normal: narrower is under-confident, wider over-confident, shifted biased. After figure 6 of H25.",
    ),
    "profiles": Plate(
        _of_channels(figures.profiles_figure), "Radial profiles.",
        "Top: median profile and 16-84% of the clusters, true and predicted. Bottom: fractional difference of their "
        "mean and of their spread; ideal is zero for mean and spread of samples (the spread of posterior means is "
        "smaller by construction); the band is 5%. After figure 7 of H25.",
    ),
    "masses": Plate(
        _masses, "Masses of the maps.",
        "Top: posterior mean and standard deviation of the projected mass of each map against the true one. Bottom: "
        "error over the standard deviation; two thirds should lie in the band. After figure 8 of H25.",
    ),
    "power": Plate(
        _of_channels(figures.power_figure), "Transfer and correlation.",
        "b(k) and r(k) of the posterior mean and of single samples against the truth. If calibrated, both follow "
        "their dashed lines: b of the mean is r of the mean, r of samples is its square; b of samples is 1. Thin "
        "lines are the correlations of the inputs, which a good model exceeds, and of their best linear combination "
        "(by powers pooled over maps). The dotted line parts large from small scales. After figure 9 of H25.",
    ),
    "scatter": Plate(
        _scatter, "Errors of masses.",
        "Fractional error of the mass of each map in three apertures, with median and 16-84%. Ideal is zero median and "
        "no trend but the mild one that a posterior mean has at fixed truth. After the scatter figures of de Andres et "
        "al. 2024.",
    ),
    "regression": Plate(
        _of_channels(figures.regression_figure), "Regression to the mean.",
        "Mean log ratio of the masses in bins of equal number, given the true mass (blue) and given the predicted mass "
        "(orange). The second is zero for a calibrated posterior mean, but for half the variance of ln M. The first "
        "falls with mass by construction, the more the less is known.",
    ),
    "trends": Plate(
        _of_channels(figures.trends_figure), "What errors of masses depend on.",
        "Maps in thirds by each property; ticks are the median of each third. Thick bars are the standard error of the "
        "median, thin bars the half-width of the errors of single maps. Ideal is zero in each third.",
    ),
    "trends_coverage": Plate(
        _of_channels(lambda channels: figures.trends_figure(channels, "coverage")), "What coverage depends on.",
        "The same thirds: share of true masses inside one standard deviation. Ideal is the dashed line in each third.",
    ),
    "calibration": Plate(
        _of_channels(figures.calibration_figure), "Calibration.",
        "Top left: share of true pixels (solid) and masses of the map (dotted) inside each credible level, below "
        "the dashed line for an over-confident posterior. Top right: ranks of the truth among the samples; hollow "
        "in the middle if over-confident, sloped if biased. Bottom left: TARP of profiles, with what chance allows "
        "95% of the time as a band. Bottom right: share of true profiles inside one standard deviation, by annulus.",
    ),
    "shapes": Plate(
        _of_channels(figures.shapes_figure), "Shapes.",
        "Offsets of the highest peak and of the centroid from the true ones, error of the ellipticity, and angle "
        "between the major axes (45 deg by chance), inside R500c: median and 16-84%. Below: shares of peaks that "
        "are found and that are true, with what chance would give as short bars.",
    ),
}  # fmt: skip


def draw(material: Material) -> Iterator[tuple[str, Figure, Plate]]:
    """Name, figure and plate of every figure for which there is material."""
    for name, plate in PLATES.items():
        for suffix, figure in plate.draw(material).items():
            yield name + suffix, figure, plate
