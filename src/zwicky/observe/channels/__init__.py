"""What can be mapped: a channel turns particles into weights whose sum per area is an observable.

    map = sum_i weight_i w_i(pixel) / area(pixel) [kpc^2]

A new channel is one file here with one function, and one line in CHANNELS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zwicky.observe.channels.mass import mass, mean_column
from zwicky.observe.channels.sz import compton_y, temperature_decrement
from zwicky.observe.channels.xray import xray
from zwicky.simulate.state import Species


@dataclass(frozen=True)
class Channel:
    """One kind of map.

    Args:
        name: key in CHANNELS.
        unit: of the map, an astropy unit string.
        label: for figures, LaTeX allowed.
        species: the particles that contribute, of "gas", "dark_matter" and "stars"; their maps are added. Where
            several contribute, a snapshot may lack some of them.
        weight: of (species, scale_factor), (P,) such that sum(weight) / area [kpc^2] is in `unit`. The species is
            that of a cube cut out by `render.cut_cube`: proper positions [kpc] and proper density [Msun / Mpc^3].
            The scale factor is that of the snapshot, for channels that depend on redshift.
    """

    name: str
    unit: str
    label: str
    species: tuple[str, ...]
    weight: Callable[[Species, float], NDArray[np.float64]]

CHANNELS: dict[str, Channel] = {
    "gas": Channel("gas", "Msun / kpc2", r"$\Sigma_\mathrm{gas}$", ("gas",), mass),
    "dark_matter": Channel("dark_matter", "Msun / kpc2", r"$\Sigma_\mathrm{DM}$", ("dark_matter",), mass),
    "stars": Channel("stars", "Msun / kpc2", r"$\Sigma_\star$", ("stars",), mass),
    "total": Channel("total", "Msun / kpc2", r"$\Sigma_\mathrm{tot}$", ("gas", "dark_matter", "stars"), mass),
    "compton_y": Channel("compton_y", "", r"$y$", ("gas",), compton_y),
    "xray": Channel("xray", "erg / (s cm2)", r"$S_X$", ("gas",), xray),
}

__all__ = ["CHANNELS", "Channel", "mean_column", "temperature_decrement"]
