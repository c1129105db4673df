"""The CPU kernels repeat to the bit, whoever compiled them and on any number of threads."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from zwicky.kernels import cpu
from zwicky.kernels.split import FORCE, POTENTIAL, SCALAR
from zwicky.kernels.threads import share_out

SCRIPT = """
import hashlib
import numpy as np, torch
from zwicky.kernels import cpu
rng = np.random.default_rng(0)
P, n = 3000, 8
fixed = torch.from_numpy((rng.normal(size=(P, 3)) * 2e8).astype(np.int32))
order, start = cpu.sort_cells(fixed, n)
x, wanted = fixed[order].T.contiguous(), torch.ones(P, dtype=torch.bool)
m, h = (torch.from_numpy(rng.uniform(0.5, 0.9, P).astype(np.float32)) for _ in range(2))
gas = torch.from_numpy(rng.uniform(0.5, 1, (P, 8)).astype(np.float32))
unit = 0.99 * n / 2**32
mesh = cpu.deposit(x, m, start, n, 28)
results = [mesh, cpu.gather(x, mesh), cpu.gravity(x, m, wanted, start, n, unit, 0.01),
           cpu.potential(x, m, start, n, unit, 0.01), cpu.density(x, m, h, wanted, start, n, unit),
           cpu.pressure(x, gas, torch.full((n**3,), 0.9), start, n, unit, 0.3)]
print(*(hashlib.sha256(r.numpy().tobytes()).hexdigest() for r in results))
"""


def test_freshly_compiled_kernels_equal_those_from_the_cache(tmp_path):
    """They did not while a function that they call had two copies."""

    def run(threads):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": threads}
        done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, check=True)
        return done.stdout.split()

    fresh = run("2")
    assert len(set(fresh)) == 6
    assert run("2") == fresh
    assert run("1") == fresh


@pytest.mark.parametrize("n", [4, 5, 7, 8])
def test_gravity_equals_the_direct_sum_over_all_pairs(n):
    """In double precision; one cell is full enough to be worked through in parts, and the box wraps."""
    rng = np.random.default_rng(n)
    turns = np.concatenate([rng.uniform(size=(400, 3)), 0.99 + 0.03 * rng.standard_normal((1500, 3))]) % 1
    fixed = torch.from_numpy((turns * 2**32).astype(np.uint32).view(np.int32))
    order, start = cpu.sort_cells(fixed, n)
    x = fixed[order].T.contiguous()
    m = torch.from_numpy(rng.uniform(0.5, 2.0, x.shape[1]).astype(np.float32))
    wanted = torch.from_numpy(rng.uniform(size=x.shape[1]) < 0.3)
    unit, h = n / 2**32, 0.1

    d = (x[:, None, :] - x[:, :, None]).numpy().astype(np.float64) * unit
    r2 = (d**2).sum(0)
    r, q2, near = np.sqrt(np.maximum(r2, h * h)), r2 / h**2, r2 < h * h

    def short(soft, power, long):
        value = np.where(near, soft, r**-power) - np.polynomial.polynomial.polyval(r2, long)
        return np.where((r2 < 1) & (r2 > 0), value, 0) * m.double().numpy()

    force = (d * short((4.375 - 5.25 * q2 + 1.875 * q2**2) / h**3, 3, FORCE)).sum(2).T
    square = short((3 - 3 * q2 + q2**2) / h**2, 2, SCALAR).sum(1)
    inverse = short((2.1875 - 2.1875 * q2 + 1.3125 * q2**2 - 0.3125 * q2**3) / h, 1, POTENTIAL).sum(1)
    found = cpu.gravity(x, m, wanted, start, n, unit, h * h).double().numpy()
    potential = cpu.potential(x, m, start, n, unit, h * h).double().numpy()
    strength = np.linalg.norm(force, axis=1)
    assert np.abs(found[:, :3] - force).max() < 2e-6 * strength.max()
    np.testing.assert_allclose(found[:, 3], np.where(wanted, square, 0), rtol=3e-6, atol=3e-6 * square.mean())
    np.testing.assert_allclose(potential, inverse, rtol=3e-6, atol=3e-6 * inverse.mean())
    assert np.linalg.norm((found[:, :3] * m.numpy()[:, None]).sum(0)) < 1e-7 * (m.numpy() * strength).sum()


@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_cover_the_range_once_and_errors_come_through(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for count in (0, 1, 5, 1000):
            seen = np.zeros(count, int)

            def loop(begin, end, seen):
                seen[begin:end] += 1

            share_out(loop, count, seen)
            assert (seen == 1).all()

        def fail(begin, end):
            raise ValueError("in a piece")

        with pytest.raises(ValueError, match="in a piece"):
            share_out(fail, 10)
    finally:
        torch.set_num_threads(before)
