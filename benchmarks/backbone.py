"""Speed of the U-Net on this CPU: images per second at 128 x 128, training and sampling, for a table of configurations.

    python benchmarks/backbone.py [--seconds 2]

Planes in: 2 noisy + 2 observed + 2 masks; planes out: 2, with the linear path. One thread, images per CPU second, best
of several calls: other work on the cores changes that least. Two quiet cores give about twice as much.
"""

import argparse
import time
from collections.abc import Callable

import torch

from zwicky.nn.unet import UNet

CONFIGURATIONS = [
    dict(widths=(32, 64, 96, 128), blocks=2, patch=2),
    dict(widths=(32, 64, 128, 192), blocks=1, patch=2),
    dict(widths=(64, 96, 128), blocks=2, patch=4),
    dict(widths=(32, 64, 96, 128), blocks=1, patch=2),
    dict(widths=(96, 128, 192), blocks=2, patch=4),
    dict(widths=(32, 64, 96), blocks=2, patch=2),
    dict(widths=(48, 96, 128), blocks=1, patch=2),
    dict(widths=(16, 32, 64, 96), blocks=1, patch=1),
]


def best(call: Callable[[], None], seconds: float) -> float:
    """Return the shortest CPU time of a call [s], over at least 3 calls and the given time."""
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def images_per_second(net: UNet, batch: int, train: bool, bf16: bool, channels_last: bool, seconds: float) -> float:
    """Return the rate per CPU second of forward and backward (train) or forward only."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = net.to(memory_format=layout).train(train)
    x, c = torch.randn(batch, 2, 128, 128), torch.randn(batch, 4, 128, 128)
    c_noise, scalars = torch.randn(batch), torch.randn(batch, 4)

    def call() -> None:
        with torch.set_grad_enabled(train), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = net(x.to(memory_format=layout), c_noise, c.to(memory_format=layout), scalars).square().mean()
        if train:
            loss.backward()

    return batch / best(call, seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="time per entry")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    print("| configuration | params [M] | mode | train [img/CPU-s] | sample [img/CPU-s] |\n|---|---|---|---|---|")
    for configuration in CONFIGURATIONS:
        net = UNet(6, 2, scalar_features=4, **configuration)
        size = sum(p.numel() for p in net.parameters()) / 1e6
        for bf16, last in [(True, False), (True, True), (False, False), (False, True)]:
            train = images_per_second(net, 16, True, bf16, last, seconds)
            sample = images_per_second(net, 25, False, bf16, last, seconds)
            mode = ("bf16" if bf16 else "fp32") + (" channels_last" if last else "")
            print(f"| {configuration} | {size:.2f} | {mode} | {train:.1f} | {sample:.1f} |", flush=True)


if __name__ == "__main__":
    main()
