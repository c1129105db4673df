"""Zwicky: calibrated posterior maps of the gas and dark matter of galaxy clusters.

    particles = zwicky.read_snapshot("snapshot.hdf5")
    halos = zwicky.find_halos(particles)
    maps = zwicky.observe(particles, halos[0])
    posterior = zwicky.load_model("laptop").sample(maps_of_inputs, redshift=0.2, pixel_kpc=100.0)

Names are loaded when first used, so that `import zwicky` is quick.
"""

from importlib import import_module
from typing import Any

from zwicky.version import __version__

_PUBLIC = {
    "Cosmology": "zwicky.cosmology",
    "Particles": "zwicky.simulate.state",
    "Posterior": "zwicky.products",
    "find_halos": "zwicky.halos",
    "load_model": "zwicky.reconstruct",
    "project": "zwicky.observe.project",
    "read_snapshot": "zwicky.snapshots",
}

__all__ = [*_PUBLIC, "__version__", "observe"]


def __getattr__(name: str) -> Any:
    if name == "observe":
        return import_module("zwicky.observe")
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'zwicky' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
