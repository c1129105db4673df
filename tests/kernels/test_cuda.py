"""The CUDA kernels against those of the CPU: on a GPU where there is one, else in the simulator, in a subprocess."""

import copy
import os
import subprocess
import sys
from importlib.util import find_spec

import numba
import numpy as np
import pytest
import torch

from zwicky.kernels import BACKENDS, cpu

SIMULATED = bool(numba.config.ENABLE_CUDASIM)
ON_GPU = not SIMULATED and torch.cuda.is_available() and find_spec("numba_cuda") is not None
DEVICE = "cuda" if ON_GPU else "cpu"
COUNT = 300
needs_cuda = pytest.mark.skipif(not (SIMULATED or ON_GPU), reason="run by the first test, in the simulator")
pytestmark = pytest.mark.filterwarnings(
    "ignore:overflow encountered in scalar subtract",  # the periodic wrap, in the simulator
    "ignore:Grid size",  # small sets, on a GPU
)


@pytest.fixture
def cuda():
    """The module of the CUDA kernels.

    The simulator walks through the names of a module in many threads at once. The first warning of a module adds one,
    its registry, which is there from the start here.
    """
    from zwicky.kernels import cuda, pairs

    for module in (cuda, pairs):
        vars(module).setdefault("__warningregistry__", {})
    return cuda


