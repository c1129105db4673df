"""What can be mapped: a channel turns particles into weights whose sum per area is an observable.

    map = sum_i weight_i w_i(pixel) / area(pixel) [kpc^2],     or the ratio of two such sums: a weighted mean

A new channel is one file here with one function, and one line in CHANNELS. Channels with numbers or bands in their
names, as `xray_0.5-2keV`, are made by a function of these, and one line in FAMILIES. A channel may also be made of the
maps of others, as the shear of the convergence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from zwicky.observe.channels.galaxies import light, members, star_light
from zwicky.observe.channels.lensing import convergence
from zwicky.observe.channels.mass import mass, mean_column
from zwicky.observe.channels.shear import reduced_shear
from zwicky.observe.channels.sz import brightness, compton_y, kinetic, temperature_decrement
from zwicky.observe.channels.temperature import emission, spectroscopic, times_temperature
from zwicky.observe.channels.xray import band, xray
from zwicky.observe.scene import Derived, Scene, Weight


@dataclass(frozen=True)
class Channel:
    """One kind of map.

    Args:
        name: key in CHANNELS, or what a family made it of.
        unit: of the map, an astropy unit string.
        label: for figures, LaTeX allowed.
        species: the particles that contribute, of "gas", "dark_matter", "stars" and "galaxies"; their maps are added.
            Where several contribute, a snapshot may lack some of them.
        weight: of (species, scene), (P,) such that sum(weight) / area [kpc^2] is in `unit`. The species is that of a
            cube cut out by `render.cut_cube` and turned: proper positions [kpc], proper density [Msun / Mpc^3],
            velocities [km/s] whose third component points to the observer. None where the map is derived.
        over: weights of a mean: the map is sum(weight) / sum(over) in `unit`, 0 where there is nothing.
        points: each particle counts at its place alone, whatever its kernel.
        derived: from which other maps, and how, this one is made.
    """

    name: str
    unit: str
    label: str
    species: tuple[str, ...]
    weight: Weight | None
    over: Weight | None = None
    points: bool = False
    derived: Derived | None = None


GAS, ALL, GALAXIES = ("gas",), ("gas", "dark_matter", "stars"), ("galaxies",)
CHANNELS: dict[str, Channel] = {
    c.name: c
    for c in (
        Channel("gas", "Msun / kpc2", r"$\Sigma_\mathrm{gas}$", GAS, mass),
        Channel("dark_matter", "Msun / kpc2", r"$\Sigma_\mathrm{DM}$", ("dark_matter",), mass),
        Channel("stars", "Msun / kpc2", r"$\Sigma_\star$", ("stars",), mass),
        Channel("total", "Msun / kpc2", r"$\Sigma_\mathrm{tot}$", ALL, mass),
        Channel("galaxies", "Msun / kpc2", r"$\Sigma_\mathrm{gal}$", GALAXIES, mass),
        Channel("compton_y", "", r"$y$", GAS, compton_y),
        Channel("ksz", "", r"$\Delta T_\mathrm{kSZ} / T$", GAS, kinetic),
        Channel("xray", "erg / (s cm2)", r"$S_X$", GAS, xray),
        Channel("temperature", "keV", r"$T_\mathrm{ew}$", GAS, times_temperature(emission), emission),
        Channel("temperature_sl", "keV", r"$T_\mathrm{sl}$", GAS, times_temperature(spectroscopic), spectroscopic),
    )
}

NUMBER, BAND = r"(\d+(?:\.\d+)?)", "([ugriz])"
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
    "shear<1|2>_z<source>": (
        rf"shear([12])_z{NUMBER}",
        lambda name, i, z: Channel(
            name, "", rf"$g_{i:g}$, $z_s = {z:g}$", (), None, derived=reduced_shear(int(i), f"convergence_{name[7:]}")
        ),
    ),
    "members_<log10 Msun>": (
        rf"members_{NUMBER}",
        lambda name, log_m: Channel(
            name, "1 / Mpc2", rf"$\Sigma_N (> 10^{{{log_m:g}}} M_\odot)$", GALAXIES, members(log_m), points=True
        ),
    ),
    "light_<ugriz>": (
        f"light_{BAND}", lambda name, b: Channel(name, "Lsun / kpc2", rf"$I_{b}$", ("stars",), star_light(b)),
    ),
    "galaxy_light_<ugriz>": (
        f"galaxy_light_{BAND}", lambda name, b: Channel(name, "Lsun / kpc2", rf"$I_{b}$", GALAXIES, light(b)),
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
            return make(name, *(float(part) if part[0].isdigit() else part for part in match.groups()))
    raise ValueError(f"unknown channel {name!r}; the known ones are: {', '.join([*CHANNELS, *FAMILIES])}.")


def is_channel(name: str) -> bool:
    """Whether there is a channel of this name."""
    try:
        channel(name)
    except ValueError:
        return False
    return True


def known_channels(names: Sequence[str]) -> list[Channel]:
    """The channels of these names, each once.

    Raises:
        ValueError: one is not known.
    """
    return [channel(name) for name in dict.fromkeys(names)]


def kinds_of(names: Iterable[str]) -> set[str]:
    """The kinds of particles that channels, or those they are made of, are made from."""
    wanted = known_channels(tuple(names))
    return {kind for c in wanted for kind in (*c.species, *(kinds_of(c.derived.of) if c.derived else ()))}


def wide_enough(names: Iterable[str], width_kpc: float, scene: Scene) -> float:
    """Width of the widest map that is made on the way to maps of these channels, proper [kpc]."""
    made_of = [c.derived for c in known_channels(tuple(names)) if c.derived]
    return max([width_kpc, *(wide_enough(d.of, width_kpc + 2 * d.margin(width_kpc, scene), scene) for d in made_of)])


__all__ = [
    "CHANNELS", "FAMILIES", "Channel", "Derived", "channel", "is_channel", "kinds_of", "known_channels", "mean_column",
    "temperature_decrement", "wide_enough",
]  # fmt: skip
