"""The judge judged: maps whose exact posterior is known, through every measure, as they are and with known faults.

    t = t_0 + d,   <|d_k|^2> = P(k),   P ~ k^-2.5           prior: a Gaussian field on a mean column
    y_k = B_k t_k + n_k,   <|n_k|^2> = N                    a noisy observation through a beam
    V_k = 1 / (1 / P + B^2 / N),   m_k = V_k B_k y_k / N    posterior of each mode: Gaussian, independent of the others

Samples are m + sqrt(V) times white noise. Of this posterior b_sample = 1, b_mean = r_mean, r_sample = r_mean^2, and
coverages, ranks and TARP are those of chance. The faults are a posterior 20% too wide, 20% too narrow, and one that is
moved by half of its own standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from zwicky.evaluate.battery import evaluate_channel
from zwicky.grid import mode_counts, waves
from zwicky.io import UserError

Array = NDArray[Any]

PIXELS, PIXEL_KPC, H = 64, 100.0, 0.7
MEAN, RMS = 1.0e8, 2.0e7  # column and its rms [Msun / kpc^2]: all but never negative
INDEX = -2.5  # of the power spectrum of the prior
BEAM = 1.5  # sigma of the beam [pixels]
NOISE = 0.3  # rms of the white noise, over that of the field
LIMIT = 4.0  # standard errors that a measure may be off: one false alarm in 1e4 for each
FAULTS: dict[str, tuple[float, float]] = {  # factor of the width, shift in standard deviations
    "none": (1.0, 0.0), "20% too wide": (1.2, 0.0), "20% too narrow": (0.8, 0.0), "half a sigma off": (1.0, 0.5),
}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One measure of the battery: what it is, what it should be, and by how many standard errors it is off."""

    name: str
    value: float
    ideal: float
    error: float

    @property
    def off(self) -> float:
        """Distance from the ideal in standard errors; infinite where the measure is not a number."""
        off = (self.value - self.ideal) / self.error
        return float(abs(off)) if np.isfinite(off) else np.inf


def self_check(
    seed: int = 0, maps: int = 64, samples: int = 50, progress: Callable[[int, int], None] | None = None
) -> dict[str, list[Check]]:
    """The checks of the exact posterior ("none") and of each fault, for fields drawn with this seed.

    Args:
        maps: true maps. samples: of the posterior of each. progress: called as progress(done, in all).

    Raises:
        ValueError: there are too few maps or samples for a verdict.
    """
    if maps < 16 or samples < 10:
        raise ValueError(f"a self-check needs at least 16 maps and 10 samples, not {maps} and {samples}.")
    truth, mean, deviation = _exact(maps, samples, np.random.default_rng([seed, 0]))
    width = deviation.std(axis=1, ddof=1, keepdims=True)
    found = {}
    for i, (fault, (factor, shift)) in enumerate(FAULTS.items()):
        x = mean[:, None] + factor * deviation + shift * width
        found[fault] = _checks(truth, x, np.random.default_rng([seed, 1]))
        if progress:
            progress(i + 1, len(FAULTS))
    return found


def require_sound(found: dict[str, list[Check]]) -> None:
    """Raise UserError unless the exact posterior passes every check and each fault fails at least one."""
    wrong = [c for c in found["none"] if c.off > LIMIT]
    if wrong:
        c = wrong[0]
        raise UserError(
            f"the measures are not sound: {c.name} of an exact posterior is {c.value:.4g}, {c.off:.1f} standard errors "
            f"from {c.ideal:.4g}."
        )
    missed = [fault for fault, checks in found.items() if fault != "none" and max(c.off for c in checks) <= LIMIT]
    if missed:
        raise UserError(f"the measures are not sound: they do not notice a posterior that is {missed[0]}.")