@pytest.mark.skipif(SIMULATED or ON_GPU, reason="the tests below run here")
def test_the_tests_below_pass_in_the_simulator():
    command = [sys.executable, "-m", "pytest", __file__, "-p", "no:cacheprovider", "--durations=3"]
    run = subprocess.run(command, env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.skipif(SIMULATED or find_spec("numba_cuda") is not None, reason="numba-cuda is there")
def test_without_numba_cuda_the_kernels_say_what_to_install():
    with pytest.raises(ImportError, match="pip install"):
        import zwicky.kernels.cuda  # noqa: F401


def test_the_kernels_of_the_cpu_do_not_load_cuda():
    code = "import sys, zwicky.grid, zwicky.kernels.cpu; sys.exit('numba.cuda' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def clustered(n, seed=0):
    """Sorted positions (3, P) and starts of n^3 cells: a third anywhere, the rest in clumps, one over a corner."""
    rng = np.random.default_rng(seed)
    clumps = [c + w * rng.standard_normal((COUNT // 3, 3)) for c, w in ((0.01, 0.03), (rng.uniform(size=3), 0.1))]
    turns = np.concatenate([rng.uniform(size=(COUNT - 2 * (COUNT // 3), 3)), *clumps]) % 1
    fixed = torch.from_numpy(np.floor(turns * 2**32).astype(np.uint32).view(np.int32))
    order, start = cpu.sort_cells(fixed, n)
    return fixed[order].T.contiguous(), start


def uniform(low, high, *shape, seed=1):
    """Random float32 numbers."""
    return torch.from_numpy(np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32))


def compare(cuda, name, *arguments):
    """The kernel `name` of both sets, with the same arguments, to 1e-5 of the largest value of each column."""
    expected = getattr(cpu, name)(*arguments)
    there = [a.to(DEVICE) if isinstance(a, torch.Tensor) else a for a in arguments]
    found = getattr(cuda, name)(*there)
    assert (found.dtype, found.shape, found.device.type) == (expected.dtype, expected.shape, DEVICE)
    largest = expected.abs().amax(0) if expected.ndim == 2 else expected.abs().max()
    assert (largest > 0).all()
    assert ((found.cpu() - expected).abs() / largest).max() < 1e-5
    return expected


@needs_cuda
@pytest.mark.parametrize("n", [3, 8])
def test_order_and_starts_of_cells_are_those_of_the_cpu(cuda, n):
    fixed = clustered(3)[0].T[torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))]
    for found, expected in zip(cuda.sort_cells(fixed.to(DEVICE), n), cpu.sort_cells(fixed, n), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found.cpu(), expected)


@needs_cuda
@pytest.mark.parametrize("n", [16, 12])
def test_deposit_and_gather_are_those_of_the_cpu(cuda, n):
    position, start = clustered(4)
    compare(cuda, "deposit", position, uniform(0.5, 2, COUNT), start, 4, n)
    compare(cuda, "gather", position, uniform(-1, 1, n, n, n))


@needs_cuda
def test_deposit_conserves_mass_and_repeats_to_the_bit_in_any_order(cuda):
    position, start = clustered(4)
    weight = uniform(0, 1e3, COUNT)
    meshes = []
    for seed in (0, 1):
        shuffled = np.random.default_rng(seed).permutation(COUNT)
        cell = np.repeat(np.arange(4**3), np.diff(start))
        inside = torch.from_numpy(shuffled[np.argsort(cell[shuffled], kind="stable")])  # in other order in each cell
        arguments = (position[:, inside].contiguous(), weight[inside], start)
        meshes.append(cuda.deposit(*(a.to(DEVICE) for a in arguments), 4, 16).cpu())
    assert torch.equal(*meshes)
    assert meshes[0].double().sum() == pytest.approx(float(weight.double().sum()), rel=1e-7)


@needs_cuda
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_deposit_neither_overflows_nor_underflows(cuda, scale):
    """Everything at one point; 8/27 of it is on the nearest point of the mesh."""
    position, weight = torch.zeros((3, 64), dtype=torch.int32), torch.full((64,), scale)
    mesh = cuda.deposit(position.to(DEVICE), weight.to(DEVICE), torch.tensor([0, 64]).to(DEVICE), 1, 8)
    assert float(mesh[0, 0, 0]) == pytest.approx(64 * scale * 8 / 27, rel=1e-6)


@needs_cuda
@pytest.mark.parametrize(("n", "cutoff"), [(4, 1.0), (5, 0.9), (6, 1.0)])
def test_gravity_is_that_of_the_cpu(cuda, n, cutoff):
    """With a cutoff as wide as a cell, and narrower."""
    position, start = clustered(n)
    wanted = torch.arange(COUNT) % 3 == 0
    unit = n / cutoff / 2**32
    result = compare(cuda, "gravity", position, uniform(0.5, 2, COUNT), wanted, start, n, unit, 0.1**2)
    assert (result[~wanted, 3] == 0).all()
    compare(cuda, "potential", position, uniform(0.5, 2, COUNT), start, n, unit, 0.1**2)


@needs_cuda
@pytest.mark.parametrize(("n", "most"), [(4, 0.99), (6, 2.0), (8, 0.5), (12, 4.9)])
def test_density_is_that_of_the_cpu(cuda, n, most):
    """With support radii [cells] in one cell, over several, and so wide that a particle sees the whole box."""
    position, start = clustered(n)
    wanted = torch.arange(COUNT) % 4 > 0
    mass, h = uniform(0, 2, COUNT), uniform(0.1, most, COUNT, seed=2) / n
    result = compare(cuda, "density", position, mass, h, wanted, start, n, 1 / 2**32)
    assert (result[~wanted] == 0).all()


@needs_cuda
@pytest.mark.parametrize(("n", "most"), [(3, 1.0), (4, 2.0), (5, 2.4)])
def test_density_in_the_coarsest_lists_is_the_sum_over_all_pairs(cuda, n, most):
    """Support radii [cells] of up to half the box: the rows around a particle are all there are, each once."""
    position, start = clustered(n)
    mass, h = uniform(0, 2, COUNT), uniform(0.1, most, COUNT, seed=2) / n
    separation = (position[:, None, :] - position[:, :, None]).double() / 2**32
    q = (separation.norm(dim=0) / h[:, None]).clamp_max(1)
    expected = ((1 - q) ** 4 * (1 + 4 * q) * mass).sum(1)
    arguments = (position, mass, h, torch.ones(COUNT, dtype=torch.bool), start)
    found = cuda.density(*(a.to(DEVICE) for a in arguments), n, 1 / 2**32).cpu()
    assert ((found - expected).abs() / expected.max()).max() < 1e-6


@needs_cuda
@pytest.mark.parametrize(("n", "most"), [(4, 0.99), (6, 0.5)])
def test_pressure_is_that_of_the_cpu(cuda, n, most):
    position, start = clustered(n)
    gas = uniform(0.1, 2, COUNT, 8)
    gas[:, :3] -= 1
    gas[:, 6] = n / uniform(0.2 * most, most, COUNT, seed=2)
    widest = torch.full((n**3,), most / n)
    compare(cuda, "pressure", position, gas, widest, start, n, 1 / 2**32, 0.3)


@needs_cuda
def test_no_particles_are_no_mistake(cuda):
    position, start = torch.empty((3, 0), dtype=torch.int32), torch.zeros(28, dtype=torch.int64)
    none, nobody = torch.empty(0), torch.empty(0, dtype=torch.bool)
    assert (cuda.deposit(position, none, start, 3, 8) == 0).all()
    assert len(cuda.gather(position, torch.ones(8, 8, 8))) == 0
    assert cuda.gravity(position, none, nobody, start, 3, 1.0, 0.1).shape == (0, 4)
    assert len(cuda.density(position, none, none, nobody, start, 3, 1.0)) == 0


@pytest.fixture(scope="module")
def small_state():
    """2 x 8^3 particles at a = 0.5 with a clump in a corner that is hot, and the universe of a device."""
    pytest.importorskip("astropy")
    pytest.importorskip("colossus")
    from zwicky.grid import to_fixed
    from zwicky.simulate.integrate import begin
    from zwicky.simulate.run import SimulationConfig

    config = SimulationConfig(n=8, box=8.0)
    rng = np.random.default_rng(3)
    lattice = (np.indices((8, 8, 8)).reshape(3, -1).T + 0.5) / 8
    x = np.concatenate([lattice, lattice + 0.5 / 8]) + 0.02 * rng.standard_normal((1024, 3))
    x[::5] = 0.02 * rng.standard_normal(x[::5].shape)
    momentum = torch.from_numpy((0.05 * rng.standard_normal((1024, 3))).astype(np.float32))
    fixed = torch.from_numpy(to_fixed(x, 1.0))
    return config.universe, begin(config.universe(), 0.5, fixed, momentum)


@needs_cuda
def test_a_step_is_that_of_the_cpu(small_state, monkeypatch):
    from zwicky.simulate.integrate import advance

    universe, first = small_state
    slow, fast = copy.deepcopy(first), copy.deepcopy(first)
    advance(universe(), slow, 0.505)
    for name, value in vars(fast).items():
        if isinstance(value, torch.Tensor):
            setattr(fast, name, value.to(DEVICE))
    monkeypatch.setitem(BACKENDS, DEVICE, "zwicky.kernels.cuda")
    advance(universe(DEVICE), fast, 0.505)
    assert slow.temperature.max() > 1e6
    assert (slow.fixed - fast.fixed.cpu()).abs().max() < 1e-7 * 2**32
    for name in ("momentum", "gravity", "h", "density", "temperature", "drive", "pressure", "limiter"):
        one, two = getattr(slow, name), getattr(fast, name).cpu()
        assert (one - two).abs().max() < 1e-5 * one.abs().max(), name
