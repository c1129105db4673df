"""Times of the simulator's kernels beside what the memory and the arithmetic of the device allow.

    PYTHONPATH=src OUT=out python benchmarks/gpu/kernels.py                        the tests on the GPU, then 2 x 256^3
    PYTHONPATH=src OUT=out python benchmarks/gpu/kernels.py --device cpu --n 24    the same table for the CPU

Writes kernels.json and kernels.md into the folder $OUT. The tests are those of tests/kernels. No kernel can be faster
than reading its arguments and writing its result once (`memory`), or than the operations of the pairs that pull or push
(`arithmetic`), at the rates of a copy and of a product of float32 matrices without TF32, measured first. Pairs are
counted by distance, for some particles. Needs torch, numba, numba-cuda, numpy, scipy and pytest.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zwicky.grid import TWO32, Cells, sort_into_cells, to_fixed
from zwicky.kernels import kernels
from zwicky.simulate import sph
from zwicky.simulate.gravity import CUTOFF_CELLS, SOFTENING_PER_EPSILON

ROOT = Path(__file__).parents[2]
MESH, SOFTENING = 2, 1 / 24  # mesh points and Plummer softening over the mean spacing of particles, as in a simulation
CLUMPED, CONCENTRATION, SMALLEST, OVERDENSITY = 0.4, 6.0, 64, 200
COUNTED = 1024  # particles whose pairs are counted
# Operations of one pair or particle in kernels/pairs.py and cuda.py; a multiply-add is two, a root or a quotient one.
PCS, OFFSET = 3 * 16, 14
OPERATIONS = {"gravity": OFFSET + 37, "density": OFFSET + 11, "pressure": OFFSET + 52}
SCALAR = 25  # more of them in `gravity` where the scalar is wanted
SET = (
    f"dark matter and gas on lattices of their own, displaced after Zel'dovich in a field of power k^-2 by one spacing "
    f"rms; {CLUMPED:.0%} of both are instead in NFW spheres of concentration {CONCENTRATION:g} and {OVERDENSITY} times "
    f"the mean density, from {SMALLEST} particles to a hundredth of all, as much mass in each octave"
)


@dataclass
class Row:
    """One kernel: its time and the least times by memory and by arithmetic [s], and the pairs of a particle."""

    kernel: str
    particles: int
    seconds: float
    repeats_to_the_bit: bool
    memory: float
    arithmetic: float
    pairs: float | None = None

    @property
    def limit(self) -> float:
        """The least time [s]."""
        return max(self.memory, self.arithmetic)


def displaced(n: int, rng: np.random.Generator, device: str) -> np.ndarray:
    """Displacements (n^3, 3) of lattice points, in units of the box: one spacing in each direction, rms."""
    modes = torch.fft.rfftn(torch.from_numpy(rng.standard_normal((n, n, n), np.float32)).to(device))
    k = torch.fft.fftfreq(n, 1 / n, device=device)
    axes = (k[:, None, None], k[None, :, None], k[None, None, : n // 2 + 1].abs())
    k2 = sum(a * a for a in axes).clamp_min(1)
    psi = torch.stack([torch.fft.irfftn(1j * a / k2**1.5 * modes, s=(n, n, n)) for a in axes], -1).view(-1, 3)
    return (psi / psi.std() / n).cpu().numpy()


def clumps(count: int, every: int, rng: np.random.Generator) -> np.ndarray:
    """Positions (count, 3) in NFW spheres, in units of the box, which has `every` particles."""
    octaves = np.arange(np.log2(SMALLEST), np.log2(max(every / 100, 2 * SMALLEST)))
    members = np.concatenate([np.full(int(np.ceil(count / len(octaves) / 2**o)), 2**o) for o in octaves]).astype(int)
    radius = np.cbrt(3 * members / (4 * np.pi * OVERDENSITY * every))
    x = np.linspace(0, CONCENTRATION, 4096)
    enclosed = np.log1p(x) - x / (1 + x)
    r = np.interp(rng.uniform(0, enclosed[-1], members.sum()), enclosed, x / CONCENTRATION)
    direction = rng.standard_normal((len(r), 3), np.float32)
    direction *= (r * np.repeat(radius, members) / np.linalg.norm(direction, axis=1))[:, None]
    return (direction + np.repeat(rng.uniform(size=(len(members), 3)), members, 0))[rng.permutation(len(r))[:count]]


def particle_set(n: int, device: str) -> Tensor:
    """Fixed-point positions (2 n^3, 3) of the set `SET`: dark matter, then gas."""
    rng = np.random.default_rng(1)
    lattice = np.indices((n, n, n), np.float32).reshape(3, -1).T / n + displaced(n, rng, device)
    x = np.concatenate([lattice, lattice + 0.5 / n])
    inside = rng.uniform(size=len(x)) < CLUMPED
    x[inside] = clumps(int(inside.sum()), len(x), rng)
    return torch.from_numpy(to_fixed(x, 1.0)).to(device)


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: str) -> float:
    """How long `work` takes."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def bandwidth(device: str) -> float:
    """Bytes per second of a copy, read and written."""
    a = torch.zeros(2**28 if device == "cuda" else 2**24, device=device)
    b = torch.empty_like(a)
    return 2 * a.nbytes / min(seconds(lambda: b.copy_(a), device) for _ in range(10))


