"""One reconstruction: the observed maps beside what is read off its posterior."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib import rc_context
from matplotlib.figure import Figure

from zwicky.evaluate.figures.images import INPUT_MAP, add_bar, add_tag, colours, draw_map, scale
from zwicky.evaluate.figures.style import PAGE, STYLE, Array, name, new_figure, title, unit_label
from zwicky.products import SURFACE_DENSITY

STD = "Std. dev."


def reconstruction(
    inputs: Mapping[str, Array],
    truth: Mapping[str, Array] | None,
    mean: Mapping[str, Array],
    std: Mapping[str, Array],
    sample: Mapping[str, Array],
    pixel_kpc: float,
    labels: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
) -> Figure:
    """The observed maps beside truth, posterior mean, standard deviation and one sample of each channel.

    Args:
        inputs: observed maps by channel, (P, P); they fill columns from the left, top to bottom.
        truth: true maps by channel, or None to leave the column out.
        mean, std, sample: maps by channel, (P, P) [Msun / kpc^2]; one row per channel of `mean`.
        pixel_kpc: side of a pixel [kpc].
        labels, units: names and units by channel for titles and colour bars, if other than the channel names.
    """
    labels, units = dict(labels or {}), dict(units or {})
    columns: dict[str, Mapping[str, Array]] = {"Truth": truth} if truth is not None else {}
    columns |= {"Mean": mean, STD: std, "Sample": sample}
    rows, n_inputs = len(mean), -(-len(inputs) // len(mean))
    with rc_context(STYLE):
        n = n_inputs + len(columns)
        figure, axes = new_figure(rows, n, PAGE / n + 0.6, PAGE, square=True, sharex=True, sharey=True)
        _draw_inputs(figure, axes[:, :n_inputs], inputs, pixel_kpc, labels, units)
        for row, channel in zip(axes[:, n_inputs:], mean, strict=True):
            images = {heading: maps[channel] for heading, maps in columns.items()}
            _draw_row(figure, row, images, channel, pixel_kpc, labels, units)
        for ax, heading in zip(axes[0, n_inputs:], columns, strict=True):
            ax.set_title(heading)
        for ax in axes[:, 0]:
            ax.set_ylabel("y [Mpc]")
        for ax in axes[-1]:
            ax.set_xlabel("x [Mpc]")
    return figure


def _draw_inputs(
    figure: Figure, axes: Array, inputs: Mapping[str, Array], pixel_kpc: float,
    labels: dict[str, str], units: dict[str, str],
) -> None:  # fmt: skip
    for ax, (channel, image) in zip(axes.T.ravel(), inputs.items(), strict=False):
        picture = draw_map(ax, image, pixel_kpc, scale([image]), INPUT_MAP)
        add_bar(figure, picture, ax, units.get(channel, ""))
        add_tag(ax, labels.get(channel, name(channel)))
    for ax in axes.T.ravel()[len(inputs) :]:
        ax.set_axis_off()
    if axes.size:
        axes[0, 0].set_title("Input")


def _draw_row(
    figure: Figure, row: Array, maps: dict[str, Array], channel: str, pixel_kpc: float,
    labels: dict[str, str], units: dict[str, str],
) -> None:  # fmt: skip
    shared = scale([image for heading, image in maps.items() if heading != STD])
    unit = units.get(channel, unit_label(SURFACE_DENSITY))
    for ax, (heading, image) in zip(row, maps.items(), strict=True):
        norm = scale([image]) if heading == STD else shared
        add_bar(figure, draw_map(ax, image, pixel_kpc, norm, colours(channel)), ax, unit)
        add_tag(ax, labels.get(channel, title(channel)))
