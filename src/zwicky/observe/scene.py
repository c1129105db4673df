"""When and through what a cluster is seen: what channels need to know beside the particles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zwicky.cosmology import Cosmology
from zwicky.simulate.state import Species


@dataclass(frozen=True)
class Scene:
    """The circumstances of an observation.

    Args:
        scale_factor: of the snapshot.
        cosmology: of the snapshot.
        redshift: at which the cluster is placed; a snapshot of one redshift may be seen at another.
        hydrogen_column: of the Milky Way, in front of it [cm^-2].
    """

    scale_factor: float
    cosmology: Cosmology
    redshift: float
    hydrogen_column: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.redshift < 20 and 0 <= self.hydrogen_column < 1e25):
            raise ValueError(
                "a cluster is seen at a redshift from 0 to 20, through a column of hydrogen that is not negative, not "
                f"{self.redshift:g} and {self.hydrogen_column:g} cm^-2."
            )


Weight = Callable[[Species, Scene], NDArray[np.float64]]  # what each particle adds to a map, times an area
Maps = Mapping[str, NDArray[np.float64]]  # by channel, (Y, X) each


@dataclass(frozen=True)
class Derived:
    """How a map is made of other maps, which may have to be wider than it.

    Args:
        of: names of the channels that it is made of, which may be derived themselves.
        make: of (their maps, the scene, side of a pixel [kpc]), the map on the same pixels.
        margin: of (width of the map that is wanted [kpc], the scene), by how much these maps must reach over it on
            every side [kpc]. They are cut at the box: `make` may be given less, and none at all.
    """

    of: tuple[str, ...]
    make: Callable[[Maps, Scene, float], NDArray[np.float64]]
    margin: Callable[[float, Scene], float]
