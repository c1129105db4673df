"""Time of projecting 700,000 particles to four maps on the GPU, beside the CPU and the limits of the device.

    PYTHONPATH=src OUT=out python benchmarks/gpu/maps.py                        128 x 128 and 1024 x 1024 pixels
    PYTHONPATH=src OUT=out python benchmarks/gpu/maps.py --device cpu           the CPU alone

Writes maps.json and maps.md into the folder $OUT. Tests the projector on the device first (tests/observe). The
particles are those of benchmarks/projection.py. No device can be faster than reading the particles once and writing the
sums and the maps (`memory`), or than the operations on the cells that kernels reach (`arithmetic`), at the rates of a
copy and of a product of float64 matrices, measured first. The seconds of `with transfer` begin and end with numpy
arrays. Needs torch, numba, numba-cuda, numpy, scipy, astropy and pytest.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from kernels import bandwidth, seconds

sys.path.append(str(Path(__file__).parents[1]))
from projection import WIDTH, cluster

from zwicky import project
from zwicky.observe.levels import choose_levels

ROOT = Path(__file__).parents[2]
CHANNELS = 4
LOOKUPS, PER_CHANNEL = 2 * 16, 3  # operations of a cell: two values of G with their differences, and of each channel


@dataclass
class Row:
    """One size of map on one device: times and their limits [s], sums of cells, largest difference from the CPU."""

    device: str
    pixels: int
    seconds: float
    with_transfer: float
    cells: float
    memory: float
    arithmetic: float
    repeats_to_the_bit: bool
    difference: float

    @property
    def limit(self) -> float:
        """The least time [s]."""
        return max(self.memory, self.arithmetic)


def arithmetic(device: str) -> float:
    """float64 operations per second of a product of matrices."""
    size = 4096 if device == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=torch.float64)
    return 2 * size**3 / min(seconds(lambda: a @ a, device) for _ in range(5))


def cells_reached(positions: np.ndarray, support_radius: np.ndarray, pixels: int) -> float:
    """Cells of their levels that the kernels overlap, those outside of the map included."""
    x, H = positions[:, :2] * (pixels / WIDTH) + pixels / 2, support_radius * (pixels / WIDTH)
    scale = 0.5 ** choose_levels(x, H, pixels)[:, None]
    ends = (np.floor((x + side * H[:, None]) * scale) for side in (1, -1))
    return float(np.prod(np.subtract(*ends) + 1, axis=1).sum())


def median_time(work, device: str) -> float:
    """Seconds, the median of five, or of as many as 10 s allow, once it is compiled."""
    times = [seconds(work, device)]
    while len(times) < 5 and sum(times) < 10:
        times.append(seconds(work, device))
    return statistics.median(times)


def time_without_transfer(particles: tuple, pixels: int) -> float:
    """Seconds on the GPU, from tensors to tensors."""
    from zwicky.observe import project_cuda

    there = [torch.tensor(v, device=project_cuda.DEVICE) for v in particles]
    return median_time(lambda: project_cuda.project(*there, WIDTH, pixels), project_cuda.DEVICE)


def measure(device: str, particles: tuple, pixels: int, expected: np.ndarray | None, rates: tuple) -> tuple:
    """A row, and the maps; `expected` are those of the CPU, None for the CPU itself."""
    maps = [project(*particles, WIDTH, pixels, device) for _ in range(2)]
    whole = median_time(lambda: project(*particles, WIDTH, pixels, device), "cpu")  # it ends with its result here
    bare = time_without_transfer(particles, pixels) if device == "cuda" else whole
    cells = cells_reached(*particles[:2], pixels)
    moved = 8 * (4 + CHANNELS) * len(particles[1]) + 4 * 8 * CHANNELS * pixels**2
    limits = moved / rates[0], cells * (LOOKUPS + PER_CHANNEL * CHANNELS) / rates[1]
    reference = maps[0] if expected is None else expected
    difference = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(maps[0], reference, strict=True))
    return Row(device, pixels, bare, whole, cells, *limits, np.array_equal(*maps), difference), maps[0]


def run_tests() -> bool | None:
    """Whether the tests of the projector pass, in a process of their own."""
    command = [sys.executable, "-m", "pytest", "tests/observe/test_project_cuda.py", "--noconftest", "-q"]
    return subprocess.run([*command, "-p", "no:cacheprovider"], cwd=ROOT, timeout=60).returncode == 0


def table(found: dict, rows: list[Row]) -> str:
    """The Markdown page."""
    tests = {None: "not run", True: "passed", False: "FAILED"}[found["tests"]]
    head = (
        "device", "pixels", "time [ms]", "with transfer [ms]", "sums per ns", "memory [ms]", "arithmetic [ms]",
        "time / limit", "repeats to the bit", "difference from the CPU",
    )  # fmt: skip
    return "\n".join([
        f"# Projection on {found['device']}", "",
        f"{found['particles']} particles, {CHANNELS} maps. Tests: {tests}. A sum is of one cell of one map.", "",
        *("| " + " | ".join(map(str, line)) + " |" for line in (head, ["---"] * len(head), *map(numbers, rows))), "",
    ])  # fmt: skip


def numbers(row: Row) -> tuple:
    """A line of the table."""
    milliseconds = [f"{1e3 * t:.3g}" for t in (row.seconds, row.with_transfer, row.memory, row.arithmetic)]
    rate = f"{row.cells * CHANNELS / row.seconds / 1e9:.3g}"
    return (
        row.device, f"{row.pixels}^2", *milliseconds[:2], rate, *milliseconds[2:], f"{row.seconds / row.limit:.1f}",
        "yes" if row.repeats_to_the_bit else "no", f"{row.difference:.0e}",
    )  # fmt: skip


def main() -> None:
    """Tests, then times; exit code 1 if a test fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--particles", type=int, default=700_000)
    parser.add_argument("--pixels", type=int, nargs="+", default=(128, 1024))
    parser.add_argument("--skip-tests", action="store_true")
    o = parser.parse_args()
    out, begin = Path(os.environ.get("OUT", ".")), time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    has_gpu = o.device == "cuda" and torch.cuda.is_available()
    found = {
        "device": torch.cuda.get_device_name() if has_gpu else "cpu", "threads": torch.get_num_threads(),
        "particles": o.particles, "tests": None if o.skip_tests else run_tests(),
    }  # fmt: skip
    x, H, m = (v[: o.particles] for v in cluster(np.random.default_rng(0)))
    particles, rows = (x, H, np.stack([m, 2 * m, m**1.1, m**0.9], axis=1)), []
    devices = ["cpu", "cuda"] if o.device == "cuda" else ["cpu"]
    places = {device: "cuda" if device == "cuda" and has_gpu else "cpu" for device in devices}
    rates = {device: (bandwidth(place), arithmetic(place)) for device, place in places.items()}
    for pixels in o.pixels:
        expected = None
        for device in devices:
            row, maps = measure(device, particles, pixels, expected, rates[device])
            expected = maps if expected is None else expected
            rows.append(row)
            found["rows"] = [asdict(r) | {"limit": r.limit} for r in rows]
            (out / "maps.json").write_text(json.dumps(found, indent=1) + "\n")
            (out / "maps.md").write_text(table(found, rows))
    print((out / "maps.md").read_text() + f"\n{time.perf_counter() - begin:.0f} s")
    sys.exit(found["tests"] is False)


if __name__ == "__main__":
    main()
