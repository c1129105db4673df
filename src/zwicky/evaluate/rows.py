"""One map reduced to a row of small numbers: powers, masses, profiles, counts. All measures are statistics of rows.

A row is a dict of arrays, each of the same shape for every map, that can be kept in a file in place of the samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zwicky.evaluate import calibration, metrics, shapes
from zwicky.evaluate.convergence import prefix_means, prefix_sizes, prefix_variances
from zwicky.products import aperture_mask, default_profile_edges, radial_profile

Array = NDArray[Any]
Row = dict[str, Array]

APERTURES: tuple[str, ...] = ("map", "r500c", "r200m")
Z_EDGES: Array = np.linspace(-5.0, 5.0, 51)  # histogram of standardised errors
SINGLES: int = 10  # of the samples, looked at one by one for their shapes: any are as good as others
INPUT = "input_"  # before the name of a channel: its powers with the truth and with the inputs


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
    truth: Array,
    samples: Array,
    grid: MapGrid,
    r500c_kpc: ArrayLike,
    r200m_kpc: ArrayLike,
    rng: np.random.Generator,
    inputs: Mapping[str, Array] | None = None,
) -> list[Row]:
    """The rows of maps (N, P, P), samples (N, S, P, P) and inputs (N, P, P) of clusters with these radii (N,)."""
    images = [{name: maps[i] for name, maps in (inputs or {}).items()} for i in range(len(truth))]
    each = zip(truth, samples, np.asarray(r500c_kpc, float), np.asarray(r200m_kpc, float), images, strict=True)
    return [map_row(t, x, grid, r500c, r200m, rng, image) for t, x, r500c, r200m, image in each]


def map_row(
    t: Array,
    x: Array,
    grid: MapGrid,
    r500c_kpc: float,
    r200m_kpc: float,
    rng: np.random.Generator,
    inputs: Mapping[str, Array] | None = None,
) -> Row:
    """The numbers of one map; of a map with NaN or infinity its flags only.

    Args:
        t: truth (P, P) [Msun / kpc^2]. x: samples (S, P, P).
        r500c_kpc, r200m_kpc: of the cluster [kpc, proper].
        rng: for ties of ranks.
        inputs: images (P, P) on the same pixels by channel, the same channels for every map; where one is NaN or
            infinite, it counts as zero.
    """
    flags = map_flags(t, x)
    if flags["bad_truth"] or flags["bad_samples"]:
        return flags
    t, x = t[None].astype(float), x[None].astype(float)
    return {
        **flags,
        "powers": np.concatenate(metrics.posterior_powers(t, x, grid.pixel_mpc, grid.k_edges, h=grid.h)),
        **_input_row(t[0], inputs or {}, grid),
        **_mass_row(t, x, (r500c_kpc, r200m_kpc), grid, rng),
        **_profile_row(t, x, grid, rng),
        **_pixel_row(t, x, rng),
        **_convergence_row(t[0], x[0], grid),
        **_image_row(t, x),
        **_shape_row(t, x, (r500c_kpc, r200m_kpc), grid),
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


def _input_row(t: Array, inputs: Mapping[str, Array], grid: MapGrid) -> Row:
    """Of each input its cross powers with the truth and with every input, in the order of the row, (1 + I, K)."""
    images = [np.nan_to_num(np.asarray(image, dtype=float), posinf=0.0, neginf=0.0) for image in inputs.values()]
    others = np.stack([t, *images])
    powers = [metrics.power_spectra(image, others, grid.pixel_mpc, grid.k_edges, h=grid.h) for image in images]
    return {INPUT + name: P for name, P in zip(inputs, powers, strict=True)}


def _mass_row(t: Array, x: Array, radii_kpc: tuple[float, ...], grid: MapGrid, rng: np.random.Generator) -> Row:
    """Masses [Msun] in the apertures, (A,) each."""
    circles = [aperture_mask(grid.pixels, grid.pixel_kpc, float(radius)) for radius in radii_kpc]
    weights = np.stack([np.ones(t.shape[-2:]), *circles]).reshape(len(APERTURES), -1) * grid.pixel_kpc**2
    M, M_x = t.reshape(1, -1) @ weights.T, x.reshape(*x.shape[:2], -1) @ weights.T
    std, u = metrics.posterior_std(M_x)[0], calibration.pit(M_x, M, rng)[0]
    crps = metrics.crps(M_x, M)[0]
    return {"mass": M[0], "mass_pred": M_x.mean(1)[0], "mass_std": std, "mass_pit": u, "mass_crps": crps}


def _profile_row(t: Array, x: Array, grid: MapGrid, rng: np.random.Generator) -> Row:
    """Profiles [Msun / kpc^2] with rank and CRPS of each annulus, (R,)."""
    both = radial_profile(np.concatenate([t, x[0]]), grid.edges_kpc, grid.pixel_kpc)
    true, pred = both[:1], both[None, 1:]
    return {
        "profile": both[0], "profile_samples": both[1:],
        "profile_pit": calibration.pit(pred, true, rng)[0], "profile_crps": metrics.crps(pred, true)[0],
    }  # fmt: skip


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


def _convergence_row(t: Array, x: Array, grid: MapGrid) -> Row:
    """Of the first n samples, n = 1, 2, 5, ...: mean variance and squared error of pixels, mass error; power of m."""
    sizes = prefix_sizes(len(x))
    m, variance = prefix_means(x, sizes), prefix_variances(x, sizes)
    numbers = [variance.mean((1, 2)), ((m - t) ** 2).mean((1, 2)), metrics.mass_error(m, t[None])]
    return {
        "settling": np.stack(numbers, axis=-1),
        "settling_power": metrics.power_spectra(m, m, grid.pixel_mpc, grid.k_edges, h=grid.h),
    }


def _image_row(t: Array, x: Array) -> Row:
    """SSIM and PSNR of logarithmic maps, then of linear ones, of the mean and of single samples, (1 + SINGLES, 4)."""
    maps = np.concatenate([x.mean(1), x[0, :SINGLES]])
    log, log_t, width = shapes.log_maps(maps, t[0]), shapes.log_maps(t, t[0]), float(np.ptp(t))
    quality = [shapes.ssim(log, log_t, shapes.DEX), shapes.psnr(log, log_t, shapes.DEX)]
    return {"image": np.stack([*quality, shapes.ssim(maps, t, width), shapes.psnr(maps, t, width)], axis=-1)}


def _shape_row(t: Array, x: Array, radii_kpc: tuple[float, float], grid: MapGrid) -> Row:
    """Differences of the mean and of single samples from the truth, (1 + SINGLES, ...), and the state of the truth.

    `shape`: offsets of peak and centroid [kpc], error of 1 - b/a and the angle [deg] between major axes, inside R500c;
    `shape_true`: 1 - b/a of the truth. `peaks`: see `shapes.peak_counts`, inside R200m. `disturbance`: distance of the
    highest pixel of the smoothed truth from its centroid inside R200m, over R200m.
    """
    r500c, r200m = (aperture_mask(grid.pixels, grid.pixel_kpc, float(radius)) for radius in radii_kpc)
    maps = np.concatenate([t, x.mean(1), x[0, :SINGLES]])
    smoothed = shapes.smooth(maps, grid.pixel_kpc)
    centroid, chi = shapes.moments(maps, r500c, grid.pixel_kpc)
    peak, e = shapes.highest(smoothed, r500c, grid.pixel_kpc), shapes.ellipticity(chi)
    centre, _ = shapes.moments(t, r200m, grid.pixel_kpc)
    top = shapes.highest(smoothed[:1], r200m, grid.pixel_kpc)
    offsets = [shapes.distance(place[1:], place[:1]) for place in (peak, centroid)]
    return {
        "shape": np.stack([*offsets, e[1:] - e[0], shapes.angle_between(chi[1:], chi[:1])], axis=-1),
        "shape_true": e[0], "disturbance": shapes.distance(centre, top)[0] / radii_kpc[1],
        "peaks": np.stack([shapes.peak_counts(smoothed[0], image, r200m, grid.pixel_kpc) for image in smoothed[1:]]),
    }  # fmt: skip
