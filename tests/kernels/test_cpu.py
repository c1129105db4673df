"""The CPU kernels repeat to the bit, whoever compiled them and on any number of threads."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

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
