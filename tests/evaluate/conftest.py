"""Analytic posteriors: a Gaussian field seen through white noise with its exact samples, and positive mock clusters."""

from typing import NamedTuple

import numpy as np
import pytest


class Field(NamedTuple):
    """truth (N, P, P), samples (N, S, P, P) and the Wiener mean (N, P, P) that infinitely many samples would have."""

    truth: np.ndarray
    samples: np.ndarray
    wiener: np.ndarray


def gaussian_posterior(rng, n=64, s=50, pixels=32, noise=1.0, widen=1.0):
    """Field of power P(k) = 30 / (1 + (k/4)^3) and white noise; samples = W d + fluctuations of power P N / (P + N).

    `widen` multiplies the fluctuations: 1 is the exact posterior.
    """
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(pixels, 1 / pixels), np.fft.rfftfreq(pixels, 1 / pixels), indexing="ij"))
    P = 30.0 / (1.0 + (k / 4.0) ** 3)
    N = noise**2
    t = _coloured(rng, (n, pixels, pixels), P)
    d = t + noise * rng.standard_normal(t.shape)
    wiener = np.fft.irfft2(np.fft.rfft2(d) * P / (P + N), s=d.shape[-2:])
    return Field(t, wiener[:, None] + widen * _coloured(rng, (n, s, pixels, pixels), P * N / (P + N)), wiener)


def _coloured(rng, shape, power):
    return np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * np.sqrt(power), s=shape[-2:])


def mock_clusters(rng, n=12, s=20, pixels=32, scatter=0.05):
    """Positive maps [Msun/kpc^2] of M200m 2.5e14 to 9e14 Msun, and calibrated log-normal samples of them."""
    m200m = np.geomspace(2.5e14, 9e14, n)
    x = np.arange(pixels) - (pixels - 1) / 2
    base = 1e7 / (1.0 + np.hypot(x[:, None], x) ** 2 / 9.0) + 1e4
    log_m = np.log(base * (m200m / 1e15)[:, None, None]) + 0.3 * _smooth(rng, (n, pixels, pixels))
    t, *x_s = (np.exp(log_m + scatter * _smooth(rng, log_m.shape)) for _ in range(s + 1))
    return t, np.stack(x_s, axis=1), m200m


def _smooth(rng, shape):
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(shape[-1]), np.fft.rfftfreq(shape[-1]), indexing="ij"))
    field = _coloured(rng, shape, np.exp(-((k / 0.15) ** 2)))
    return field / field.std()


@pytest.fixture(scope="session")
def quadratic():
    """Numbers (seed, shape) in [0, 1) without a pattern, which any version of any library would make alike."""
    return _quadratic


def _quadratic(seed, shape):
    i = np.arange(np.prod(shape), dtype=np.int64) + seed * 1000003
    return ((i * i * 7 + i * 31 + i // 17) % 10007 / 10007).reshape(shape)


@pytest.fixture(scope="session")
def mixed_maps():
    """A map t, its mean with another n, and n, (24, 24) each, between 1 and 2: maps that other codes have measured."""
    t, n = (1 + _quadratic(seed, (24, 24)) for seed in (1, 2))
    return t, 0.5 * (t + n), n


@pytest.fixture(scope="session", autouse=True)
def only_png():
    """Figures of reports are PNG alone: the fonts of a PDF take as long as all else of a report."""
    from zwicky.evaluate import report

    with pytest.MonkeyPatch.context() as m:
        m.setattr(report, "FORMATS", (".png",))
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.fixture(scope="session")
def posterior():
    """A calibrated posterior: 64 maps, 50 samples of 32^2."""
    return gaussian_posterior(np.random.default_rng(1))


@pytest.fixture(scope="session")
def wide_posterior():
    """The same with samples 20% too wide."""
    return gaussian_posterior(np.random.default_rng(2), widen=1.2)


@pytest.fixture(scope="session")
def clusters():
    """Truth, samples and M200m of mock clusters."""
    return mock_clusters(np.random.default_rng(3))
