"""A simulation from its configuration to a snapshot, with checkpoints.

The state is saved to `checkpoint.hdf5` every so often; repeating the command continues from there, and the resumed run
equals the uninterrupted one to the bit.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import h5py
import numpy as np

from zwicky.cosmology import Cosmology
from zwicky.grid import from_fixed, to_fixed
from zwicky.io import UserError, atomic_path, require_writable
from zwicky.simulate.gravity import Gravity
from zwicky.simulate.initial import initial_conditions, linear_modes
from zwicky.simulate.integrate import State, Universe, advance, begin, final_gas, schedule
from zwicky.simulate.pressure import PressureModel
from zwicky.simulate.state import Particles, Species
from zwicky.units import MPC, MSUN

PRESETS = {"n64": (64, 31.25), "n128": (128, 62.5), "n256": (256, 125.0), "n512": (512, 250.0), "n1024": (1024, 500.0)}
HIGH_PASS = 40.0  # wavelength [Mpc/h] beyond which psi is filtered out
BYTES_PER_PARTICLE = 160  # peak of state, sorted copies and accelerations
BYTES_PER_MESH_POINT = 60  # filters, modes and their transforms


@dataclass(frozen=True)
class SimulationConfig:
    """What to simulate.

    Args:
        n: particles of each species along a side. box: comoving side [Mpc/h].
        seed: of the initial white noise. fixed_amplitude: see `initial.linear_modes`.
        redshift_start, redshift_end: of the run.
        da, dlna: largest steps in the scale factor and in its logarithm.
        softening: Plummer equivalent, in mean particle spacings.
        mesh: mesh points along a side over n.
    """

    n: int = 64
    box: float = 31.25
    seed: int = 0
    fixed_amplitude: bool = False
    redshift_start: float = 49.0
    redshift_end: float = 0.0
    da: float = 0.004
    dlna: float = 0.05
    softening: float = 1 / 16
    mesh: int = 2
    cosmology: Cosmology = field(default_factory=Cosmology)
    pressure: PressureModel = field(default_factory=PressureModel)

    def __post_init__(self) -> None:
        if self.n < 8 or not 0 < self.box < 1e5:
            raise ValueError(f"a simulation needs n >= 8 and a positive box, not n = {self.n} and box = {self.box}.")
        if self.seed < 0:
            raise ValueError("the seed must not be negative.")
        if not self.redshift_start > self.redshift_end >= 0:
            raise ValueError("the redshifts of a simulation must obey start > end >= 0.")
        if not (0 < self.da <= 0.1 and 0 < self.dlna <= 0.2 and self.softening > 0 and self.mesh in (1, 2, 3, 4)):
            raise ValueError("need 0 < da <= 0.1, 0 < dlna <= 0.2, softening > 0 and mesh of 1 to 4.")

    @property
    def box_mpc(self) -> float:
        """Comoving side [Mpc]."""
        return self.box / self.cosmology.h

    @property
    def memory(self) -> float:
        """Estimated peak memory [bytes]."""
        return 2 * self.n**3 * BYTES_PER_PARTICLE + (self.mesh * self.n) ** 3 * BYTES_PER_MESH_POINT + 6e8

    def scale_factors(self) -> np.ndarray:
        """Scale factors of the steps, first and last included."""
        return schedule(1 / (1 + self.redshift_start), 1 / (1 + self.redshift_end), self.dlna, self.da)

    def universe(self) -> Universe:
        """Solver and gas model."""
        c = self.cosmology
        epsilon = self.softening * self.box_mpc / self.n
        solver = Gravity(self.box_mpc, self.mesh * self.n, c.omega_m, c.rho_mean, epsilon, HIGH_PASS / c.h)
        return Universe(c, self.box_mpc, self.n, solver, self.pressure)


def simulate(
    config: SimulationConfig,
    folder: str | Path,
    progress: Callable[[int, int, float], None] | None = None,
    checkpoint_seconds: float = 60.0,
) -> Path:
    """Run `config` and return the path of `folder`/snapshot.hdf5; resume from a checkpoint where there is one.

    Args:
        progress: called as progress(steps done, steps in all, redshift).

    Raises:
        UserError: the run would not fit in memory, or the folder holds another simulation.
    """
    snapshot, checkpoint = Path(folder) / "snapshot.hdf5", Path(folder) / "checkpoint.hdf5"
    if snapshot.exists():
        _require_same(config, snapshot)
        return snapshot
    _require_memory(config)
    require_writable(folder)
    universe, scale_factors = config.universe(), config.scale_factors()
    state = _load(config, checkpoint) if checkpoint.exists() else _first_state(config, universe)
    saved = time.monotonic()
    while state.step < len(scale_factors) - 1:
        advance(universe, state, float(scale_factors[state.step + 1]))
        if progress:
            progress(state.step, len(scale_factors) - 1, 1 / state.a - 1)
        if time.monotonic() - saved > checkpoint_seconds:
            _save(config, state, checkpoint)
            saved = time.monotonic()
    write_snapshot(to_particles(config, universe, state), snapshot, config)
    checkpoint.unlink(missing_ok=True)
    return snapshot


def to_particles(config: SimulationConfig, universe: Universe, state: State) -> Particles:
    """The public form of a state."""
    state, h_dark = final_gas(universe, state)
    n = state.n_gas
    positions = from_fixed(state.fixed, universe.box)
    velocities = state.momentum * np.float32(universe.cosmology.hubble0 / state.a)
    dark, gas = universe.masses
    return Particles(
        universe.box, max(0.0, 1 / state.a - 1), universe.cosmology,
        Species(positions[:n], velocities[:n], np.full(n, dark), h_dark.astype(float)),
        Species(
            positions[n:], velocities[n:], np.full(n, gas), state.h.astype(float),
            state.density.astype(float), state.temperature.astype(float),
        ),
        {"simulation": f"zwicky n={config.n} box={config.box} Mpc/h seed={config.seed}"},
    )


def _first_state(config: SimulationConfig, universe: Universe) -> State:
    a = float(config.scale_factors()[0])
    rng = np.random.default_rng(config.seed)
    modes = linear_modes(config.cosmology, config.box_mpc, config.n, a, rng, config.fixed_amplitude)
    positions, momenta = initial_conditions(config.cosmology, config.box_mpc, config.n, a, modes)
    return begin(universe, a, to_fixed(positions, config.box_mpc), momenta.astype(np.float32))


def _require_memory(config: SimulationConfig) -> None:
    available = _available_memory()
    if available is not None and config.memory > available:
        raise UserError(
            f"this simulation needs about {config.memory / 1e9:.1f} GB of memory and {available / 1e9:.1f} GB are "
            "free; choose a smaller preset."
        )


def _available_memory() -> float | None:
    """Free memory [bytes], None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def _identity(config: SimulationConfig) -> str:
    return json.dumps(asdict(config), sort_keys=True)


