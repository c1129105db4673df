"""Is the picture right? Structural similarity, peaks, centres and ellipticities of predicted maps.

    SSIM   = < (2 a b + C_1) (2 s_ab + C_2) / ((a^2 + b^2 + C_1) (s_a^2 + s_b^2 + C_2)) >,   C_1 = (0.01 R)^2,
             C_2 = (0.03 R)^2, a, b means and s (co)variances under a Gaussian window  (Wang et al. 2004, eq. 13)
    PSNR   = 10 log10(R^2 / < (a - b)^2 >) [dB]
    chi    = (Q_xx - Q_yy + 2 i Q_xy) / (Q_xx + Q_yy),   Q_ij = second moments about the centroid, inside an aperture
    1 - b/a = 1 - sqrt((1 - |chi|) / (1 + |chi|)),       position angle = arg(chi) / 2
    peak   a local maximum of the smoothed map that stands out of its azimuthal mean

Maps (N, P, P) have their cluster in the middle; positions (y, x) [kpc] are counted from there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

from zwicky.observe.sky import distance as distance_from_centre
from zwicky.products import ratio

Array = NDArray[Any]

WINDOW: float = 1.5  # sigma of the window of SSIM [pixels], cut at 3.5 sigma (Wang et al. 2004)
DEX: float = 4.0  # range of logarithmic maps: what is fainter than 1e-4 of the brightest true pixel is cut
SMOOTHING_KPC: float = 100.0  # sigma of the Gaussian before peaks are looked for, at least one pixel
CONTRAST: float = 1.5  # a peak is at least this high over the azimuthal mean at its radius
FAINT: float = 1.25  # the same for the likes of such a peak in the other map
MATCH: float = 2.0  # peaks are the same if nearer than this many sigma of the smoothing


# Images -------------------------------------------------------------------------------------------------------------


def log_maps(maps: Array, truth: Array, dex: float = DEX) -> Array:
    """log10 of maps over the brightest pixel of the truth, cut at 10^-dex and counted from there: 0 to `dex`.

    Args:
        maps: (..., P, P), truth: (P, P), in the same unit.
    """
    brightest = float(truth.max())
    if not brightest > 0:
        return np.full(maps.shape, np.nan)
    return np.asarray(np.log10(np.maximum(maps / brightest, 10.0**-dex)) + dex)


def psnr(a: Array, b: Array, data_range: float) -> Array:
    """Peak signal-to-noise ratio of maps (..., P, P) [dB]; infinite for identical maps."""
    error = np.mean((a - b) ** 2, axis=(-2, -1))
    inverse = np.divide(data_range**2, error, out=np.full(error.shape, np.inf), where=error != 0)
    return np.asarray(10.0 * np.log10(inverse))


def ssim(a: Array, b: Array, data_range: float) -> Array:
    """Structural similarity of maps (..., P, P), averaged over the pixels whose window lies inside the map; 1 if equal.

    Reference: Wang et al. 2004, doi:10.1109/TIP.2003.819861.
    """
    border = int(3.5 * WINDOW + 0.5)
    C_1, C_2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mu_a, mu_b = _window(a), _window(b)
    var_a, var_b, cov = _window(a * a) - mu_a**2, _window(b * b) - mu_b**2, _window(a * b) - mu_a * mu_b
    similar = (2 * mu_a * mu_b + C_1) * (2 * cov + C_2) / ((mu_a**2 + mu_b**2 + C_1) * (var_a + var_b + C_2))
    return np.asarray(similar[..., border:-border, border:-border].mean((-2, -1)))


def _window(maps: Array) -> Array:
    return np.asarray(gaussian_filter(maps, WINDOW, truncate=3.5, axes=(-2, -1)))


# Centres and ellipticities ------------------------------------------------------------------------------------------


def moments(maps: Array, mask: Array, pixel_kpc: float) -> tuple[Array, Array]:
    """Centroids (N, 2) as (y, x) [kpc] and complex ellipticities chi (N,) of the mass inside an aperture.

    Args:
        maps: (N, P, P). mask: (P, P) weights, such as `products.aperture_mask`. NaN where the mass is not positive.
    """
    x = _axis(maps.shape[-1], pixel_kpc)
    weight = maps * mask
    across, down = weight.sum(-2), weight.sum(-1)  # over rows: (N, X); over columns: (N, Y)
    mass = across.sum(-1)
    c_x, c_y = ratio(across @ x, mass), ratio(down @ x, mass)
    Q_xx, Q_yy = ratio(across @ x**2, mass) - c_x**2, ratio(down @ x**2, mass) - c_y**2
    Q_xy = ratio((weight @ x) @ x, mass) - c_x * c_y
    size = Q_xx + Q_yy
    return np.stack([c_y, c_x], axis=-1), ratio(Q_xx - Q_yy, size) + 1j * ratio(2 * Q_xy, size)


def _axis(pixels: int, pixel_kpc: float) -> Array:
    """Places of the pixels along a side from the middle of the map, (P,) [kpc]."""
    return (np.arange(pixels) - (pixels - 1) / 2) * pixel_kpc


def ellipticity(chi: Array) -> Array:
    """1 - b/a of the ellipse with the same second moments: 0 for a circle."""
    size = np.minimum(np.abs(chi), 1.0)
    return np.asarray(1.0 - np.sqrt((1.0 - size) / (1.0 + size)))


def angle_between(chi_a: Array, chi_b: Array) -> Array:
    """Angle between two major axes, 0 to 90 [deg]; 45 on average if they have nothing to do with each other."""
    return np.asarray(0.5 * np.abs(np.degrees(np.angle(chi_a * np.conj(chi_b)))))


def distance(a: Array, b: Array) -> Array:
    """Distance of positions (..., 2) [kpc]."""
    return np.asarray(np.linalg.norm(a - b, axis=-1))


# Peaks --------------------------------------------------------------------------------------------------------------


def smoothing_kpc(pixel_kpc: float) -> float:
    """Sigma of the Gaussian before peaks are looked for [kpc]."""
    return max(SMOOTHING_KPC, pixel_kpc)


def smooth(maps: Array, pixel_kpc: float) -> Array:
    """Maps (..., P, P) smoothed by a Gaussian of SMOOTHING_KPC."""
    sigma = smoothing_kpc(pixel_kpc) / pixel_kpc
    return np.asarray(gaussian_filter(maps, sigma, axes=(-2, -1), mode="nearest"))


def highest(smoothed: Array, mask: Array, pixel_kpc: float) -> Array:
    """Place of the highest point inside a mask (P, P), (N, 2) [kpc]; NaN for an empty mask.

    It is the top of the parabola through the highest pixel and its neighbours, along each axis.
    """
    pixels, n = smoothed.shape[-1], np.arange(len(smoothed))
    if not (mask > 0).any():
        return np.full((len(smoothed), 2), np.nan)
    flat = np.where(mask > 0, smoothed, -np.inf).reshape(len(smoothed), -1).argmax(-1)
    y, x = np.clip(np.unravel_index(flat, (pixels, pixels)), 1, pixels - 2)
    top = smoothed[n, y, x]
    shift = [_vertex(smoothed[n, y - 1, x], top, smoothed[n, y + 1, x]),
             _vertex(smoothed[n, y, x - 1], top, smoothed[n, y, x + 1])]  # fmt: skip
    return np.stack([y, x], axis=-1) * pixel_kpc + _axis(pixels, pixel_kpc)[0] + np.stack(shift, axis=-1) * pixel_kpc


def _vertex(before: Array, top: Array, after: Array) -> Array:
    """Where the parabola through three neighbours is highest, from the middle one, at most half a pixel away."""
    return np.clip(np.nan_to_num(0.5 * ratio(after - before, 2 * top - before - after)), -0.5, 0.5)


def find_peaks(smoothed: Array, mask: Array, pixel_kpc: float, contrast: float = CONTRAST) -> Array:
    """Places of the peaks of one smoothed map (P, P) inside a mask, (K, 2) as (y, x) [kpc].

    A peak is the highest of its 3 x 3 pixels and `contrast` times the azimuthal mean at its radius, or higher.
    """
    high = (smoothed >= contrast * azimuthal_mean(smoothed)) & (smoothed > 0)
    peak = (smoothed == maximum_filter(smoothed, size=3)) & high & (mask > 0.5)
    return np.asarray(_axis(smoothed.shape[-1], pixel_kpc)[np.argwhere(peak)])


def azimuthal_mean(image: Array) -> Array:
    """Mean over the ring of one pixel of width that each pixel of an image (P, P) lies in, (P, P)."""
    r = np.rint(distance_from_centre(len(image))).astype(int)
    return np.asarray((np.bincount(r.ravel(), image.ravel()) / np.maximum(np.bincount(r.ravel()), 1))[r])


def matched(peaks: Array, others: Array, reach_kpc: float) -> int:
    """How many peaks (K, 2) have one of the others (L, 2) within reach."""
    if not len(peaks) or not len(others):
        return 0
    return int((distance(peaks[:, None], others[None]) <= reach_kpc).any(1).sum())


def peak_counts(true: Array, predicted: Array, mask: Array, pixel_kpc: float) -> Array:
    """True peaks, predicted peaks, true ones found, predicted ones that are real, and the last two by chance, (6,).

    So that no peak is missed for being a little below CONTRAST, it may have its like among those of FAINT. By chance:
    the prediction is turned by 90, 180 and 270 degrees about the middle, which keeps its radii.

    Args:
        true, predicted: smoothed maps (P, P). mask: (P, P).
    """
    t, m, t_faint, m_faint = (find_peaks(map_, mask, pixel_kpc, contrast) for contrast in (CONTRAST, FAINT)
                              for map_ in (true, predicted))  # fmt: skip
    reach, quarter = MATCH * smoothing_kpc(pixel_kpc), np.array([[0.0, -1.0], [1.0, 0.0]])
    turns = [np.linalg.matrix_power(quarter, n) for n in range(4)]
    found = [matched(t, m_faint @ turn, reach) for turn in turns]
    real = [matched(m @ turn, t_faint, reach) for turn in turns]
    return np.array([len(t), len(m), found[0], real[0], np.mean(found[1:]), np.mean(real[1:])])
