"""Who is judged: a trained model, or a baseline fitted to the set of maps, behind one interface."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zwicky.dataset.store import MapSet, Seen
from zwicky.evaluate.baselines import BASELINES, fit_baseline
from zwicky.io import UserError
from zwicky.model import SHIPPED
from zwicky.products import SURFACE_DENSITY
from zwicky.reconstruct import DivergedError, Model, load_model

Draw = Callable[[Seen, int, int], dict[str, NDArray]]
TOTAL = ("gas", "dark_matter")  # of simulations without stars
TARGETS, INPUTS = ("gas", "dark_matter"), ("compton_y", "xray")  # of baselines without a model beside them


@dataclass(frozen=True)
class Contestant:
    """One of those that are judged.

    Args:
        name: of its report. id: fingerprint of what it is.
        targets: channels judged. inputs: channels it is given.
        draw: (what is seen of a sightline, number of samples, seed) -> {target: (S, P, P)}.
        most: sightlines to judge it on, if fewer than all.
    """

    name: str
    id: str
    targets: tuple[str, ...]
    inputs: tuple[str, ...]
    draw: Draw
    most: int | None = None


def contestants(
    names: Sequence[str | Path],
    maps: MapSet,
    sampler: str,
    steps: int,
    device: str = "cpu",
    given: Sequence[str] | None = None,
    prior: str = "training",
) -> list[Contestant]:
    """Those of these names: "laptop", "runs/a/model", "wiener", each with @N to be judged on N sightlines only.

    Args:
        given: the channels that they are given, None for all that they take. prior: of the mass, for models.

    Raises:
        UserError: there is none of that name, two have one name, or it does not fit the maps.
    """
    asked = [_parse(name) for name in names]
    models = {name: load_model(name, device) for name, _ in asked if not _is_baseline(name)}
    first = next(iter(models.values()), None)
    targets = _judged(first, maps) if first else TARGETS
    inputs = first.config.inputs if first else tuple(name for name in INPUTS if name in maps.units)
    inputs = inputs if given is None else tuple(given)
    found = []
    for name, most in asked:
        if name in models:
            taken = models[name].config.inputs
            unknown = [channel for channel in given or () if channel not in taken]
            if unknown:
                raise UserError(f"the model {models[name].name} takes {', '.join(taken)}, not {', '.join(unknown)}.")
            found.append(_of_model(models[name], maps, most, sampler, steps, taken if given is None else inputs, prior))
        else:
            if prior != "training":
                raise UserError(f"the baseline {name} knows no prior of the mass; judge it without one.")
            found.append(_of_baseline(name, maps, most, targets, inputs))
    if len({c.name for c in found}) < len(found):
        raise UserError("the models to compare must have different names.")
    return found


def _parse(name: str | Path) -> tuple[str, int | None]:
    """A name and the number behind its @, if it has one."""
    text, at, number = str(name).rpartition("@")
    if not at or not number.isdigit():
        return str(name), None
    if int(number) < 1:
        raise UserError(f"{name}: a model is judged on at least one sightline.")
    return text, int(number)


def _is_baseline(name: str) -> bool:
    return name in BASELINES and not (Path(name) / "config.json").exists() and not (SHIPPED / name).exists()


def _of_model(
    model: Model, maps: MapSet, most: int | None, sampler: str, steps: int, inputs: tuple[str, ...], prior: str
) -> Contestant:
    _require_fit(model, maps)
    judged = _judged(model, maps)

    def draw(seen: Seen, n: int, seed: int) -> dict[str, NDArray]:
        try:
            x = model.sample(
                seen.images, maps.redshift, maps.pixel_kpc, n, seed, masks=seen.masks, noise=seen.noise,
                fwhm_kpc=seen.fwhm_kpc, sampler=sampler or None, steps=steps or None, prior=prior,
            ).samples  # fmt: skip
        except DivergedError:  # counted and left out, as all maps that are not finite
            x = dict.fromkeys(model.config.targets, np.full((n, maps.pixels, maps.pixels), np.nan, np.float32))
        return {name: x[name] if name in x else sum(x[part] for part in TOTAL) for name in judged}  # type: ignore[misc]

    return Contestant(model.name, model.id, judged, inputs, draw, most)


def _of_baseline(
    name: str, maps: MapSet, most: int | None, targets: tuple[str, ...], inputs: tuple[str, ...]
) -> Contestant:
    baseline = fit_baseline(name, maps, targets, inputs)

    def draw(seen: Seen, n: int, seed: int) -> dict[str, NDArray]:
        return baseline.sample(seen.images, n, np.random.default_rng(seed))

    text = "/".join([name, *baseline.targets, *baseline.inputs, maps.fingerprint])
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Contestant(name, key, baseline.targets, baseline.inputs, draw, most)


def _judged(model: Model, maps: MapSet) -> tuple[str, ...]:
    """The targets that are surface densities, for which the measures are defined, and their sum if the maps have it."""
    c = model.config
    own = tuple(name for name in c.targets if c.units[name] == SURFACE_DENSITY)
    whole = set(TOTAL) <= set(own) and "total" in maps.units and "stars" not in maps.units
    return (*own, "total") if whole and "total" not in own else own


def _require_fit(model: Model, maps: MapSet) -> None:
    """Check that the maps are on the grid of the model and hold what it needs.

    Raises:
        UserError: they do not.
    """
    c = model.config
    if maps.pixels != c.pixels or abs(maps.pixel_kpc / c.pixel_kpc - 1) > 1e-6:
        raise UserError(
            f"{maps.path} has {maps.pixels} pixels of {maps.pixel_kpc:g} kpc a side and the model {model.name} "
            f"{c.pixels} of {c.pixel_kpc:g} kpc."
        )
    missing = {*c.targets, *c.inputs} - set(maps.units) | {"m200m", "r200m", "r500c"} - set(maps.halo)
    if missing:
        raise UserError(f"{maps.path} lacks {', '.join(sorted(missing))}.")
