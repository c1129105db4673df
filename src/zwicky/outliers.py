"""Is a cluster unlike everything in training? A score from its images, and from what the samples say of them.

A map v, on the normalised scale of the model, is told by the features of its rings k:

    f = (mean_k v, ln rms_k (v - mean_k v))                                profile and lumpiness, all channels in a row

The features of the maps of training, f_y of inputs and f_x of targets, have the mean mu and the covariance C, shrunk
after Ledoit & Wolf (2004). Three distances are taken, of the images from those of training in all features; in the
brightness of channels alone (a column of G is 1 for the means of one channel); and in the brightness that the samples
x_s of their own posterior leave unexplained:

    d = f_y - mu_y,           D_1^2 = d^T C_yy^-1 d
    b = B(d, C_yy),           D_2^2 = b^T (G^T C_yy^-1 G) b,    B(v, V) = (G^T V^-1 G)^-1 G^T V^-1 v
    b' = B(< r_s >_s, R),     D_3^2 = (b' - m)^T K^-1 (b' - m)
    r_s = d - C_yx C_xx^-1 (f_x(s) - mu_x),    R = C_yy - C_yx C_xx^-1 C_xy

B is the most likely change of brightness by a factor common to a channel, which drowns in the noise of all features.
m and K are mean and covariance of b' over the validation split, because they depend on how well the model was trained.
Features of channels that are not given and of rings that are not seen are left out: the marginals of a Gaussian. Then
D_3 is left out as well, because samples that saw less err in other ways than those of the validation split. z is the
cube root of D^2, which makes a chi^2 nearly Gaussian (Wilson & Hilferty 1931), standardised by the same split, and

    score = (1 + number of validation maps with max z_i >= max z) / (1 + their number)

the conformal p-value (Bates et al. 2023, arXiv:2104.08279), which falls off as an exponential beyond the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from zwicky.dataset.normalize import LogScale
from zwicky.dataset.store import MapSet, chunks
from zwicky.io import DAMAGE, UserError, atomic_path
from zwicky.observe.sky import distance
from zwicky.products import Outlier, default_profile_edges

Array = NDArray[np.float64]

FILE = "outliers.safetensors"
FORMAT = "zwicky-outliers-1"
RINGS = 8
SEEN = 0.9  # of a ring, for its features to be used: those of a part of it are not spread in the same way
LEAST_FEATURES = 4  # to judge at all
SMOOTH = 0.01  # added to the rms of a ring, in standard deviations of the training pixels
FALSE_ALARMS = 0.1
FEWEST = 9  # validation maps, of which a new one is further off than all in FALSE_ALARMS of the cases


@dataclass(frozen=True)
class Reference:
    """What the clusters of training look like.

    Args:
        mean: (F + T,) of the F features of the inputs and the T of the targets. covariance: (F + T, F + T).
        images: (M, F) features of the inputs of validation maps. samples: (M, T) means of those of samples of their
            posteriors.
    """

    mean: Array
    covariance: Array
    images: Array
    samples: Array

    def __post_init__(self) -> None:
        size, f = len(self.mean), self.images.shape[-1]
        shapes = self.covariance.shape == (size, size) and self.samples.shape[1:] == (size - f,)
        if not (shapes and len(self.images) == len(self.samples) >= 2):
            raise ValueError("the arrays of a reference do not fit each other, or are too few.")

    @classmethod
    def fit(
        cls,
        maps: MapSet,
        targets: Sequence[str],
        inputs: Sequence[str],
        scales: Mapping[str, LogScale],
        draw: Callable[[NDArray[np.float32], int, int], NDArray[np.float32]],
        most: int = 150,
    ) -> Reference:
        """The reference of a set of maps: Gaussian of its training split, distances of its validation split.

        Args:
            scales: of all channels. most: validation maps, shared out evenly between clusters.
            draw: (normalised inputs (K, P, P), running number, how many in all) -> normalised samples (S, C, P, P).
        """
        train = maps.rows("train")
        both = np.concatenate([_read_features(maps, names, scales, train) for names in (inputs, targets)], axis=1)
        mean, covariance = gaussian(both)
        rows = maps.few("validation", most)
        samples = []
        for i, row in enumerate(rows):
            y = _normalised(maps, inputs, scales, np.array([row]))[0]
            samples.append(features(draw(y, i, len(rows))).mean(0))
        return cls(mean, covariance, _read_features(maps, inputs, scales, rows), np.stack(samples))

    def score(self, y: NDArray, known: NDArray[np.bool_], x: NDArray) -> Outlier | None:
        """How unlike its training a cluster is; None where too little of it is seen.

        Args:
            y, known: normalised inputs and where they are known, (K, P, P). x: normalised samples (S, C, P, P).
        """
        f_y = features(y, known)
        seen = np.flatnonzero(np.isfinite(f_y))
        if len(seen) < LEAST_FEATURES:
            return None
        found = self._distances(seen, f_y[None], features(x).mean(0)[None])
        like = self._distances(seen, self.images, self.samples)
        z = {name: _standardised(float(found[name][0]), like[name]) for name in like}
        largest = np.max([others for _, others in z.values()], axis=0)
        parts = {name: own for name, (own, _) in z.items()}
        return Outlier(tail(max(parts.values()), largest), FALSE_ALARMS, parts)

    def _distances(self, seen: NDArray[np.int64], f_y: Array, f_x: Array) -> dict[str, Array]:
        """Each D^2, (N,), by the features `seen`, of images (N, F) and of their samples (N, T)."""
        size = self.images.shape[1]
        d, C_yy = f_y[:, seen] - self.mean[seen], self.covariance[np.ix_(seen, seen)]
        b, precision = brightness(d, C_yy, _channels(size)[seen])
        found = {"images": _quadratic(d, C_yy), "brightness": np.einsum("ni,ij,nj->n", b, precision, b)}
        if len(seen) == size:
            m, K = gaussian(self._unexplained(self.images, self.samples))
            found["samples"] = _quadratic(self._unexplained(f_y, f_x) - m, K)
        return found

    def _unexplained(self, f_y: Array, f_x: Array) -> Array:
        """Brightness b' of each channel that samples do not explain, (N, K)."""
        size = self.images.shape[1]
        C_xx, C_xy = self.covariance[size:, size:], self.covariance[size:, :size]
        slope = np.linalg.solve(C_xx, C_xy)
        r = f_y - self.mean[:size] - (f_x - self.mean[size:]) @ slope
        return brightness(r, self.covariance[:size, :size] - C_xy.T @ slope, _channels(size))[0]

    def save(self, folder: str | Path) -> None:
        """Write it into the folder of a model."""
        arrays = {name: np.ascontiguousarray(value, np.float64) for name, value in asdict(self).items()}
        with atomic_path(Path(folder) / FILE) as part:
            save_file(arrays, part, {"format": FORMAT})


