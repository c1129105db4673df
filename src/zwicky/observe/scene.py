"""When and through what a cluster is seen: what channels need to know beside the particles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.cosmology import LambdaCDM
from numpy.typing import NDArray

from zwicky.cosmology import Cosmology
from zwicky.observe.populations import PopulationTable
from zwicky.observe.tables import EmissivityTable
from zwicky.simulate.state import Particles, Species


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
        populations: light of stars by age and metals; None for that of old stars.
    """

    scale_factor: float
    cosmology: Cosmology
    redshift: float
    hydrogen_column: float = 0.0
    emissivity: EmissivityTable | None = None
    metallicity: float = 0.3
    populations: PopulationTable | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.redshift < 20 and 0 <= self.hydrogen_column < 1e25):
            raise ValueError(
                "a cluster is seen at a redshift from 0 to 20, through a column of hydrogen that is not negative, not "
                f"{self.redshift:g} and {self.hydrogen_column:g} cm^-2."
            )
        if not 0 <= self.metallicity < 100:
            raise ValueError(f"the metallicity of gas must be from 0 to 100 Zsun, not {self.metallicity:g}.")

    @classmethod
    def of(cls, particles: Particles, redshift: float | None = None, *seen: Any) -> Scene:
        """The scene of a snapshot, at its own redshift unless another is given; `seen` are the other arguments."""
        z = particles.redshift if redshift is None else redshift
        return cls(particles.scale_factor, particles.cosmology, z, *seen)

    @property
    def arcsec_per_kpc(self) -> float:
        """Angle under which a proper kpc is seen.

        Raises:
            ValueError: the cluster is at redshift 0, where a length has no angle.
        """
        if not self.redshift > 0:
            raise ValueError("at redshift 0 a length has no angle; place the clusters at a redshift above 0.")
        distance = universe(self.cosmology).angular_diameter_distance(self.redshift)
        return float(np.rad2deg(1 / distance.to_value("kpc")) * 3600)

    @property
    def distance_modulus(self) -> float:
        """m - M, without K-correction."""
        return float(universe(self.cosmology).distmod(self.redshift).value)


def universe(c: Cosmology) -> LambdaCDM:
    """The cosmology as astropy's, for distances."""
    return LambdaCDM(H0=c.hubble0, Om0=c.omega_m, Ode0=c.omega_l)


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
