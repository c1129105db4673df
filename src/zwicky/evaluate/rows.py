"""One map reduced to a row of small numbers: powers, masses, profiles, counts. All measures are statistics of rows.

A row is a dict of arrays, each of the same shape for every map, that can be kept in a file in place of the samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zwicky.evaluate import calibration, metrics
from zwicky.products import aperture_mask, default_profile_edges, radial_profile

Array = NDArray[Any]
Row = dict[str, Array]

APERTURES: tuple[str, ...] = ("map", "r500c", "r200m")
Z_EDGES: Array = np.linspace(-5.0, 5.0, 51)  # histogram of standardised errors


@dataclass(frozen=True)
class MapGrid:
    """The axes of the measures of a set of maps.

    Args:
        pixels: along a side. pixel_kpc: side of a pixel [kpc, proper].
        h: Hubble constant in 100 km/s/Mpc. redshift: of the maps; wavenumbers are comoving.
    """

    pixels: int
    pixel_kpc: float
    h: float
    redshift: float = 0.0

    @property
    def pixel_mpc(self) -> float:
        """Side of a pixel [Mpc, comoving]."""
        return self.pixel_kpc / 1e3 * (1 + self.redshift)

    @property
    def k_edges(self) -> Array:
        """Edges of the bins of k, (K + 1,) [h / Mpc, comoving]."""
        return metrics.default_k_edges(self.pixels, self.pixel_mpc, h=self.h)

    @property
    def k(self) -> Array:
        """Mean wavenumber of the modes of each bin, (K,) [h / Mpc, comoving]."""
        return metrics.radial_bins(self.pixels, self.pixel_mpc, self.k_edges, h=self.h)[0]

    @property
    def edges_kpc(self) -> Array:
        """Edges of the annuli of profiles, (R + 1,) [kpc, proper]."""
        return default_profile_edges(self.pixels, self.pixel_kpc)


def map_rows(
    truth: Array, samples: Array, grid: MapGrid, r500c_kpc: ArrayLike, r200m_kpc: ArrayLike, rng: np.random.Generator
) -> list[Row]:
    """The rows of maps (N, P, P) and samples (N, S, P, P) of clusters with these radii (N,); see `map_row`."""
    each = zip(truth, samples, np.asarray(r500c_kpc, float), np.asarray(r200m_kpc, float), strict=True)
    return [map_row(t, x, grid, r500c, r200m, rng) for t, x, r500c, r200m in each]


def map_row(t: Array, x: Array, grid: MapGrid, r500c_kpc: float, r200m_kpc: float, rng: np.random.Generator) -> Row:
    """The numbers of one map; of a map with NaN or infinity its flags only.

    Args:
        t: truth (P, P) [Msun / kpc^2]. x: samples (S, P, P).
        r500c_kpc, r200m_kpc: of the cluster [kpc, proper].
        rng: for ties of ranks.
    """
    flags = map_flags(t, x)
    if flags["bad_truth"] or flags["bad_samples"]:
        return flags
    t, x = t[None].astype(float), x[None].astype(float)
    return {
        **flags,
        "powers": np.concatenate(metrics.posterior_powers(t, x, grid.pixel_mpc, grid.k_edges, h=grid.h)),
        **_mass_row(t, x, (r500c_kpc, r200m_kpc), grid, rng),
        **_profile_row(t, x, grid),
        **_pixel_row(t, x, rng),
    }


def map_flags(t: Array, x: Array) -> Row:
    """What makes the numbers of a map void, each true or false; arguments as of `map_row`."""
    finite = bool(np.isfinite(x).all())
    return {
        "bad_truth": np.array(not np.isfinite(t).all()),
        "bad_samples": np.array(not finite),
        "constant": np.array(finite and flat(x.reshape(len(x), -1).T)),
        "no_width": np.array(finite and flat(x)),
    }


def flat(values: Array) -> bool:
    """Whether the values do not change along axis 0, to one part in a million."""
    return bool(np.ptp(values, axis=0).max() <= 1e-6 * np.abs(values).max())


def _mass_row(t: Array, x: Array, radii_kpc: tuple[float, ...], grid: MapGrid, rng: np.random.Generator) -> Row:
    """Masses [Msun] in the apertures, (A,) each."""
    circles = [aperture_mask(grid.pixels, grid.pixel_kpc, float(radius)) for radius in radii_kpc]
    weights = np.stack([np.ones(t.shape[-2:]), *circles]).reshape(len(APERTURES), -1) * grid.pixel_kpc**2
    M, M_x = t.reshape(1, -1) @ weights.T, x.reshape(*x.shape[:2], -1) @ weights.T
    std, u = metrics.posterior_std(M_x)[0], calibration.pit(M_x, M, rng)[0]
    crps = metrics.crps(M_x, M)[0]
    return {"mass": M[0], "mass_pred": M_x.mean(1)[0], "mass_std": std, "mass_pit": u, "mass_crps": crps}


def _profile_row(t: Array, x: Array, grid: MapGrid) -> Row:
    both = radial_profile(np.concatenate([t, x[0]]), grid.edges_kpc, grid.pixel_kpc)
    return {"profile": both[0], "profile_samples": both[1:]}


def _pixel_row(t: Array, x: Array, rng: np.random.Generator) -> Row:
    m = x.mean(1)
    z = metrics.standardised_error(m, t, metrics.posterior_std(x))
    u = calibration.pit(x, t, rng)
    moments = np.array([metrics.nan_mean(z.ravel()), metrics.nan_mean(z.ravel() ** 2)])
    ratio = np.divide(m, t, out=np.full(t.shape, np.nan), where=t > 0) - 1.0
    return {
        "z_counts": np.histogram(z[np.isfinite(z)], bins=Z_EDGES)[0], "z_moments": moments,
        "covered": np.array(calibration.coverage(x, t)), "levels": calibration.coverage_at_levels(u),
        "ranks": calibration.rank_histogram(u), "ratio": ratio.ravel().astype(np.float32),
        "crps": np.array([metrics.crps(x, t).mean(), t.mean()]),
    }  # fmt: skip
