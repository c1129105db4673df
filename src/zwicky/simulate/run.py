"""A simulation from its configuration to a snapshot, with checkpoints.

The state is saved to `checkpoint.hdf5` every so often; repeating the command continues from there, and the resumed run
equals the uninterrupted one to the bit (same machine, device and version). `log.jsonl` has a line for every step, and
now and then the power spectra.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from zwicky.cosmology import Cosmology
from zwicky.grid import deposit, from_fixed, power_spectrum, to_fixed
from zwicky.io import (
    UserError,
    append_jsonl,
    atomic_path,
    check_writable,
    discard,
    keep_jsonl_until,
    require_room,
    require_writable,
)
from zwicky.kernels import kernels
from zwicky.simulate.gravity import Gravity
from zwicky.simulate.initial import initial_conditions, linear_modes, plant_cluster, smooth_fields
from zwicky.simulate.integrate import State, Steps, Universe, advance, begin, final_gas, particle_masses
from zwicky.simulate.output import write_snapshot
from zwicky.simulate.pressure import PressureModel
from zwicky.simulate.state import Particles, Species
from zwicky.units import C_CGS
from zwicky.version import __version__

PRESETS = {"n64": (64, 31.25), "n128": (128, 62.5), "n256": (256, 125.0), "n512": (512, 250.0), "n1024": (1024, 500.0)}
PHYSICS = 4  # raised when one configuration makes other particles than before
C_KM_S = C_CGS / 1e5
LOG_POWER = 0.1  # ln a between two power spectra in the log
HIGH_PASS = 40.0  # wavelength [Mpc/h] beyond which psi is filtered out
BYTES_PER_PARTICLE = 280  # peak of state, sorted copies and accelerations
BYTES_PER_MESH_POINT = 60  # filters, modes and their transforms
BYTES_PER_SITE = 420  # of the lattice, peak of making the initial conditions, which the CPU does for any device


@dataclass(frozen=True)
class SimulationConfig:
    """What to simulate.

    Args:
        n: particles of each species along a side. box: comoving side [Mpc/h].
        seed: of the initial white noise. fixed_amplitude: see `initial.linear_modes`.
        cluster: M200m [Msun] of a cluster planted at the centre of the box, 0 for none (`initial.plant_cluster`).
        peak: linear density contrast at the end that makes the cluster, 0 for `initial.collapse_threshold`; `plant`
            finds the one that makes it of the mass asked for.
        redshift_start, redshift_end: of the run. redshifts: of further snapshots on the way.
        dlna, da, eta: limits of a step (`integrate.Steps`).
        softening: Plummer equivalent, in mean particle spacings.
        mesh: mesh points along a side over n.
    """

    n: int = 64
    box: float = 31.25
    seed: int = 0
    fixed_amplitude: bool = False
    cluster: float = 0.0
    peak: float = 0.0
    redshift_start: float = 49.0
    redshift_end: float = 0.0
    redshifts: tuple[float, ...] = ()
    dlna: float = 0.05
    da: float = 0.01
    eta: float = 0.2
    softening: float = 1 / 24
    mesh: int = 2
    cosmology: Cosmology = field(default_factory=Cosmology)
    pressure: PressureModel = field(default_factory=PressureModel)

    def __post_init__(self) -> None:
        if self.n < 8 or not 0 < self.box < 1e5:
            raise ValueError(f"a simulation needs n >= 8 and a positive box, not n = {self.n} and box = {self.box}.")
        if self.cluster:
            self._check_cluster()
        if not 0 <= self.peak < 10 or (self.peak and not self.cluster):
            raise ValueError("peak is the height of a planted cluster, from 0 to 10.")
        if self.seed < 0:
            raise ValueError("the seed must not be negative.")
        if not 500 >= self.redshift_start > self.redshift_end >= 0:
            raise ValueError("the redshifts of a simulation must obey 500 >= start > end >= 0.")
        if not all(self.redshift_end <= z < self.redshift_start for z in self.redshifts):
            raise ValueError("the redshifts of further snapshots must lie between those of start and end.")
        if len(set(self.outputs.values())) < len({*self.redshifts, self.redshift_end}):
            raise ValueError("the redshifts of snapshots must differ by 0.001 or more.")
        if not (0 < self.da <= 0.1 and 0 < self.dlna <= 0.2 and self.eta > 0):
            raise ValueError("need 0 < da <= 0.1, 0 < dlna <= 0.2 and eta > 0.")
        if not (self.mesh in (1, 2, 3, 4) and 0 < self.softening * self.mesh <= 0.4 and self.n * self.mesh >= 14):
            raise ValueError("need mesh of 1 to 4, softening of at most 0.4 / mesh, and n mesh >= 14.")

    def _check_cluster(self) -> None:
        lowest = 200 * self.cosmology.rho_mean * (self.box_mpc / self.n) ** 3
        if not self.cluster >= lowest:
            raise ValueError(f"a planted cluster needs 200 particles of each species, {lowest:.2g} Msun here.")
        radius = self.cosmology.lagrangian_radius(self.cluster)
        if radius > self.box_mpc / 4:
            side = 4 * radius * self.cosmology.h
            raise ValueError(f"a planted cluster needs a box of four times its Lagrangian radius, {side:.1f} Mpc/h.")

    @property
    def box_mpc(self) -> float:
        """Comoving side [Mpc]."""
        return self.box / self.cosmology.h

    @property
    def a_start(self) -> float:
        """Scale factor at the start."""
        return 1 / (1 + self.redshift_start)

    @property
    def a_end(self) -> float:
        """Scale factor at the end."""
        return 1 / (1 + self.redshift_end)

    @property
    def memory(self) -> float:
        """Estimated peak memory [bytes]."""
        return 2 * self.n**3 * BYTES_PER_PARTICLE + (self.mesh * self.n) ** 3 * BYTES_PER_MESH_POINT + 6e8

    @property
    def steps(self) -> Steps:
        """The limits of a step."""
        return Steps(self.dlna, self.da, self.eta)

    @property
    def outputs(self) -> dict[float, str]:
        """Scale factors and names of the snapshots, earliest first."""
        named = {z: f"snapshot-z{z:.3f}.hdf5" for z in self.redshifts} | {self.redshift_end: "snapshot.hdf5"}
        return {1 / (1 + z): named[z] for z in sorted(named, reverse=True)}

    def universe(self, device: str = "cpu") -> Universe:
        """Solver and gas model."""
        c = self.cosmology
        epsilon = self.softening * self.box_mpc / self.n
        solver = Gravity(self.box_mpc, self.mesh * self.n, c.omega_m, c.rho_mean, epsilon, HIGH_PASS / c.h, device)
        return Universe(c, self.box_mpc, self.n, solver, self.pressure)


def simulate(
    config: SimulationConfig,
    folder: str | Path,
    progress: Callable[[int, int, float], None] | None = None,
    checkpoint_seconds: float = 60.0,
    device: str = "cpu",
) -> Path:
    """Run `config` and return the path of `folder`/snapshot.hdf5; resume from a checkpoint where there is one.

    Args:
        progress: called after every step as progress(done, in all, redshift), in thousandths of the expansion, with
            which the work goes roughly.
        checkpoint_seconds: least time between two checkpoints, and more of them where writing one takes over 3 s.
        device: cpu or cuda.

    Raises:
        UserError: the run would not fit in memory, the device has no kernels, the folder holds another simulation, or
            particles become faster than light, because steps are too long.
    """
    folder = Path(folder)
    check_writable(folder)
    snapshot, checkpoint, log = (folder / name for name in ("snapshot.hdf5", "checkpoint.hdf5", "log.jsonl"))
    if snapshot.exists():
        for name in config.outputs.values():
            _require_same(config, folder / name)
        discard(checkpoint)
        return snapshot
    require_possible(config, device)
    require_writable(folder)
    universe, outputs, first = config.universe(device), config.outputs, config.a_start
    state = _load(config, checkpoint, device) if checkpoint.exists() else first_state(config, universe)
    keep_jsonl_until(log, state.step)
    saved, cost, end = time.monotonic(), 0.0, max(outputs)
    while True:
        if state.a in outputs:  # after a step, or where the run was cut off
            write_snapshot(to_particles(config, universe, state, folder), folder / outputs[state.a], identity(config))
            for path in folder.glob("support-*.npy"):
                discard(path)
        if state.a >= end:
            break
        before = state.a
        target = min(a for a in outputs if a > before)
        advance(universe, state, config.steps.next(universe, state, target))
        line = _log_line(universe, state, before)
        if not line["fastest"] < C_KM_S:
            raise UserError(f"particles became faster than light at z = {1 / state.a - 1:.2f}; choose smaller steps.")
        append_jsonl(log, line)
        if progress:
            progress(round(1000 * (state.a - first) / (end - first)), 1000, 1 / state.a - 1)
        now = time.monotonic()
        before_output = state.a in outputs and cost > 3  # of so many particles it may take longer than what is left
        if before_output or now - saved > checkpoint_seconds * max(1.0, cost / 3):
            _save(config, state, checkpoint)
            saved = time.monotonic()
            cost = saved - now
    discard(checkpoint)
    return snapshot


def _log_line(universe: Universe, state: State, before: float) -> dict[str, Any]:
    """Kinetic energy [Msun (km/s)^2], total momentum over its sum of moduli and the greatest speed [km/s].

    Now and then the potential energy and the power spectra.
    """
    masses = torch.tensor(universe.masses, dtype=torch.float64, device=state.fixed.device)
    p = state.momentum.view(2, -1, 3).double()
    speed2 = p.square().sum(2)
    line: dict[str, Any] = {
        "step": state.step, "a": state.a, "redshift": 1 / state.a - 1,
        "kinetic": float(0.5 * (masses * speed2.sum(1)).sum() * (universe.cosmology.hubble0 / state.a) ** 2),
        "fastest": float(speed2.max().sqrt()) * universe.cosmology.hubble0 / state.a,
        "momentum": float((masses[:, None] * p.sum(1)).sum(0).norm() / (masses * speed2.sqrt().sum(1)).sum()),
    }
    if math.floor(math.log(state.a) / LOG_POWER) > math.floor(math.log(before) / LOG_POWER):
        line |= {"potential": _potential(universe, state)} | _power(universe, state)
    return line


def _potential(universe: Universe, state: State) -> float:
    """Potential energy of all matter, proper [Msun (km/s)^2]."""
    cells = universe.solver.sort(state.fixed)
    energy = universe.solver.potential_energy(cells, particle_masses(universe, cells))
    return energy * universe.cosmology.hubble0**2 / state.a


def _power(universe: Universe, state: State) -> dict[str, list[float]]:
    """k [1/Mpc] and power spectra [Mpc^3] of dark matter and gas, shot noise included."""
    spectra = []
    for fixed in state.fixed.view(2, -1, 3):
        cells = universe.solver.sort(fixed)
        one = torch.ones(len(fixed), device=fixed.device)
        spectra.append(power_spectrum(deposit(cells, one, universe.n) - 1, universe.box))
    return {"k": spectra[0][0].tolist(), "dark_matter": spectra[0][1].tolist(), "gas": spectra[1][1].tolist()}


def to_particles(config: SimulationConfig, universe: Universe, state: State, kept: Path | None = None) -> Particles:
    """The public form of a state; `kept` as of `final_gas`."""
    state, h_dark = final_gas(universe, state, kept)
    n = state.n_gas
    positions = from_fixed(state.fixed.cpu().numpy(), universe.box)
    velocities = (state.momentum * (universe.cosmology.hubble0 / state.a)).cpu().numpy()
    dark, gas = universe.masses
    h, density, temperature = (t.double().cpu().numpy() for t in (state.h, state.density, state.temperature))
    return Particles(
        universe.box, max(0.0, 1 / state.a - 1), universe.cosmology,
        Species(positions[:n], velocities[:n], np.full(n, dark), h_dark.double().cpu().numpy()),
        Species(positions[n:], velocities[n:], np.full(n, gas), h, density, temperature),
        {"simulation": f"zwicky n={config.n} box={config.box} Mpc/h seed={config.seed}"},
    )


def first_state(config: SimulationConfig, universe: Universe) -> State:
    """The state at the start, with forces."""
    return state_of_modes(config, universe, first_modes(config))


def first_modes(config: SimulationConfig) -> Tensor:
    """Modes of the linear density contrast at the start, without the planted cluster."""
    c, rng = config, np.random.default_rng(config.seed)
    return linear_modes(c.cosmology, c.box_mpc, c.n, c.a_start, rng, c.fixed_amplitude)


def state_of_modes(config: SimulationConfig, universe: Universe, modes: Tensor) -> State:
    """The state at the start: the cluster is planted, particles are displaced, gas gets its traits."""
    a, device = config.a_start, universe.solver.device
    if config.cluster:
        modes = plant_cluster(modes, config.cosmology, config.box_mpc, a, config.a_end, config.cluster, config.peak)
    positions, momenta = initial_conditions(config.cosmology, config.box_mpc, config.n, a, modes)
    fixed = torch.from_numpy(to_fixed(positions, config.box_mpc)).to(device)
    traits, model = None, config.pressure
    if any(model.scatter):
        rng = np.random.default_rng([config.seed, 1])
        traits = smooth_fields(config.box_mpc, config.n, model.scatter_length, model.scatter, rng).to(device)
    return begin(universe, a, fixed, torch.from_numpy(momenta).to(device, torch.float32), traits)


def require_possible(config: SimulationConfig, device: str) -> None:
    """Refuse a device without kernels, and a run that would not fit in memory, by a UserError."""
    try:
        kernels(torch.device(device))
    except ImportError as error:
        raise UserError(str(error)) from error
    if device == "cuda":
        _require_memory(config.memory, torch.cuda.mem_get_info()[0], "memory of the GPU")
        _require_memory(BYTES_PER_SITE * config.n**3 + 6e8, _available_memory(), "memory beside that of the GPU")
    else:
        _require_memory(config.memory, _available_memory(), "memory")


def _require_memory(needed: float, available: float, what: str) -> None:
    if needed > available:
        raise UserError(
            f"this simulation needs about {needed / 1e9:.1f} GB of {what} and {available / 1e9:.1f} GB are free; "
            "choose a smaller preset."
        )


def _available_memory(root: Path = Path("/")) -> float:
    """Free memory [bytes], within the limits of a container or a batch job; infinite where the system does not tell."""
    free = [math.inf]
    with contextlib.suppress(OSError):
        lines = (root / "proc/meminfo").read_text().splitlines()
        free += [float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    with contextlib.suppress(OSError):
        path = (root / "proc/self/cgroup").read_text().partition("0::/")[2].partition("\n")[0]
        groups = root / "sys/fs/cgroup" / path
        for group in (groups, *groups.parents):
            with contextlib.suppress(OSError, ValueError):  # without a limit it says max
                limit = float((group / "memory.max").read_text())
                used = float((group / "memory.current").read_text())
                cache = (group / "memory.stat").read_text().partition("inactive_file ")[2].split()[0]
                free.append(limit - used + float(cache))
    return min(free)


def identity(config: SimulationConfig) -> str:
    """The configuration as text, with the number of the physics, the same for the same simulation."""
    return json.dumps({**asdict(config), "physics": PHYSICS}, sort_keys=True, default=np.generic.item)


def stored_settings(folder: str | Path) -> dict[str, Any] | None:
    """Settings of the run in a folder, from its snapshot or its checkpoint; None where there is neither."""
    paths = (Path(folder) / name for name in ("snapshot.hdf5", "checkpoint.hdf5"))
    path = next((p for p in paths if p.exists()), None)
    if path is None:
        return None
    settings = json.loads(_stored_identity(path) or "{}")
    settings.pop("physics", None)
    return settings


def _stored_identity(path: Path) -> str | None:
    try:
        with h5py.File(path) as f:
            return f["Config"].attrs["json"] if "Config" in f else f.attrs.get("config")
    except (OSError, KeyError) as error:
        raise UserError(f"{path} is not a file of this package or is damaged; move it away.") from error


def _require_same(config: SimulationConfig, path: Path) -> None:
    if not path.exists():
        raise UserError(f"{path.parent} lacks {path.name}, although its run is finished; choose another folder.")
    found = _stored_identity(path)
    if found != identity(config):
        raise UserError(
            f"{path} belongs to a simulation with another configuration or another version's physics; choose another "
            "folder."
        )


def _save(config: SimulationConfig, state: State, path: Path) -> None:
    require_room(path, sum(v.nbytes for v in vars(state).values() if isinstance(v, Tensor)))
    with atomic_path(path) as part, h5py.File(part, "w") as f:
        f.attrs.update(config=identity(config), version=__version__, device=state.fixed.device.type)
        for name, value in vars(state).items():
            f[name] = value.cpu().numpy() if isinstance(value, Tensor) else value


def _load(config: SimulationConfig, path: Path, device: str) -> State:
    _require_same(config, path)
    with h5py.File(path) as f:
        found = (f.attrs.get("version"), f.attrs.get("device"))
        if found != (__version__, device):
            raise UserError(f"{path} was written by version {found[0]} on {found[1]}; move it away to start again.")
        fields = {name: f[name][()] for name in State.__dataclass_fields__}
    tensors = {k: torch.from_numpy(v).to(device) for k, v in fields.items() if np.ndim(v)}
    return State(**fields | tensors | {"a": float(fields["a"]), "step": int(fields["step"])})