def read_reference(folder: str | Path, pixels: int, inputs: int, targets: int) -> Reference | None:
    """The reference of the model in a folder, of so many channels; None if it has none.

    Raises:
        UserError: the file is damaged, or that of another model.
    """
    path = Path(folder) / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "np") as f:
            if f.metadata()["format"] != FORMAT:
                raise ValueError("unknown format")
            found = Reference(**{name: f.get_tensor(name) for name in f.keys()})  # noqa: SIM118
        size = len(features(np.zeros((inputs, pixels, pixels)))), len(features(np.zeros((targets, pixels, pixels))))
        if (found.images.shape[1], found.samples.shape[1]) != size:
            raise ValueError("other channels")
    except (*DAMAGE, SafetensorError) as error:
        raise UserError(f"{path} is damaged or of another model; move it away to go on without it.") from error
    return found


def features(v: NDArray, known: NDArray[np.bool_] | None = None) -> Array:
    """Mean and ln rms of the rings of maps (..., C, P, P), (..., 2 C RINGS); NaN for rings that are not seen."""
    ring = _rings(v.shape[-1])
    flat = v.reshape(*v.shape[:-2], -1).astype(np.float64)
    seen = np.ones_like(flat) if known is None else known.reshape(flat.shape).astype(np.float64)
    count = seen @ ring
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (flat * seen) @ ring / count
        rms = np.sqrt(np.maximum((flat**2 * seen) @ ring / count - mean**2, 0))
    both = np.where(count >= SEEN * ring.sum(0), np.stack([mean, np.log(rms + SMOOTH)]), np.nan)
    return np.moveaxis(both, 0, -2).reshape(*v.shape[:-3], -1)


