"""The projector of CUDA against that of the CPU: on a GPU if there is one, else in the simulator, as a subprocess."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numba
import numpy as np
import pytest
import torch

from zwicky.observe.levels import THRESHOLD
from zwicky.observe.project import project

SIMULATED = bool(numba.config.ENABLE_CUDASIM)
ON_GPU = not SIMULATED and torch.cuda.is_available() and find_spec("numba_cuda") is not None
DEVICE = "cuda" if ON_GPU else "cpu"
needs_cuda = pytest.mark.skipif(not (SIMULATED or ON_GPU), reason="run by the first test, in the simulator")


@pytest.mark.skipif(SIMULATED or ON_GPU, reason="the tests below run here")
def test_the_tests_below_pass_in_the_simulator():
    command = [sys.executable, "-m", "pytest", __file__, "-p", "no:cacheprovider", "--durations=3"]
    run = subprocess.run(command, env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_projection_on_the_cpu_does_not_load_cuda():
    code = "import sys, zwicky; zwicky.project([[0, 0, 0]], [1], [1], 4, 4); sys.exit('numba.cuda' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_another_device_is_refused():
    with pytest.raises(ValueError, match="cpu or cuda, not 'tpu'"):
        project([[0, 0, 0]], [1], [1], 1, 1, device="tpu")


def particles(P=150, largest=4.0, pixels=16, seed=0):
    """Positions in and around a map of a pixel a unit, support radii from a point on, weights of both signs."""
    rng = np.random.default_rng(seed)
    H = np.append(np.zeros(P // 3), np.geomspace(0.05, largest, P - P // 3))
    weights = np.stack([rng.uniform(1, 2, P), 1e30 * rng.uniform(1, 2, P), rng.normal(size=P), np.zeros(P)], 1)
    return rng.uniform(-0.7 * pixels, 0.7 * pixels, (P, 3)), H, weights


def compare(*arguments):
    """Maps of both devices, to 1e-12 of the largest value of each."""
    expected, found = (project(*arguments, device=device) for device in ("cpu", "cuda"))
    assert (found.shape, found.dtype) == (expected.shape, np.float64)
    for one, two in zip(np.atleast_3d(found), np.atleast_3d(expected), strict=True):
        assert np.abs(one - two).max() <= 1e-12 * np.abs(two).max()
    return found


@needs_cuda
@pytest.mark.parametrize("pixels", [16, 13])
def test_map_is_that_of_the_cpu(pixels):
    found = compare(*particles(pixels=pixels), 2.0 * pixels, pixels)
    assert (found[0] > 0).any()
    assert not found[3].any()


@needs_cuda
def test_the_cubic_spline_is_that_of_the_cpu():
    arguments = (*particles(P=60), 16.0, 16)
    expected, found = (project(*arguments, device=device, kernel="cubic") for device in ("cpu", "cuda"))
    for one, two in zip(found, expected, strict=True):
        assert np.abs(one - two).max() <= 1e-12 * np.abs(two).max()
    assert np.abs(found[0] - project(*arguments)[0]).max() > 1e-3 * found[0].max()


@needs_cuda
def test_large_kernels_are_those_of_the_cpu():
    """Of every level up to the coarsest, which covers the map many times."""
    positions, _, weights = particles(P=8, pixels=24)
    compare(positions, np.array([0.5, 3.0, 1.2, 2.5, 5.0, 10.0, 1e3, 1e100]) * THRESHOLD, weights, 24.0, 24)


@needs_cuda
def test_one_map_and_no_particles():
    positions, H, weights = particles()
    assert compare(positions, H, weights[:, 0], 16.0, 16).shape == (16, 16)
    assert (project(np.empty((0, 3)), [], np.empty((0, 2)), 1.0, 4, device="cuda") == np.zeros((2, 4, 4))).all()


@needs_cuda
def test_mass_is_conserved():
    positions = np.random.default_rng(0).uniform(-2, 2, (40, 3))
    image = project(positions, np.geomspace(1e-3, 6, 40), np.full(40, 0.1), 16.0, 32, device="cuda")
    assert image.sum() * 0.25 == pytest.approx(4, rel=1e-12)
    assert image.min() >= 0


@needs_cuda
def test_result_repeats_to_the_bit_in_any_order():
    positions, H, weights = particles(largest=1.5 * THRESHOLD, P=60)
    one = project(positions, H, weights, 16.0, 16, device="cuda")
    order = np.random.default_rng(5).permutation(60)
    other = project(positions[order], H[order], weights[order], 16.0, 16, device="cuda")
    assert np.array_equal(one, other)


@needs_cuda
def test_tensors_stay_on_their_device():
    from zwicky.observe import project_cuda

    arguments = particles()
    there = project_cuda.project(*(torch.tensor(v, device=DEVICE) for v in arguments), 16.0, 16)
    assert (there.device.type, there.dtype) == (DEVICE, torch.float64)
    np.testing.assert_array_equal(there.cpu(), project(*arguments, 16.0, 16, device="cuda"))


@needs_cuda
@pytest.mark.parametrize("mesh", [False, True])
def test_maps_of_a_cube_take_a_device(mesh, monkeypatch):
    render = pytest.importorskip("zwicky.observe.render")
    from zwicky.cosmology import Cosmology
    from zwicky.observe.scene import Scene
    from zwicky.simulate.state import Species

    positions, H, weights = particles(P=30)
    matter = Species(positions, None, weights[:, 0], H)
    cube = render.Cube(16.0, None, Scene(1.0, Cosmology(), 0.0), matter, None, None)
    used = []
    monkeypatch.setattr(render, "project", lambda *a: used.append(a[5]) or project(*a))
    expected, found = (
        render.render(cube, ("dark_matter",), None, 16, 1.0, mesh, device)["dark_matter"] for device in ("cpu", "cuda")
    )
    assert used == ["cpu", "cuda"]
    assert np.abs(found - expected).max() < 1e-12 * expected.max()
