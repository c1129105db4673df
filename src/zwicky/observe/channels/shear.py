"""Weak lensing: the reduced shear that a source behind the cluster sees, by the relation of Kaiser & Squires 1993.

    gamma~ = (k_1 + i k_2)^2 / k^2 kappa~,   gamma = gamma_1 + i gamma_2
    g = gamma / (1 - kappa),     1 / conj(g) where |g| > 1                                 (Seitz & Schneider 1997)

g_1 > 0 stretches images along x, g_2 > 0 along the diagonal x = y. The convergence is made on a map of twice the width,
as far as the box allows. The mean of its rim is taken off, because a sheet that ends there would shear; then zeros
double its width, so that the periodic images of the transform are far.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from zwicky.observe.scene import Derived, Maps, Scene


def reduced_shear(component: int, convergence: str) -> Derived:
    """How g_1 or g_2 is made of the map of the channel `convergence`."""

    def make(maps: Maps, scene: Scene, pixel_kpc: float) -> NDArray[np.float64]:
        g = reduced(shear(maps[convergence]), maps[convergence])
        return g.real if component == 1 else g.imag

    return Derived((convergence,), make, lambda width_kpc, scene: 0.5 * width_kpc)


def shear(kappa: NDArray[np.float64]) -> NDArray[np.complex128]:
    """gamma_1 + i gamma_2 (Y, X) of a convergence (Y, X); outside the map, kappa is that of its rim."""
    n, (rows, columns) = fft.next_fast_len(2 * max(kappa.shape)), kappa.shape
    rim = np.concatenate([kappa[0], kappa[-1], kappa[1:-1, 0], kappa[1:-1, -1]])
    turned = fft.ifft2(_kernel(n) * fft.fft2(kappa - rim.mean(), (n, n)))
    return turned[:rows, :columns]


def reduced(gamma: NDArray[np.complex128], kappa: NDArray[np.float64]) -> NDArray[np.complex128]:
    """What an image of a round source shows, of modulus 1 at most, same shape; 0 without shear."""
    strong = np.abs(gamma) > np.abs(1 - kappa)
    above, below = np.where(strong, 1 - kappa, gamma), np.where(strong, np.conj(gamma), 1 - kappa)
    return np.divide(above, below, out=np.zeros_like(gamma), where=below != 0)


def _kernel(n: int) -> NDArray[np.complex128]:
    """(k_1 + i k_2)^2 / k^2 of n x n modes, index [k_2, k_1], of real transforms in its two parts."""
    k1, k2 = np.meshgrid(fft.fftfreq(n), fft.fftfreq(n))
    k = k1 + 1j * k2
    kernel = k**2 / np.maximum(np.abs(k) ** 2, 0.1 / n**2)
    kernel.imag[(k1 == -0.5) | (k2 == -0.5)] = 0.0  # modes that are their own opposite
    return kernel
