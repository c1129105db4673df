"""Power, b, r, profiles, similarity and TARP against other codes, on deterministic and on random maps.

    pip install powerbox photutils scikit-image tarp tqdm deprecation        (and Pylians, which is compiled)
    python validation/measures.py

Prints the largest difference of each measure from that of the other code, relative to the measure's largest value, with
that code and its version; a code that is not installed is named and left out. Status 1 if a difference exceeds 1e-6.
"""

import contextlib
import importlib
import importlib.metadata
import io
import itertools
import sys
from collections.abc import Callable, Iterator

import numpy as np

from zwicky.evaluate import calibration, metrics, shapes
from zwicky.products import default_profile_edges, radial_profile

PIXELS, PIXEL_MPC, H = 64, 0.1, 0.7
LIMIT = 1e-6


def fields(seed):
    """A truth, a prediction that is half of it and half noise, and independent noise, (3, P, P), all positive."""
    rng = np.random.default_rng(seed)
    t, n, other = np.exp(0.3 * rng.standard_normal((3, PIXELS, PIXELS)))
    return np.stack([t, 0.5 * (t + n), other])


def powers(maps):
    """P_tt, P_mm, P_mt (K,) [Mpc^2] and mean k (K,) [h / Mpc] of ours."""
    t, m, _ = maps
    edges = metrics.default_k_edges(PIXELS, PIXEL_MPC, h=H)
    P = [metrics.power_spectra(a, b, PIXEL_MPC, edges, h=H) for a, b in ((t, t), (m, m), (m, t))]
    return np.array(P), metrics.radial_bins(PIXELS, PIXEL_MPC, edges, h=H)[0]


def transfer_and_correlation(P):
    """b (K,) and r (K,) of P_tt, P_mm, P_mt (3, K)."""
    return np.array([metrics.transfer(P[1:2], P[:1]), metrics.correlation(P[2:], P[1:2], P[:1])])


def of_powerbox(maps):
    """P(k), b, r and the mean k of bins."""
    from powerbox.tools import get_power

    t, m, _ = maps
    ours, k = powers(maps)
    edges = metrics.default_k_edges(PIXELS, PIXEL_MPC, h=H)
    options = {"dimensionless": False, "bins": edges * H, "ignore_zero_mode": True}
    found = [get_power(a, PIXELS * PIXEL_MPC, deltax2=b, **options) for a, b in ((t, t), (m, m), (m, t))]
    theirs = np.array([f.power for f in found])
    b_and_r = np.sqrt(theirs[1] / theirs[0]), theirs[2] / np.sqrt(theirs[0] * theirs[1])
    yield "P(k)", ours, theirs
    yield "mean k of bins", k, found[0].bin_avg / H
    yield "b(k), r(k)", transfer_and_correlation(ours), np.array(b_and_r)


def of_pylians(maps):
    """P(k) and r(k) below Nyquist, in the bins of Pylians, one fundamental wide; single precision.

    The powers of `XPk_plane` carry another factor than those of `Pk_plane`, which its r(k) does not.
    """
    from Pk_library import Pk_plane, XPk_plane

    t, m, _ = (image.astype(np.float32) for image in maps)
    side, bins = PIXELS * PIXEL_MPC * H, PIXELS // 2 - 2
    edges = np.arange(1, bins + 2) * metrics.fundamental(PIXELS, PIXEL_MPC, h=H) * (1 - 1e-9)
    with contextlib.redirect_stdout(io.StringIO()):
        auto, cross = Pk_plane(t, side, "None", 1), XPk_plane(t, m, side, "None", "None", 1)
    P_tt, P_mm, P_mt = (
        metrics.power_spectra(a.astype(float), b.astype(float), PIXEL_MPC, edges, h=H)[None] * H**2
        for a, b in ((t, t), (m, m), (m, t))
    )
    yield "P(k)", P_tt[0], auto.Pk[:bins]
    yield "r(k)", metrics.correlation(P_mt, P_mm, P_tt), cross.r[:bins]