def _require_same(config: SimulationConfig, path: Path) -> None:
    try:
        with h5py.File(path) as f:
            found = f["Config"].attrs["json"] if "Config" in f else f.attrs.get("config")
    except (OSError, KeyError) as error:
        raise UserError(f"{path} is not a file of this package or is damaged; move it away.") from error
    if found != _identity(config):
        raise UserError(f"{path} belongs to a simulation with another configuration; choose another folder.")


def _save(config: SimulationConfig, state: State, path: Path) -> None:
    with atomic_path(path) as part, h5py.File(part, "w") as f:
        f.attrs["config"] = _identity(config)
        for name, value in vars(state).items():
            f[name] = value


def _load(config: SimulationConfig, path: Path) -> State:
    _require_same(config, path)
    with h5py.File(path) as f:
        fields = {name: f[name][()] for name in State.__dataclass_fields__}
    fields["a"], fields["step"] = float(fields["a"]), int(fields["step"])
    return State(**fields)


_UNITS = {  # dataset: (unit for people, to CGS, power of a, power of h)
    "Coordinates": ("Mpc", MPC, 1, 0),
    "Velocities": ("km/s", 1e5, 0, 0),
    "Masses": ("Msun", MSUN, 0, 0),
    "SmoothingLength": ("Mpc", MPC, 1, 0),
    "Density": ("Msun/Mpc3", MSUN / MPC**3, -3, 0),
    "Temperature": ("K", 1.0, 0, 0),
}


def write_snapshot(particles: Particles, path: str | Path, config: SimulationConfig | None = None) -> None:
    """Write `particles` as HDF5 with the groups of GADGET-4 and a unit on every data set.

    PartType0 is gas, PartType1 dark matter. Coordinates and SmoothingLength (the kernel's support radius) are comoving,
    Velocities peculiar; there are no factors of h.
    """
    c = particles.cosmology
    with atomic_path(path) as part, h5py.File(part, "w") as f:
        counts = np.array([len(particles.gas), len(particles.dark_matter), 0, 0, 0, 0])
        header = f.create_group("Header")
        header.attrs.update(
            NumPart_ThisFile=counts, NumPart_Total=counts, NumPart_Total_HighWord=np.zeros(6, int),
            MassTable=np.zeros(6), Time=particles.scale_factor, Redshift=particles.redshift, BoxSize=particles.box,
            NumFilesPerSnapshot=1, Omega0=c.omega_m, OmegaLambda=c.omega_l, OmegaBaryon=c.omega_b, HubbleParam=c.h,
        )
        f.create_group("Cosmology").attrs.update(c.as_dict())
        f.create_group("Origin").attrs.update(particles.origin)
        f.create_group("Units").attrs.update(
            UnitLength_in_cm=_UNITS["Coordinates"][1], UnitMass_in_g=_UNITS["Masses"][1], UnitVelocity_in_cm_per_s=1e5
        )
        if config:
            f.create_group("Config").attrs["json"] = _identity(config)
        for group, species in (("PartType0", particles.gas), ("PartType1", particles.dark_matter)):
            _write_species(f.create_group(group), species)


def _write_species(group: h5py.Group, species: Species) -> None:
    columns = {
        "Coordinates": species.positions, "Velocities": species.velocities, "Masses": species.masses,
        "SmoothingLength": species.support_radius, "Density": species.density, "Temperature": species.temperature,
    }
    for name, values in columns.items():
        if values is None:
            continue
        unit, cgs, a_power, h_power = _UNITS[name]
        data = group.create_dataset(name, data=values)
        data.attrs.update(unit=unit, to_cgs=cgs, a_scaling=a_power, h_scaling=h_power)
    group["ParticleIDs"] = np.arange(len(species), dtype=np.uint64)
