"""Projection of 700,000 particles to 128 x 128 pixels: mass, place and accuracy, and time beside other packages.

    make bench-project        or        python benchmarks/projection.py [--make-truth] [--levels]

The particles are a beta model, clumps and a background, made by `cluster` (seeded). The truth is their map with 16 x 16
points in every pixel, of kernels integrated along the line of sight without any table; `--make-truth` makes it again
(a minute). `--levels` compares maps of 128^2 to 2048^2 pixels with those without coarser grids (two minutes). Packages
that are not installed are left out. Times are CPU seconds, the least of three after a warm-up.
"""

import argparse
import time
from pathlib import Path

import numba
import numpy as np
from scipy.spatial import cKDTree

from zwicky import project
from zwicky.observe import levels
from zwicky.observe.project import column_kernel
from zwicky.observe.sightlines import random_rotations

TRUTH = Path(__file__).with_name("projection_truth.npy")
WIDTH, PIXELS, FINE, NEIGHBOURS = 12800.0, 128, 16, 48  # [kpc]
BRIGHT = 0.01  # of the maximum: pixels that count for the rms
NODES, POINTS = 4096, 12  # of F(q) for the truth, linear in q^2; least number of points across H


def cluster(rng):
    """Positions (P, 3) [kpc] centred on 0, support radii [kpc] and masses [Msun] of 700,000 particles."""
    radii = np.linspace(0, 15, 2000)  # core radii; rho ~ 1 / (1 + r^2), so that M(r) ~ r - atan r
    r = 300.0 * np.interp(rng.uniform(size=520_000) * (15 - np.arctan(15)), radii - np.arctan(radii), radii)
    direction = rng.normal(size=(520_000, 3))
    smooth = direction / np.linalg.norm(direction, axis=1)[:, None] * r[:, None]
    centres, sizes = rng.uniform(-3000, 3000, (40, 3)), rng.uniform(20, 80, 40)
    clumps = (centres[:, None] + sizes[:, None, None] * rng.normal(size=(40, 3250, 3))).reshape(-1, 3)
    x = np.concatenate([smooth, clumps, rng.uniform(-5000, 5000, (50_000, 3))])
    x = x[(np.abs(x) < 5000).all(axis=1)]
    H = cKDTree(x).query(x, k=[NEIGHBOURS], workers=-1)[0][:, 0]
    return x, np.minimum(H, 1000.0), 1.5e8 * rng.uniform(0.8, 1.2, len(x))


def make_truth(x, H, m):
    """The map [Msun / kpc^2] from points of FINE times the resolution; each particle keeps its mass."""
    q2 = np.linspace(0, 1, NODES)
    fine = np.zeros((PIXELS * FINE, PIXELS * FINE))
    _sum_points(x[:, 0] + WIDTH / 2, x[:, 1] + WIDTH / 2, H, m, column_kernel(np.sqrt(q2)), WIDTH / len(fine), fine)
    pixels = fine.reshape(PIXELS, FINE, PIXELS, FINE).sum((1, 3))
    return pixels / (WIDTH / PIXELS) ** 2


