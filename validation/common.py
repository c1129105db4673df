"""What the scripts of this folder share: a finished run with its halos, and the look of a figure."""

from pathlib import Path

import numpy as np
from matplotlib import rc_context

from zwicky.evaluate.figures import COLOURS, COLUMN, STYLE, log_ticks, new_figure, save
from zwicky.halos import find_halos, read_halos, write_halos
from zwicky.recipe import build
from zwicky.simulate.run import SimulationConfig, stored_settings
from zwicky.snapshots import read_snapshot

__all__ = ["COLOURS", "config_of", "draw", "matter", "median_error", "read_run", "require_same", "with_error"]


def read_run(folder, min_particles=200):
    """Particles and halos of a finished run; halos are looked for where there are none yet, and kept."""
    particles = read_snapshot(Path(folder) / "snapshot.hdf5")
    path = Path(folder) / "halos.hdf5"
    if not path.exists():
        write_halos(find_halos(particles, min_particles=min_particles), path)
    return particles, read_halos(path)


def config_of(folder):
    """The configuration that a finished run was made with."""
    return build(SimulationConfig, stored_settings(folder), str(folder))


def require_same(runs, what):
    """End the script unless what is known of each run is the same."""
    if any(about != runs[0] for about in runs):
        raise SystemExit(f"the runs differ in {what}.")


def matter(particles):
    """Positions and masses of all matter."""
    species = (particles.dark_matter, particles.gas)
    return np.concatenate([s.positions for s in species]), np.concatenate([s.masses for s in species])


def median_error(values, rng):
    """Standard error of the median over the first axis, by bootstrap; NaN is left out."""
    picks = rng.integers(0, len(values), (400, len(values)))
    return np.nanmedian(values[picks], axis=1).std(axis=0)


def with_error(found, name):
    """A number of a report with its error; what is undefined is a dash."""
    value, error = found[name], found[f"{name}_error"]
    return f"{'-':>15s}" if value is None else f"{value:6.3f} +- {error or 0:.3f}"


def draw(path, panels):
    """Save a row of panels, each a function that fills its axes; no path, no figure."""
    if path is None:
        return
    with rc_context(STYLE):
        figure, axes = new_figure(1, len(panels), 2.7, COLUMN * len(panels))
        for ax, panel in zip(axes[0], panels, strict=True):
            panel(ax)
            for axis in (ax.xaxis, ax.yaxis):
                if axis.get_scale() == "log":
                    log_ticks(axis)
        save(figure, path)