def arithmetic(device: str) -> float:
    """float32 operations per second of a product of matrices, without TF32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    size = 8192 if device == "cuda" else 1024
    a = torch.randn(size, size, device=device)
    return 2 * size**3 / min(seconds(lambda: a @ a, device) for _ in range(5))


def pairs_within(position: Tensor, unit: float, reach: Callable[[Tensor], Tensor]) -> float:
    """Mean number of particles nearer than `reach` of the chosen particles, (chosen, 1) or (chosen, P)."""
    count = position.shape[1]
    chosen = torch.from_numpy(np.random.default_rng(2).integers(0, count, COUNTED)).to(position.device)
    found = 0
    for part in chosen.split(max(1, min(COUNTED, 2**29 // count))):
        r2 = torch.zeros((len(part), count), device=position.device)
        for axis in position:
            r2 += ((axis[None] - axis[part, None]).float() * unit).square_()
        found += int((r2 < reach(part) ** 2).sum())
    return found / COUNTED


class Bench:
    """A particle set with its cell lists, and what a simulation would hand to each kernel."""

    def __init__(self, n: int, device: str) -> None:
        self.device, self.mesh, self.count, self.gas = device, MESH * n, 2 * n**3, n**3
        self.bandwidth, self.peak = bandwidth(device), arithmetic(device)
        self.kernels = kernels(torch.device(device))
        self.fixed = particle_set(n, device)
        self.cells = sort_into_cells(self.fixed, int(self.mesh / CUTOFF_CELLS))
        self.gas_cells = sort_into_cells(self.fixed[-self.gas :], 2 * self.cells.n)
        self.weight = torch.where(self.cells.order < self.gas, 0.84, 0.16) * MESH**3
        self.limits = 2 * SOFTENING / n, 0.999 / self.gas_cells.n
        self.ones = torch.ones(self.gas, device=device)
        self.everyone = self.ones > 0
        self.h, self.rho = self._support(6)

    def _support(self, times: int) -> tuple[Tensor, Tensor]:
        """Support radii of the gas that hold the number of neighbours, within limits, and its density."""
        h = self.ones * self.limits[1]
        for _ in range(times):
            rho = sph.density(self.gas_cells, self.ones, h, self.everyone, 1.0)
            h = sph.next_support_radius(h, rho, 1.0, *self.limits)
        return h, sph.density(self.gas_cells, self.ones, h, self.everyone, 1.0)

    def row(self, kernel: str, arguments: tuple, moved: float, operations: float, pairs: float | None = None) -> Row:
        """Time a kernel once it is compiled: the median of five, or of as many as 20 s allow."""
        results: list[Tensor] = []

        def call() -> None:
            result = getattr(self.kernels, kernel)(*arguments)
            results[1:] = [result[0] if isinstance(result, tuple) else result]

        call()
        results.append(results[0])
        times = [seconds(call, self.device)]
        while len(times) < 5 and sum(times) < 20:
            times.append(seconds(call, self.device))
        limits = moved / self.bandwidth, operations / self.peak
        particles = self.gas if kernel in ("density", "pressure") else self.count
        return Row(kernel, particles, statistics.median(times), torch.equal(*results), *limits, pairs)

    def rows(self) -> Iterator[Row]:
        """All kernels; bytes are those of the arguments and the result."""
        c, g, count, points = self.cells, self.gas_cells, self.count, self.mesh**3
        lists = 8 * c.n**3
        yield self.row("sort_cells", (self.fixed, c.n), 20 * count + lists, 0)
        arguments = (c.position, self.weight, c.start, c.n, self.mesh)
        yield self.row("deposit", arguments, 16 * count + 4 * points, count * (PCS + 20 + 64 * 2))
        mesh = self.kernels.deposit(*arguments)
        yield self.row("gather", (c.position, mesh), 16 * count + 4 * points, count * (PCS + 16 + 64 * 3))
        yield self._gravity(c, lists)
        del mesh
        yield from self._gas(g, 8 * g.n**3)

    def _gravity(self, c: Cells, lists: int) -> Row:
        cutoff = CUTOFF_CELLS / self.mesh
        unit, h2 = 1 / TWO32 / cutoff, (SOFTENING_PER_EPSILON * self.limits[0] / 2 / cutoff) ** 2
        dense = torch.cat([self.everyone.new_zeros(self.gas), self.gas_cells.restore(self.rho) > 5 * self.gas])
        wanted = dense[c.order]
        pairs = pairs_within(c.position, unit, lambda _: torch.ones(1, device=self.device))
        dense_pairs = pairs_within(c.position, unit, lambda part: wanted[part, None].float())
        operations = self.count * (pairs * OPERATIONS["gravity"] + dense_pairs * SCALAR)
        arguments = (c.position, self.weight, wanted, c.start, c.n, unit, h2)
        return self.row("gravity", arguments, 33 * self.count + lists, operations, pairs)

    def _gas(self, c: Cells, lists: int) -> Iterator[Row]:
        h, unit = self.h, 1 / TWO32
        pairs = pairs_within(c.position, unit, lambda part: h[part, None])
        arguments = (c.position, self.ones, h, self.everyone, c.start, c.n, unit)
        operations = self.gas * pairs * OPERATIONS["density"]
        yield self.row("density", arguments, 25 * self.gas + lists, operations, pairs)
        velocity = torch.from_numpy(np.random.default_rng(4).standard_normal((self.gas, 3), np.float32))
        one = self.ones
        gas = torch.stack([*velocity.to(self.device).T, one / self.rho, one, self.rho, 1 / h, one / 2], 1)
        pairs = pairs_within(c.position, unit, lambda part: torch.maximum(h[part, None], h[None]))
        arguments = (c.position, gas, sph._widest_nearby(c, h), c.start, c.n, unit, 0.1)
        operations = self.gas * pairs * OPERATIONS["pressure"]
        yield self.row("pressure", arguments, 72 * self.gas + lists * 3 // 2, operations, pairs)


def run_tests() -> dict[str, object]:
    """The tests of the kernels in a process of their own, without the packages that other tests need."""
    command = [sys.executable, "-m", "pytest", "tests/kernels", "--noconftest", "-p", "no:cacheprovider", "-rs"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    except subprocess.TimeoutExpired:
        return {"passed": False, "output": "they took more than four minutes"}
    return {"passed": done.returncode == 0, "output": done.stdout[-6000:] + done.stderr[-2000:]}


def installed(package: str) -> str | None:
    """Its version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(found: dict, rows: list[Row]) -> str:
    """The Markdown page."""
    tests = "not run" if found["tests"] is None else "passed" if found["tests"]["passed"] else "FAILED"
    return "\n".join([
        f"# Kernels on {found['device']}", "",
        f"Particles: 2 x {found['n']}^3, {SET}.", "",
        f"Tests of the kernels: {tests}. Copy: {found['bandwidth'] / 1e12:.3g} TB/s. Product of float32 matrices: "
        f"{found['peak'] / 1e12:.3g} TFLOP/s. " + ", ".join(f"{k} {v}" for k, v in found["versions"].items()) + ".", "",
        "| kernel | count | pairs of each | time [ms] | pairs per ns | memory [ms] | arithmetic [ms] | time / limit | "
        "repeats to the bit |",
        "|---|---|---|---|---|---|---|---|---|", *map(line, rows), "",
    ])  # fmt: skip


