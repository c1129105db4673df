"""What can be mapped: a channel turns particles into weights whose sum per area is an observable.

    map = sum_i weight_i w_i(pixel) / area(pixel) [kpc^2],     or the ratio of two such sums: a weighted mean

A new channel is one file here with one function, and one line in CHANNELS. Channels with numbers in their names, as
`xray_0.5-2keV`, are made by a function of these numbers, and one line in FAMILIES.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zwicky.observe.channels.lensing import convergence
from zwicky.observe.channels.mass import mass, mean_column
from zwicky.observe.channels.sz import brightness, compton_y, kinetic, temperature_decrement
from zwicky.observe.channels.temperature import emission, spectroscopic, times_temperature
from zwicky.observe.channels.xray import band, xray
from zwicky.observe.scene import Weight


@dataclass(frozen=True)
class Channel:
    """One kind of map.

    Args:
        name: key in CHANNELS, or what a family made it of.
        unit: of the map, an astropy unit string.
        label: for figures, LaTeX allowed.
        species: the particles that contribute, of "gas", "dark_matter" and "stars"; their maps are added. Where
            several contribute, a snapshot may lack some of them.
        weight: of (species, scene), (P,) such that sum(weight) / area [kpc^2] is in `unit`. The species is that of a
            cube cut out by `render.cut_cube` and turned: proper positions [kpc], proper density [Msun / Mpc^3],
            velocities [km/s] whose third component points to the observer.
        over: weights of a mean: the map is sum(weight) / sum(over) in `unit`, 0 where there is nothing.
    """

    name: str
    unit: str
    label: str
    species: tuple[str, ...]
    weight: Weight
    over: Weight | None = None


GAS, ALL = ("gas",), ("gas", "dark_matter", "stars")
CHANNELS: dict[str, Channel] = {
    c.name: c
    for c in (
        Channel("gas", "Msun / kpc2", r"$\Sigma_\mathrm{gas}$", GAS, mass),
        Channel("dark_matter", "Msun / kpc2", r"$\Sigma_\mathrm{DM}$", ("dark_matter",), mass),
        Channel("stars", "Msun / kpc2", r"$\Sigma_\star$", ("stars",), mass),
        Channel("total", "Msun / kpc2", r"$\Sigma_\mathrm{tot}$", ALL, mass),
        Channel("compton_y", "", r"$y$", GAS, compton_y),
        Channel("ksz", "", r"$\Delta T_\mathrm{kSZ} / T$", GAS, kinetic),
        Channel("xray", "erg / (s cm2)", r"$S_X$", GAS, xray),
        Channel("temperature", "keV", r"$T_\mathrm{ew}$", GAS, times_temperature(emission), emission),
        Channel("temperature_sl", "keV", r"$T_\mathrm{sl}$", GAS, times_temperature(spectroscopic), spectroscopic),
    )
}

NUMBER = r"(\d+(?:\.\d+)?)"
FAMILIES: dict[str, tuple[str, Callable[..., Channel]]] = {  # what to write: the pattern, and what makes the channel
    "xray_<keV>-<keV>keV": (
        rf"xray_{NUMBER}-{NUMBER}keV",
        lambda name, low, high: Channel(
            name, "erg / (s cm2)", rf"$S_X$, {low:g}-{high:g} keV", GAS, band(low, high)
        ),
    ),
    "xray_photons_<keV>-<keV>keV": (
        rf"xray_photons_{NUMBER}-{NUMBER}keV",
        lambda name, low, high: Channel(
            name, "1 / (s cm2)", rf"$N_X$, {low:g}-{high:g} keV", GAS, band(low, high, photons=True)
        ),
    ),
    "sz_<GHz>GHz": (
        rf"sz_{NUMBER}GHz",
        lambda name, ghz: Channel(name, "uK", rf"$\Delta T_\mathrm{{SZ}}$, {ghz:g} GHz", GAS, brightness(ghz)),
    ),
    "convergence_z<source>": (
        rf"convergence_z{NUMBER}", lambda name, z: Channel(name, "", rf"$\kappa$, $z_s = {z:g}$", ALL, convergence(z)),
    ),
}  # fmt: skip


def channel(name: str) -> Channel:
    """The channel of this name.

    Raises:
        ValueError: it is neither in CHANNELS nor of one of FAMILIES.
    """
    if name in CHANNELS:
        return CHANNELS[name]
    for pattern, make in FAMILIES.values():
        match = re.fullmatch(pattern, name)
        if match:
            return make(name, *map(float, match.groups()))
    raise ValueError(f"unknown channel {name!r}; the known ones are: {', '.join([*CHANNELS, *FAMILIES])}.")


def known_channels(names: Sequence[str]) -> list[Channel]:
    """The channels of these names, each once.

    Raises:
        ValueError: one is not known.
    """
    return [channel(name) for name in dict.fromkeys(names)]


__all__ = ["CHANNELS", "FAMILIES", "Channel", "channel", "known_channels", "mean_column", "temperature_decrement"]
