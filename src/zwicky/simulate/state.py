"""What a simulation is: particles of dark matter, gas and stars in a periodic cube at one moment.

Every reader, ours or of an outside format, returns this; halos and observe take it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zwicky.cosmology import Cosmology


@dataclass
class Species:
    """Particles of one kind.

    Args:
        positions: (P, 3) comoving [Mpc], of any periodic image.
        velocities: (P, 3) peculiar [km/s]; None where unknown.
        masses: (P,) [Msun].
        support_radius: (P,) comoving [Mpc], where the Wendland C2 kernel of a particle ends; None where unknown.
        density: (P,) comoving [Msun / Mpc^3], of this species at the particle; gas only.
        temperature: (P,) thermal [K]; gas only. 0 marks gas that neither shines nor scatters.
        metallicity: (P,) mass fraction of metals [Zsun, units.Z_SOLAR = 0.0127]; gas and
            stars, None where unknown.
        age: (P,) [Gyr]; stars only, None where unknown.
    """

    positions: NDArray[np.float64]
    velocities: NDArray[np.float32] | None
    masses: NDArray[np.float64]
    support_radius: NDArray[np.float64] | None = None
    density: NDArray[np.float64] | None = None
    temperature: NDArray[np.float64] | None = None
    metallicity: NDArray[np.float64] | None = None
    age: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.masses)

    def take(self, index: NDArray[np.intp]) -> Species:
        """The particles of `index`, every field kept."""
        columns: dict[str, Any] = {k: None if v is None else v[index] for k, v in vars(self).items()}
        return Species(**columns)


@dataclass
class Particles:
    """A snapshot.

    Args:
        box: side of the periodic cube, comoving [Mpc].
        redshift: of the snapshot.
        cosmology: its cosmology.
        dark_matter, gas: the two species of every simulation of ours.
        origin: where it came from (file, preset, seed), kept in every artefact made from it.
        stars: None where there are none.
        galaxies: each with its stellar mass, of a catalogue or painted on halos (`zwicky.galaxies`); None where
            unknown. They are not matter beside the other species, and are not written.
    """

    box: float
    redshift: float
    cosmology: Cosmology
    dark_matter: Species
    gas: Species
    origin: dict[str, str] = field(default_factory=dict)
    stars: Species | None = None
    galaxies: Species | None = None

    @property
    def scale_factor(self) -> float:
        """a = 1 / (1 + z)."""
        return 1.0 / (1.0 + self.redshift)
