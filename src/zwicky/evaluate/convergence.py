"""How the moments of a posterior settle with the number of samples (Hsu et al. 2025, fig. 5).

    m_n = mean of the first n samples,   V_n = their n - 1 variance,   < (m_n - t)^2 > = V (1 + 1/n) if calibrated
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def prefix_sizes(n_samples: int) -> list[int]:
    """Numbers of samples at which the moments are looked at: 1, 2, 5, 10, 20, 50, ... and all of them."""
    steps = [m * 10**power for power in range(len(str(n_samples))) for m in (1, 2, 5)]
    return [n for n in steps if n < n_samples] + [n_samples]


def prefix_means(x: Array, sizes: list[int]) -> Array:
    """Means of the first n samples of x (S, ...) for each n of `sizes`, (C, ...)."""
    total = np.cumsum(x, axis=0)
    return np.stack([total[n - 1] / n for n in sizes])


def prefix_variances(x: Array, sizes: list[int]) -> Array:
    """Unbiased variances of the first n samples of x (S, ...), (C, ...); NaN for a single one."""
    centred = x - x.mean(0)  # so that little is lost in the difference of squares
    means, squares = prefix_means(centred, sizes), prefix_means(centred**2, sizes)
    n = np.array(sizes, dtype=float).reshape(-1, *([1] * (x.ndim - 1)))
    return np.where(n > 1, np.maximum(squares - means**2, 0.0) * n / np.maximum(n - 1, 1.0), np.nan)
