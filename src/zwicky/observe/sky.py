"""Fields on a flat patch of the sky: filters, Gaussian fields of a given power, and what every telescope sees there.

    l = 2 pi |f|,   f cycles per radian;   <|n_l|^2> = P(l)   ->   rms^2 = int P(l) d^2l / (2 pi)^2
    D_l = l (l + 1) C_l / (2 pi)
    dN/dS = A S^(-5/2) per steradian,   C = int S^2 dN/dS dS / (dB/dT)^2,   S ~ nu^alpha              unresolved sources
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft2, rfft2

from zwicky.cosmology import Cosmology
from zwicky.grid import mode_counts
from zwicky.observe.sz_spectrum import planck_slope
from zwicky.units import C_CGS, H_PLANCK, K_B, T_CMB

Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]

ARCSEC = np.pi / 180 / 3600  # [rad]
PATCH = 4  # width of the patch of sky over that of a map
L_MAX = 6000  # of the CMB, which is nothing beyond
OPTICAL_DEPTH, LOG_AMPLITUDE = 0.054, 3.044  # of reionisation; ln(1e10 A_s) (Planck 2018, arXiv 1807.06209, table 2)
POPULATIONS = (  # D_3000 at 150 GHz of sources fainter than BRIGHT [uK^2], alpha; approximate, arXiv 2002.06197
    (7.2, 3.4),  # dusty galaxies
    (1.0, -0.6),  # radio galaxies
)
BRIGHT, BRIGHTEST, FAINTEST = 6.4e-3, 30e-3, 0.1e-3  # of sources at 150 GHz [Jy]
MOST_HOLES = 2000.0  # X-ray sources drawn per square degree, of which a telescope sees the brightest
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
    """A periodic Gaussian field (pixels, pixels) of power P(l) [unit^2 sr]; its mean varies as its longest modes."""
    P = _power_of_modes(power, pixels, pixel_arcsec)
    white = rng.standard_normal((pixels, pixels))
    return irfft2(rfft2(white) * np.sqrt(P) / (pixel_arcsec * ARCSEC), s=white.shape)


def rms_of(power: Function, pixels: int, pixel_arcsec: float) -> float:
    """rms of what `gaussian_field` makes."""
    P = _power_of_modes(power, pixels, pixel_arcsec)
    return float(np.sqrt((P * mode_counts(pixels)).sum()) / (pixels * pixel_arcsec * ARCSEC))


def _power_of_modes(power: Function, pixels: int, pixel_arcsec: float) -> NDArray[np.float64]:
    l = multipoles(pixels, pixel_arcsec)
    l[0, 0] = l[0, 1]
    return power(l)


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


@dataclass(frozen=True)
class Sky:
    """What lies around a cluster, the same for all telescopes that look at it: CMB, sources of radio and X-rays.

    Args:
        seed: of all that is random. cosmology: of the CMB.
        pixels, pixel_arcsec: of the patch, which is wider than the images.
    """

    seed: tuple[int, ...]
    cosmology: Cosmology
    pixels: int
    pixel_arcsec: float

    @classmethod
    def around(cls, seed: tuple[int, ...], cosmology: Cosmology, pixels: int, pixel_arcsec: float) -> Sky:
        """The sky around a map of so many pixels, centred alike."""
        return cls(seed, cosmology, pixels + (PATCH - 1) * pixels // 2 * 2, pixel_arcsec)

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([*self.seed, stream])

    @functools.cached_property
    def cmb(self) -> NDArray[np.float64]:
        """The CMB (pixels, pixels) [uK]."""
        return gaussian_field(cmb_power(self.cosmology), self.pixels, self.pixel_arcsec, self._rng(1))

    @functools.cached_property
    def _sources(self) -> list[tuple[NDArray[np.int64], NDArray[np.float64], float, float]]:
        """Pixel and flux at 150 GHz [Jy] of the sources of each population, its A [Jy^1.5 / sr] and alpha."""
        area, rng, found = (self.pixel_arcsec * ARCSEC) ** 2, self._rng(2), []
        for D, alpha in POPULATIONS:
            C = D * 2 * np.pi / (3000 * 3001) * jansky_per_microkelvin(150.0) ** 2
            A = C / (2 * (np.sqrt(BRIGHT) - np.sqrt(FAINTEST)))
            count = rng.poisson(A / 1.5 * (FAINTEST**-1.5 - BRIGHTEST**-1.5) * area * self.pixels**2)
            S = (FAINTEST**-1.5 - rng.random(count) * (FAINTEST**-1.5 - BRIGHTEST**-1.5)) ** (-1 / 1.5)
            found.append((rng.integers(0, self.pixels**2, count), S, A, alpha))
        return found

    def sources(self, frequency_ghz: float, brightest_mjy: float) -> NDArray[np.float64]:
        """Map [uK] of the sources fainter than a flux at 150 GHz, less their mean; those above were taken away.

        Args:
            frequency_ghz: of the map. brightest_mjy: at most that of BRIGHTEST.
        """
        area, image = (self.pixel_arcsec * ARCSEC) ** 2, np.zeros(self.pixels**2)
        limit = min(brightest_mjy * 1e-3, BRIGHTEST)
        for pixel, S, A, alpha in self._sources:
            left = limit > S
            colour = (frequency_ghz / 150) ** alpha / jansky_per_microkelvin(frequency_ghz)
            mean = 2 * A * (FAINTEST**-0.5 - limit**-0.5) * colour
            image += colour * np.bincount(pixel[left], S[left], self.pixels**2) / area - mean
        return image.reshape(self.pixels, self.pixels)

    def holes(self, per_deg2: float, radius_arcsec: float, pixels: int) -> NDArray[np.bool_]:
        """True in the central (pixels, pixels) where a pixel's centre is in a disc around one of the X-ray sources.

        Args:
            per_deg2: how many of them are seen, the brightest, at most MOST_HOLES.
        """
        rng, side = self._rng(3), self.pixels * self.pixel_arcsec
        count = rng.poisson(MOST_HOLES * (side / 3600) ** 2)
        places, rank = rng.uniform(-0.5 * side, 0.5 * side, (count, 2)), rng.random(count)
        x = (np.arange(pixels) - 0.5 * (pixels - 1)) * self.pixel_arcsec
        reach = x[-1] + radius_arcsec
        seen = (rank < per_deg2 / MOST_HOLES) & (np.abs(places) <= reach).all(axis=1)
        cut_out = np.zeros((pixels, pixels), bool)
        for cx, cy in places[seen]:
            cut_out |= (x - cx) ** 2 + ((x - cy) ** 2)[:, None] < radius_arcsec**2
        return cut_out


def jansky_per_microkelvin(frequency_ghz: float) -> float:
    """dB/dT of the CMB [Jy / sr / uK]."""
    return float(I_0 / (T_CMB * 1e6) * planck_slope(frequency_ghz))


def inside_field(diameter_arcmin: float, pixels: int, pixel_arcsec: float) -> NDArray[np.bool_]:
    """True in pixels whose centre lies in a circle around the centre of the map; everywhere for a diameter of 0."""
    radius = distance(pixels, pixel_arcsec)
    return radius <= 30 * diameter_arcmin if diameter_arcmin else np.ones_like(radius, bool)


def distance(pixels: int, pixel: float = 1.0) -> NDArray[np.float64]:
    """Distance of each pixel from the centre of the map, (pixels, pixels), in the unit of `pixel`, the side of one."""
    x = (np.arange(pixels) - 0.5 * (pixels - 1)) * pixel
    return np.hypot(x, x[:, None])