@numba.njit
def _sum_points(x, y, H, m, F, step, image):
    """Add F at points `step` apart, or closer where H is less than POINTS of these."""
    for p in range(len(x)):
        n = int(np.ceil(POINTS * step / H[p]))
        d = step / n
        i0, i1 = int((x[p] - H[p]) / d), int((x[p] + H[p]) / d)
        j0, j1 = int((y[p] - H[p]) / d), int((y[p] + H[p]) / d)
        for add in (False, True):
            if not add:
                total = 0.0
            for j in range(j0, j1 + 1):
                for i in range(i0, i1 + 1):
                    dx, dy = (i + 0.5) * d - x[p], (j + 0.5) * d - y[p]
                    t = (dx * dx + dy * dy) / (H[p] * H[p]) * (len(F) - 1)
                    k = int(t)
                    if k < len(F) - 1:
                        value = F[k] + (t - k) * (F[k + 1] - F[k])
                        if add:
                            image[j // n, i // n] += m[p] * value / total
                        else:
                            total += value


def conservation(rng):
    """Worst relative error of the mass of a particle whose kernel is inside, from H / pixel of 0.001 to 100."""
    worst = 0.0
    for ratio in np.geomspace(1e-3, 100, 26):
        pixels = max(64, int(4 * ratio))
        for _ in range(20):
            place = rng.uniform(ratio + 1, pixels - ratio - 1, 2) - pixels / 2
            worst = max(worst, abs(project([[*place, 0.0]], [ratio], [1.0], pixels, pixels).sum() - 1))
    return worst


def centroid(image):
    """x, y of the centre of a map [pixel], from its middle."""
    centre = np.arange(PIXELS) + 0.5 - PIXELS / 2
    return np.array([image.sum(0) @ centre, image.sum(1) @ centre]) / image.sum()


def cpu_seconds(call, times=3):
    """CPU seconds of a call, the least of some after one that compiles, and its result."""
    result, best = call(), np.inf
    for _ in range(times):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best, result


def gain(x, H, weights):
    """Print, for maps of some sizes, the time without and with coarser grids, and how far the maps are apart."""
    print("pixels   maps   one grid [CPU s]   levels [CPU s]   ratio   rms of the difference   mass error")
    threshold = levels.THRESHOLD
    for pixels in (128, 512, 2048):
        for columns in (weights[:, :1], weights):
            levels.THRESHOLD = np.inf
            before, one = cpu_seconds(lambda c=columns, n=pixels: project(x, H, c, WIDTH, n), 3 if pixels < 1000 else 1)
            levels.THRESHOLD = threshold
            after, two = cpu_seconds(lambda c=columns, n=pixels: project(x, H, c, WIDTH, n), 3)
            bright, mass = one[0] > BRIGHT * one[0].max(), two[0].sum() / one[0].sum() - 1
            rms = np.sqrt(np.mean((two[0][bright] / one[0][bright] - 1) ** 2))
            count = columns.shape[1]
            print(f"{pixels:6} {count:6} {before:18.3f} {after:16.3f} {before / after:7.2f} {rms:23.1e} {mass:12.1e}")


def peers(x, H, m):
    """Calls of other packages, by name, each for one map [Msun / kpc^2]; a package that is missing is left out."""
    found = {}
    try:
        from swiftsimio.visualisation.projection_backends import backends

        places = [(x[:, i] / WIDTH + 0.5) for i in (0, 1)]
        h = (H / WIDTH / 1.897367).astype(np.float32)  # its kernel is one of two dimensions
        for name in ("fast", "subsampled"):
            found[f"swiftsimio {name}"] = lambda name=name: backends[name](
                x=places[0], y=places[1], m=m.astype(np.float32), h=h, res=PIXELS, box_x=0.0, box_y=0.0
            ).T / WIDTH**2
    except ImportError:
        pass
    try:
        from meshoid.grid_deposition import GridSurfaceDensity

        found["meshoid"] = lambda: GridSurfaceDensity(m, x, H, np.zeros(3), WIDTH, res=PIXELS).T
    except ImportError:
        pass
    try:
        import pynbody

        s = pynbody.new(gas=len(x))
        s["pos"] = pynbody.array.SimArray(x, "kpc")
        s["mass"], s["smooth"] = pynbody.array.SimArray(m, "Msol"), pynbody.array.SimArray(H / 2, "kpc")
        s["rho"] = s["mass"] / s["smooth"] ** 3
        s["sheet"] = s["mass"] / s["rho"]  # quantity * mass / rho is what it projects
        kernel = pynbody.sph.kernels.WendlandC2Kernel()
        found["pynbody"] = lambda: np.asarray(
            pynbody.sph.render_image(
                s, quantity="rho", width=WIDTH, resolution=PIXELS, out_units="Msol kpc^-2", kernel=kernel,
                approximate_fast=False,
            )
        )
    except ImportError:
        pass
    try:
        from yt.utilities.lib.pixelization_routines import pixelize_sph_kernel_projection

        def by_yt():
            image, mask = np.zeros((PIXELS, PIXELS)), np.zeros((PIXELS, PIXELS), np.uint8)
            bounds = (-WIDTH / 2, WIDTH / 2) * 3
            pixelize_sph_kernel_projection(
                image, mask, x[:, 0], x[:, 1], x[:, 2], H, m, m / H**3, m / H**3, bounds,
                kernel_name="wendland2", _check_period=(0, 0, 0),
            )
            return image.T

        found["yt"] = by_yt
    except ImportError:
        pass
    return found


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--make-truth", action="store_true")
    parser.add_argument("--levels", action="store_true")
    o = parser.parse_args()
    x, H, m = cluster(np.random.default_rng(0))
    quarters = ", ".join(f"{q:.2f}" for q in np.percentile(H, (0, 25, 50, 75, 100)) * PIXELS / WIDTH)
    print(f"{len(x)} particles; H / pixel, least, quartiles, largest: {quarters}")
    if o.make_truth:
        np.save(TRUTH, make_truth(x, H, m))
    truth = np.load(TRUTH)
    bright, area = truth > BRIGHT * truth.max(), (WIDTH / PIXELS) ** 2

    place = np.average(x[:, :2], axis=0, weights=m) / (WIDTH / PIXELS)

    def row(name, seconds, image):
        rms = np.sqrt(np.mean((image[bright] / truth[bright] - 1) ** 2))
        shift = np.abs(centroid(image) - place).max()
        mass = image.sum() * area / m.sum() - 1
        print(f"{name:24} {seconds:8.3f} {mass:12.1e} {rms:10.1e} {shift:10.1e}", flush=True)

    print(f"worst mass error of a particle, H / pixel from 0.001 to 100: {conservation(np.random.default_rng(1)):.1e}")
    print("                            CPU s   mass error        rms  centroid [pixel]")
    one, image = cpu_seconds(lambda: project(x, H, m, WIDTH, PIXELS))
    row("zwicky, one map", one, image)
    weights = np.stack([m, 2 * m, m**1.1, m**0.9], axis=1)
    four, images = cpu_seconds(lambda: project(x, H, weights, WIDTH, PIXELS))
    row("zwicky, four maps", four, images[0])
    if o.levels:
        gain(x, H, weights)
    times = {}
    for name, call in peers(x, H, m).items():
        times[name], image = cpu_seconds(call)
        row(name, times[name], image)
    for name, seconds in times.items():
        print(f"four maps of zwicky take {four / seconds:.2f} times one of {name}")
    rotations = random_rotations(29, np.random.default_rng(2))
    start = time.process_time()
    for R in rotations:
        project(x @ R.T, H, weights, WIDTH, PIXELS)
    print(f"29 views x 4 maps: {time.process_time() - start:.1f} CPU s")


if __name__ == "__main__":
    main()