def line(row: Row) -> str:
    """A line of the table."""
    pairs, rate = row.pairs or 0.0, (row.pairs or 0.0) * row.particles / row.seconds / 1e9
    numbers = (row.kernel, row.particles, f"{pairs:.0f}", f"{1e3 * row.seconds:.3g}", f"{rate:.3g}",
               f"{1e3 * row.memory:.3g}", f"{1e3 * row.arithmetic:.3g}", f"{row.seconds / row.limit:.1f}",
               "yes" if row.repeats_to_the_bit else "no")  # fmt: skip
    return "| " + " | ".join(map(str, numbers)) + " |"


def main() -> None:
    """Tests, then times; exit code 1 if a test fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=256, help="particles of each kind along a side")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--skip-tests", action="store_true")
    options = parser.parse_args()
    out = Path(os.environ.get("OUT", "."))
    out.mkdir(parents=True, exist_ok=True)
    found = {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu", "n": options.n, "set": SET,
        "versions": {p: installed(p) for p in ("torch", "numba", "numba-cuda")},
        "tests": None if options.skip_tests else run_tests(),
    }  # fmt: skip
    bench, rows = Bench(options.n, options.device), []
    found |= {"bandwidth": bench.bandwidth, "peak": bench.peak}
    for row in bench.rows():
        rows.append(row)
        found["kernels"] = [asdict(r) | {"limit": r.limit} for r in rows]
        (out / "kernels.json").write_text(json.dumps(found, indent=1) + "\n")  # after each, for a run that is cut off
        (out / "kernels.md").write_text(table(found, rows))
    print((out / "kernels.md").read_text())
    sys.exit(bool(found["tests"] and not found["tests"]["passed"]))


if __name__ == "__main__":
    main()
