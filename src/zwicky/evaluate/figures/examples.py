"""Example sightlines: the images that go in and the true maps, and truth beside posterior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from zwicky.evaluate.figures.images import (
    DIFFERENCE_MAP,
    INPUT_MAP,
    add_bar,
    add_circle,
    add_tag,
    colours,
    draw_map,
    scale,
)  # fmt: skip
from zwicky.evaluate.figures.style import COLUMN, PAGE, STYLE, Array, new_figure, title, unit_label
from zwicky.products import SURFACE_DENSITY, ratio

COLUMNS: tuple[str, ...] = ("Truth", "Mean", "Sample", "Std. dev.", "(mean $-$ truth) / std.")
PULL: float = 3.0  # end of the scale of standardised errors


class Example(TypedDict):
    """One sightline of a report.

    inputs, truth, mean, std, sample: maps by channel, (P, P). pixel_kpc: side of a pixel [kpc, proper].
    halo: m200m [Msun], r200m and r500c [kpc, proper]. units: by channel, astropy strings.
    """

    inputs: Mapping[str, Array]
    truth: Mapping[str, Array]
    mean: Mapping[str, Array]
    std: Mapping[str, Array]
    sample: Mapping[str, Array]
    pixel_kpc: float
    halo: Mapping[str, float]
    units: NotRequired[Mapping[str, str]]


def images_figure(examples: Sequence[Example]) -> Figure:
    """Inputs and true maps, a row per example and a column per channel, each channel on one scale for all clusters."""
    columns = {**examples[0]["inputs"], **examples[0]["truth"]}
    with rc_context(STYLE):
        figure, axes = _grid(examples, len(columns))
        for column, channel in zip(axes.T, columns, strict=True):
            kind = "inputs" if channel in examples[0]["inputs"] else "truth"
            maps = [e[kind][channel] for e in examples]  # type: ignore[literal-required]
            colour_map = INPUT_MAP if kind == "inputs" else colours(channel)
            _draw_column(figure, column, maps, examples, scale(maps), colour_map, _unit(examples, channel))
            column[0].set_title(title(channel))
    return figure


def maps_figure(examples: Sequence[Example], channel: str) -> Figure:
    """Truth, posterior mean, one sample, standard deviation and standardised error, a row per example.

    Truth, mean and sample of all examples have one scale.
    """
    with rc_context(STYLE):
        figure, axes = _grid(examples, len(COLUMNS))
        kinds = [[e[kind][channel] for e in examples] for kind in ("truth", "mean", "sample", "std")]
        truth, mean, _, std = kinds
        shared, unit = scale([*truth, *mean]), _unit(examples, channel)
        norms = [shared, shared, shared, scale(std)]
        for column, maps, norm in zip(axes.T, kinds, norms, strict=False):
            _draw_column(figure, column, maps, examples, norm, colours(channel), unit)
        pulls = [ratio(m - t, s) for t, m, s in zip(truth, mean, std, strict=True)]
        _draw_column(figure, axes[:, -1], pulls, examples, Normalize(-PULL, PULL), DIFFERENCE_MAP, "")
        for ax, heading in zip(axes[0], COLUMNS, strict=True):
            ax.set_title(heading)
    return figure


def slices_figure(slices: Mapping[str, Array], side_mpc: float, label: str = "") -> Figure:
    """Slices through a simulation, a panel per species, each on its own logarithmic scale.

    Args:
        slices: {species: (P, P)}. side_mpc: of the slice [Mpc]. label: of the maps.
    """
    with rc_context(STYLE):
        figure, axes = new_figure(1, len(slices), 2.3, max(COLUMN, 1.7 * len(slices)), square=True, sharey=True)
        for ax, (species, image) in zip(axes[0], slices.items(), strict=True):
            picture = draw_map(ax, image, 1e3 * side_mpc / image.shape[-1], scale([image]), colours(species))
            add_bar(figure, picture, ax, label)
            ax.set(title=title(species), xlabel="x [Mpc]")
        axes[0, 0].set_ylabel("y [Mpc]")
    return figure


def _grid(examples: Sequence[Example], columns: int) -> tuple[Figure, Array]:
    width = max(COLUMN, min(PAGE, 1.4 * columns))
    shape = len(examples), columns, width / columns + 0.1, width
    figure, axes = new_figure(*shape, square=True, sharex=True, sharey=True)
    for ax, example in zip(axes[:, 0], examples, strict=True):
        ax.set_ylabel("y [Mpc]")
        add_tag(ax, rf"{_mass(example['halo']['m200m'])} M$_\odot$")
    for ax in axes[-1]:
        ax.set_xlabel("x [Mpc]")
    return figure, axes


def _mass(m: float) -> str:
    exponent = int(np.floor(np.log10(m)))
    return rf"{m / 10.0**exponent:.1f}$\times 10^{{{exponent}}}$"


def _unit(examples: Sequence[Example], channel: str) -> str:
    targets = dict.fromkeys(examples[0]["truth"], SURFACE_DENSITY)
    return unit_label({**targets, **examples[0].get("units", {})}.get(channel, ""))


def _draw_column(
    figure: Figure, column: Array, maps: Sequence[Array], examples: Sequence[Example], norm: Normalize,
    colour_map: str, unit: str,
) -> None:  # fmt: skip
    """One map per row of a column, a circle at R200m, and the colour bar that they share."""
    for ax, image, example in zip(column, maps, examples, strict=True):
        picture = draw_map(ax, image, example["pixel_kpc"], norm, colour_map)
        colour = "0.3" if colour_map == DIFFERENCE_MAP else "white"
        add_circle(ax, float(example["halo"]["r200m"]), colour)
    add_bar(figure, picture, list(column), unit)