def _rings(pixels: int) -> Array:
    """Which pixels belong to each ring, (P^2, RINGS); the last ring has the corners too."""
    edges = default_profile_edges(pixels, 1.0, RINGS)[1:-1]
    which = np.searchsorted(edges, distance(pixels).ravel())
    return (which[:, None] == np.arange(RINGS)).astype(np.float64)


def _normalised(
    maps: MapSet, channels: Sequence[str], scales: Mapping[str, LogScale], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    return np.stack([scales[c].forward(maps.read(c, rows)) for c in channels], 1).astype(np.float32)


def _read_features(
    maps: MapSet, channels: Sequence[str], scales: Mapping[str, LogScale], rows: NDArray[np.int64]
) -> Array:
    """Features (R, 2 C RINGS) of rows of a set."""
    return np.concatenate([features(_normalised(maps, channels, scales, chunk)) for chunk in chunks(rows)])


def gaussian(f: Array) -> tuple[Array, Array]:
    """Mean and shrunk covariance of rows (N, F).

    The correlations are shrunk towards none: (1 - w) S + w I with the w of least expected error,
    w = sum_n |x_n x_n^T - S|^2 / (N^2 |S - I|^2), x the standardised rows (Ledoit & Wolf 2004).
    """
    mean, std = f.mean(0), np.maximum(f.std(0), 1e-6)
    x = (f - mean) / std
    S = x.T @ x / len(x)
    noise = ((x**2).sum(1) ** 2).sum() / len(x) ** 2 - (S**2).sum() / len(x)
    weight = np.clip(noise / max(((S - np.eye(len(S))) ** 2).sum(), 1e-12), 1e-4, 1)
    return mean, ((1 - weight) * S + weight * np.eye(len(S))) * np.outer(std, std)


def _quadratic(r: Array, covariance: Array) -> Array:
    """r^T C^-1 r over the last axis, (...)."""
    white = np.linalg.solve(np.linalg.cholesky(covariance), r.reshape(-1, r.shape[-1]).T)
    return (white**2).sum(0).reshape(r.shape[:-1])


def brightness(v: Array, covariance: Array, G: Array) -> tuple[Array, Array]:
    """The most likely b of v = G b for rows v (N, F), (N, K), and its inverse covariance, without columns of zeros.

    Args:
        G: (F, K).
    """
    G = G[:, G.any(0)]
    white = np.linalg.solve(covariance, G)
    precision = G.T @ white
    return np.linalg.solve(precision, (v @ white).T).T, precision


def _channels(size: int) -> Array:
    """Which of `size` features are means of each channel, (size, K)."""
    feature = np.arange(size)
    mean = feature % (2 * RINGS) < RINGS
    return ((feature // (2 * RINGS))[:, None] == np.arange(size // (2 * RINGS))) * mean[:, None].astype(np.float64)


def _standardised(squared: float, like: Array) -> tuple[float, Array]:
    """Cube roots of a distance and of those of like clusters, in standard deviations of the latter from their mean."""
    roots = np.cbrt(like)
    z = (np.cbrt([squared, *like]) - roots.mean()) / max(float(roots.std()), 1e-12)
    return float(z[0]), z[1:]


def tail(distance: float, like: Array) -> float:
    """Share of like clusters at least as far off: conformal, and exponential beyond the limit.

    A distance beyond the limit scores less than FALSE_ALARMS; a new like cluster has one at that rate or less.

    Args:
        distance: of the cluster. like: (M,) of clusters that are like those of training.
    """
    ordered = np.sort(like)
    place = int(np.ceil((len(like) + 1) * (1 - FALSE_ALARMS)))
    limit = ordered[min(place, len(like)) - 1]
    if distance <= limit:
        return float(max((1 + np.sum(like >= distance)) / (1 + len(like)), FALSE_ALARMS))
    excess = float(np.mean(ordered[place:] - limit)) if place < len(like) else 0.0
    return float(FALSE_ALARMS * np.exp(-(distance - limit) / max(excess, 0.1 * float(like.std()), 1e-12)))