def of_photutils(maps):
    """Profiles in annuli whose edges cut pixels into 8 x 8."""
    from photutils.aperture import CircularAnnulus, CircularAperture

    edges = default_profile_edges(PIXELS, 1e3 * PIXEL_MPC)
    middle, R = ((PIXELS - 1) / 2,) * 2, edges / (1e3 * PIXEL_MPC)
    rings = [CircularAperture(middle, R[1]), *(CircularAnnulus(middle, *pair) for pair in itertools.pairwise(R[1:]))]
    method = {"method": "subpixel", "subpixels": 8}
    area = np.array([ring.do_photometry(np.ones((PIXELS, PIXELS)), **method)[0][0] for ring in rings])
    sums = np.array([[ring.do_photometry(image, **method)[0][0] for ring in rings] for image in maps])
    yield "profile", radial_profile(maps, edges, 1e3 * PIXEL_MPC), sums / area


def of_skimage(maps):
    """SSIM and PSNR, of a Gaussian window of 1.5 pixels."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    t, m, _ = maps
    width = float(np.ptp(t))
    options = {"gaussian_weights": True, "sigma": shapes.WINDOW, "use_sample_covariance": False}
    ours = np.array([shapes.ssim(m, t, width), shapes.psnr(m, t, width)])
    theirs = [structural_similarity(t, m, data_range=width, **options), peak_signal_noise_ratio(t, m, data_range=width)]
    yield "SSIM, PSNR", ours, np.array(theirs)


def of_tarp(maps):
    """Coverage at levels j / S of theirs, which are j / (S + 1) of ours: a truth has S + 1 places among S samples."""
    from tarp import get_tarp_coverage

    S, rng = 16, np.random.default_rng(int(1e6 * maps[0, 0, 0]))
    truth, samples = rng.standard_normal((400, 3)), 1.3 * rng.standard_normal((400, S, 3))
    reference = rng.random(truth.shape)
    ecp, alpha = get_tarp_coverage(samples.swapaxes(0, 1), truth, reference, norm=True, num_alpha_bins=S)
    if alpha[0] != 0 or alpha[-1] != 1:
        raise ValueError("need a truth that is nearest and one that is farthest.")
    levels = np.arange(1, S) / (S + 1) + 1e-12
    yield "TARP", calibration.tarp(samples, truth, rng, levels, reference), ecp[1:-1]


CODES: dict[str, tuple[str, Callable[[np.ndarray], Iterator]]] = {
    "powerbox": ("powerbox", of_powerbox), "Pk_library": ("Pylians", of_pylians),
    "photutils": ("photutils", of_photutils), "skimage": ("scikit-image", of_skimage), "tarp": ("tarp", of_tarp),
}  # fmt: skip


def differences(compare, seeds=range(3)):
    """{measure: largest difference over the largest value} over random maps."""
    found = {}
    for seed in seeds:
        for name, ours, theirs in compare(fields(seed)):
            found[name] = max(found.get(name, 0.0), float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
    return found


def limits(maps=40):
    """|b - 1| and |r - 1| of a map with itself; r of maps with nothing in common, averaged over bins and maps."""
    own, apart = [], []
    for seed in range(maps):
        t, _, other = fields(seed)
        own.append(np.abs(transfer_and_correlation(powers(np.stack([t, t, t]))[0]) - 1).max())
        apart.append(transfer_and_correlation(powers(np.stack([t, other, t]))[0])[1].mean())
    return max(own), abs(np.mean(apart))


def main():
    worst = 0.0
    for module, (package, compare) in CODES.items():
        try:
            importlib.import_module(module)
        except ImportError:
            print(f"{package}: not installed")
            continue
        for name, difference in differences(compare).items():
            print(f"{package} {importlib.metadata.version(package)}: {name}: {difference:.1e}")
            worst = max(worst, difference)
    print("a map with itself: |b - 1|, |r - 1| up to {:.1e}; independent maps: mean r {:.3f}".format(*limits()))
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