def _exact(maps: int, samples: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Truth (N, P, P), posterior mean (N, P, P) and deviations of samples from it (N, S, P, P) [Msun / kpc^2]."""
    k = waves(PIXELS) / PIXELS
    k[0, 0] = k[0, 1]  # the mean of a map varies as its longest modes do
    P = k**INDEX
    P *= (RMS * PIXELS) ** 2 / (P * mode_counts(PIXELS)).sum()  # so that the rms over the map is RMS
    B, N = np.exp(-0.5 * (2 * np.pi * k * BEAM) ** 2), (NOISE * RMS) ** 2 * np.ones_like(k)
    V = 1 / (1 / P + B**2 / N)
    d, n = (_modes(S, (maps,), rng) for S in (P, N))
    y = B * d + n
    mean = V * B / N * y
    deviation = np.fft.irfft2(_modes(V, (maps, samples), rng), s=(PIXELS, PIXELS))
    truth, mean = (MEAN + np.fft.irfft2(modes, s=(PIXELS, PIXELS)) for modes in (d, mean))
    return truth, mean, deviation


def _modes(power: Array, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """rfft2 of Gaussian fields whose modes have this mean |rfft2|^2 / PIXELS^2."""
    return np.fft.rfft2(rng.standard_normal((*shape, PIXELS, PIXELS))) * np.sqrt(power)


def _checks(truth: Array, x: Array, rng: np.random.Generator) -> list[Check]:
    """The battery on N independent maps, each a cluster of its own."""
    n, width = len(truth), PIXELS * PIXEL_KPC
    result = evaluate_channel(
        truth, x, pixel_kpc=PIXEL_KPC, h=H, r200m_kpc=np.full(n, 0.3 * width), r500c_kpc=np.full(n, 0.15 * width),
        m200m=np.full(n, 3e14), cluster_ids=np.arange(n), rng=rng,
    )["bins"]["all"]
    return [*_power_checks(result["power"]), *_coverage_checks(result, n), *_shape_checks(result, n)]


def _power_checks(power: dict[str, Any]) -> list[Check]:
    """b_sample = 1, b_mean = r_mean, by powers pooled over maps, as they are and with weights."""
    checks = []
    for scale in ("large", "small"):
        for name, ideal in (("b_sample_pooled", 1.0), ("b_sample_weighted", 1.0), ("b_minus_r_debiased", 0.0)):
            checks.append(Check(f"{name}, {scale} scales", power[name][scale], ideal, power[name][f"{scale}_error"]))
    return checks


def _coverage_checks(result: dict[str, Any], n: int) -> list[Check]:
    """Coverage of one sigma of pixels, masses and annuli, and the error of the mean that the spread promises."""
    pixel = result["pixel"]
    checks = [Check("coverage of pixels", pixel["coverage"], pixel["coverage_target"], pixel["coverage_error"]),
              Check("standardised error of pixels, mean", pixel["z_mean"], 0.0, pixel["z_mean_error"])]  # fmt: skip
    for name, mass in result["mass"].items():
        target = mass["coverage_target"]
        error = np.sqrt(target * (1 - target) / n)
        checks.append(Check(f"coverage of masses, {name}", mass["coverage"], target, error))
    profile, settling = result["profile"], result["convergence"]
    checks.append(Check("coverage of annuli", profile["coverage_all"], profile["coverage_target"],
                        profile["coverage_all_error"]))  # fmt: skip
    for i, S in enumerate(settling["samples"]):
        name = f"error^2 of the mean of {S} over variance"
        checks.append(Check(name, settling["skill"][i], settling["skill_target"][i], settling["skill_error"][i]))
    return checks


def _shape_checks(result: dict[str, Any], n: int) -> list[Check]:
    """Ranks of masses and annuli, the p-value of chi^2 as a normal deviate, and TARP of profiles."""
    p = {f"masses, {name}": mass["rank_p_value"] for name, mass in result["mass"].items()}
    p |= {f"annulus {i + 1}": value for i, value in enumerate(result["profile"]["rank_p_value"])}
    checks = [Check(f"ranks of {name}", max(0.0, float(norm.isf(value))), 0.0, 1.0) for name, value in p.items()]
    tarp = result["tarp"]
    checks.append(Check("TARP of profiles, largest deviation", tarp["max_deviation"], 0.0, tarp["limit_95"] / 1.36))
    return checks
