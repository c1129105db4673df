"""When and through what a cluster is seen: what channels need to know beside the particles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zwicky.cosmology import Cosmology
from zwicky.observe.tables import EmissivityTable
from zwicky.simulate.state import Species


@dataclass(frozen=True)
class Scene:
    """The circumstances of an observation.

    Args:
        scale_factor: of the snapshot.
        cosmology: of the snapshot.
        redshift: at which the cluster is placed; a snapshot of one redshift may be seen at another.
        hydrogen_column: of the Milky Way, in front of it [cm^-2].
        emissivity: of X-ray bands; None for free-free emission alone.
        metallicity: of gas whose own is not known, in the solar unit of `emissivity`.
    """

    scale_factor: float
    cosmology: Cosmology
    redshift: float
    hydrogen_column: float = 0.0
    emissivity: EmissivityTable | None = None
    metallicity: float = 0.3

    def __post_init__(self) -> None:
        if not (0 <= self.redshift < 20 and 0 <= self.hydrogen_column < 1e25):
            raise ValueError(
                "a cluster is seen at a redshift from 0 to 20, through a column of hydrogen that is not negative, not "
                f"{self.redshift:g} and {self.hydrogen_column:g} cm^-2."
            )
        if not 0 <= self.metallicity < 100:
            raise ValueError(f"the metallicity of gas must be from 0 to 100 Zsun, not {self.metallicity:g}.")


Weight = Callable[[Species, Scene], NDArray[np.float64]]  # what each particle adds to a map, times an area
