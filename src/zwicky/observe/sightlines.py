"""From which side, how often, and in which split each cluster is observed.

    rotations: x' = R x, with R uniform on SO(3); the line of sight is z'
    sightlines: n_h per halo with sum over a bin of log10 M about constant     (Hsu et al. 2025, section 2.2)
    splits: by cluster, never by image, dealt out along the sorted masses
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

GOLDEN = (5**0.5 - 1) / 2
SPLITS = ("train", "validation", "test")


def random_rotations(n: int, rng: np.random.Generator, first_identity: bool = False) -> NDArray[np.float64]:
    """(n, 3, 3) rotation matrices, uniform on SO(3); the first is the identity if so asked."""
    R = Rotation.random(n, rng).as_matrix()
    if first_identity and n > 0:
        R[0] = np.eye(3)
    return R


def cardinal_rotations() -> NDArray[np.float64]:
    """(3, 3, 3) rotations that bring the z, x and y axis in turn to the line of sight; the first is the identity."""
    return np.stack([np.roll(np.eye(3), shift, axis=1) for shift in (0, 1, 2)])


def spread_rotations(n: int) -> NDArray[np.float64]:
    """(n, 3, 3) rotations that bring n directions, spread evenly over half of the sphere, to the line of sight.

    The directions are those of a golden spiral: z_i = (i + 1/2) / n, azimuth i times the golden angle. The other half
    would show the same maps mirrored.
    """
    i = np.arange(n)
    z, azimuth = (i + 0.5) / n, i * np.pi * (3 - np.sqrt(5))
    return Rotation.from_euler("zy", np.stack([-azimuth, -np.arccos(z)], axis=1)).as_matrix()


def flat_in_log_mass(
    masses: ArrayLike, per_bin: int, cap: int, bin_dex: float = 0.1, rng: np.random.Generator | int = 0
) -> NDArray[np.int64]:
    """Number of sightlines of each halo, (N,), so that every bin of log10 mass holds about per_bin images.

    Args:
        masses: (N,) [Msun].
        per_bin: images wanted in each bin; a bin of n halos holds min(per_bin, cap n), shared out evenly.
        cap: most images of one halo.
        bin_dex: width of a bin in log10 mass.
        rng: picks the halos that get one more than the rest of their bin (or one at all); a generator or a seed.

    Raises:
        ValueError: a mass is not positive, or a number is out of range.
    """
    masses = _positive(masses)
    if per_bin < 0 or cap < 0 or bin_dex <= 0:
        raise ValueError(f"per_bin and cap must not be negative and bin_dex be positive, not {per_bin, cap, bin_dex}.")
    rng = np.random.default_rng(rng)
    bins = np.floor(np.log10(masses) / bin_dex + 1e-9).astype(int)
    counts = np.zeros(len(masses), dtype=np.int64)
    for bin_ in np.unique(bins):
        members = rng.permutation(np.flatnonzero(bins == bin_))
        even, left = divmod(min(per_bin, cap * len(members)), len(members))
        counts[members] = even
        counts[members[:left]] += 1
    return counts


def split_by_cluster(
    masses: ArrayLike,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    rng: np.random.Generator | int = 0,
) -> NDArray[np.str_]:
    """Split of each cluster, (N,) of "train", "validation" or "test", each spanning the whole range of mass.

    Clusters are sorted by mass and cut into blocks of 1 / (smallest fraction); within a block the splits are shuffled.

    Args:
        masses: (N,) [Msun].
        fractions: of train, validation and test, adding up to 1; 0 leaves a split out.
        rng: a generator or a seed.

    Raises:
        ValueError: a mass is not positive, or the fractions do not add up to 1.
    """
    masses, f = _positive(masses), np.asarray(fractions, dtype=float)
    if f.shape != (3,) or (f < 0).any() or abs(f.sum() - 1) > 1e-9:
        raise ValueError(f"fractions must be three numbers that are not negative and add up to 1, not {fractions}.")
    rng = np.random.default_rng(rng)
    deal = _deal(len(masses), f)
    block = int(np.ceil(1 / f[f > 0].min() - 1e-9))
    shuffled = [rng.permutation(deal[start : start + block]) for start in range(0, len(deal), block)]
    splits = np.empty(len(masses), dtype=f"<U{max(map(len, SPLITS))}")
    splits[np.argsort(masses, kind="stable")] = np.array(SPLITS)[np.concatenate([np.empty(0, int), *shuffled])]
    return splits


def _deal(n: int, fractions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Split number of n clusters in turn, each going to the split that is furthest behind its share."""
    dealt, out = np.zeros(3), np.empty(n, dtype=np.int64)
    for i in range(n):
        out[i] = np.argmax(np.round(fractions * (i + 1) - dealt, 9))
        dealt[out[i]] += 1
    return out


def _positive(masses: ArrayLike) -> NDArray[np.float64]:
    """Masses as an array of one dimension, or ValueError."""
    masses = np.asarray(masses, dtype=float)
    if masses.ndim != 1 or not (np.isfinite(masses).all() and (masses > 0).all()):
        raise ValueError("masses must be a list of positive numbers.")
    return masses


def even_shares(count: int) -> NDArray[np.float64]:
    """Shares of a range, in (0, 1), spread evenly, as are any that follow one another: multiples of the golden ratio.

    More of them begin with the same ones.
    """
    return np.arange(1, count + 1, dtype=np.float64) * GOLDEN % 1


def even_order(count: int) -> NDArray[np.int64]:
    """0 to count - 1 in an order of which every first part is spread evenly."""
    return even_shares(count).argsort().argsort()
