"""Fields on a flat patch of the sky: filters, Gaussian fields of a given power, the CMB, unresolved sources.

    l = 2 pi |f|,   f cycles per radian;   <|n_l|^2> = P(l)   ->   rms^2 = int P(l) d^2l / (2 pi)^2
    D_l = l (l + 1) C_l / (2 pi)
    dN/dt = A t^(-5/2) per steradian for t = S / (dB/dT) below t_cut,   C = int t^2 dN/dt dt       Euclidean counts
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft2, rfft2

from zwicky.cosmology import Cosmology
from zwicky.observe.sz_spectrum import reduced_frequency
from zwicky.units import C_CGS, H_PLANCK, K_B, T_CMB

Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]

ARCSEC = np.pi / 180 / 3600  # [rad]
L_MAX = 6000  # of the CMB, which is nothing beyond
OPTICAL_DEPTH, LOG_AMPLITUDE = 0.054, 3.044  # of reionisation; ln(1e10 A_s) (Planck 2018, arXiv 1807.06209, table 2)
FAINTEST = 1e-2  # t of the faintest source drawn, over t_cut
I_0 = 2 * (K_B * T_CMB) ** 3 / (H_PLANCK * C_CGS) ** 2 * 1e23  # [Jy / sr]


def multipoles(pixels: int, pixel_arcsec: float) -> NDArray[np.float64]:
    """l of each mode of a real map, (pixels, pixels // 2 + 1), as rfft2 orders them."""
    fy = np.fft.fftfreq(pixels, pixel_arcsec * ARCSEC)
    fx = np.fft.rfftfreq(pixels, pixel_arcsec * ARCSEC)
    return 2 * np.pi * np.hypot(fy[:, None], fx)


def filtered(image: ArrayLike, transfer: Function, pixel_arcsec: float) -> NDArray[np.float64]:
    """The image (..., N, N), taken as periodic, with each mode times transfer(l)."""
    image = np.asarray(image, dtype=float)
    N = image.shape[-1]
    return irfft2(rfft2(image) * transfer(multipoles(N, pixel_arcsec)), s=(N, N))


def gaussian_field(
    power: Function, pixels: int, pixel_arcsec: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A periodic Gaussian field (pixels, pixels) of this power P(l) [unit^2 sr]; the mean over the map is left out."""
    l = multipoles(pixels, pixel_arcsec)
    P = np.where(l > 0, power(np.maximum(l, 1e-30)), 0.0)
    white = rng.standard_normal((pixels, pixels))
    return irfft2(rfft2(white) * np.sqrt(P) / (pixel_arcsec * ARCSEC), s=white.shape)


def rms_of(power: Function, pixels: int, pixel_arcsec: float) -> float:
    """rms of what `gaussian_field` makes."""
    l = multipoles(pixels, pixel_arcsec)
    P = np.where(l > 0, power(np.maximum(l, 1e-30)), 0.0)
    twice = np.full(l.shape[1], 2.0)  # modes that rfft2 leaves out
    twice[0] = 1.0
    if pixels % 2 == 0:
        twice[-1] = 1.0
    return float(np.sqrt((P * twice).sum()) / (pixels * pixel_arcsec * ARCSEC))


def cut(image: NDArray[np.float64], pixels: int) -> NDArray[np.float64]:
    """The central (pixels, pixels) of a square map whose side differs by an even number."""
    margin = (image.shape[-1] - pixels) // 2
    return image[..., margin : margin + pixels, margin : margin + pixels]


def cmb_power(cosmology: Cosmology) -> Function:
    """C_l of the lensed CMB temperature [uK^2 sr], by camb."""
    C = _cmb_power(cosmology)
    return lambda l: np.interp(l, np.arange(len(C)), C, right=0.0)


@functools.lru_cache(maxsize=2)
def _cmb_power(cosmology: Cosmology) -> NDArray[np.float64]:
    import camb

    c = cosmology
    parameters = camb.set_params(
        H0=c.hubble0, ombh2=c.omega_b * c.h**2, omch2=(c.omega_m - c.omega_b) * c.h**2, mnu=0.0, ns=c.n_s,
        omk=1 - c.omega_m - c.omega_l, tau=OPTICAL_DEPTH, As=1e-10 * np.exp(LOG_AMPLITUDE), TCMB=T_CMB,
        lmax=L_MAX, lens_potential_accuracy=1,
    )  # fmt: skip
    spectra = camb.get_results(parameters).get_cmb_power_spectra(
        parameters, lmax=L_MAX, CMB_unit="muK", raw_cl=True, spectra=["total"]
    )
    return np.asarray(spectra["total"][:, 0])


def unresolved_sources(
    d_3000: float, brightest_mjy: float, frequency_ghz: float, pixels: int, pixel_arcsec: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Map [uK] of sources drawn from Euclidean counts below a flux, less their mean.

    Args:
        d_3000: their power D_l at l = 3000 [uK^2].
        brightest_mjy: above which sources were found and taken away.
        frequency_ghz: of the map.
        pixels, pixel_arcsec: of the map.
    """
    C = d_3000 * 2 * np.pi / (3000 * 3001)
    t_cut = brightest_mjy * 1e-3 / jansky_per_microkelvin(frequency_ghz)  # [uK sr]
    t_min = FAINTEST * t_cut
    A = C / (2 * (np.sqrt(t_cut) - np.sqrt(t_min)))
    density = A / 1.5 * (t_min**-1.5 - t_cut**-1.5)  # per steradian
    area = (pixel_arcsec * ARCSEC) ** 2
    count = rng.poisson(density * area * pixels**2)
    t = (t_min**-1.5 - rng.random(count) * (t_min**-1.5 - t_cut**-1.5)) ** (-1 / 1.5)
    image = np.bincount(rng.integers(0, pixels**2, count), t, pixels**2).reshape(pixels, pixels)
    return image / area - 2 * A * (t_min**-0.5 - t_cut**-0.5)


def jansky_per_microkelvin(frequency_ghz: float) -> float:
    """dB/dT of the CMB [Jy / sr / uK]."""
    x = reduced_frequency(frequency_ghz)
    return float(I_0 / (T_CMB * 1e6) * x**4 * np.exp(x) / np.expm1(x) ** 2)


def holes(
    per_deg2: float, radius_arcsec: float, pixels: int, pixel_arcsec: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """True in pixels (pixels, pixels) whose centre lies in a disc cut out around one of randomly placed sources."""
    side = pixels * pixel_arcsec + 2 * radius_arcsec
    centres = rng.uniform(-0.5 * side, 0.5 * side, (rng.poisson(per_deg2 * (side / 3600) ** 2), 2))
    x = (np.arange(pixels) - 0.5 * (pixels - 1)) * pixel_arcsec
    cut_out = np.zeros((pixels, pixels), bool)
    for cx, cy in centres:
        cut_out |= (x - cx) ** 2 + ((x - cy) ** 2)[:, None] < radius_arcsec**2
    return cut_out


def inside_field(diameter_arcmin: float, pixels: int, pixel_arcsec: float) -> NDArray[np.bool_]:
    """True in pixels whose centre lies in a circle around the centre of the map; everywhere for a diameter of 0."""
    radius = distance(pixels, pixel_arcsec)
    return radius <= 30 * diameter_arcmin if diameter_arcmin else np.ones_like(radius, bool)


def distance(pixels: int, pixel_arcsec: float) -> NDArray[np.float64]:
    """Distance of each pixel from the centre of the map [arcsec], (pixels, pixels)."""
    x = (np.arange(pixels) - 0.5 * (pixels - 1)) * pixel_arcsec
    return np.hypot(x, x[:, None])
