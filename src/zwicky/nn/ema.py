"""Exponential moving average of a network's weights, which samples better than the last weights.

    w_ema <- d_t w_ema + (1 - d_t) w,      d_t = min(d, (1 + t) / (10 + t)),      t = 0, 1, 2, ... updates so far.

The warm-up d_t < d forgets the random start at once, whatever the length of the run.
"""

from typing import final

import torch
from torch import Tensor, nn


@final
class EMA:
    """Moving average of the parameters of a module; its buffers are copied as they are.

    Args:
        module: the network; its weights now are the start.
        decay: d, the largest decay per update, in [0, 1).

    Raises:
        ValueError: if the decay is out of range.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the weights' average must be in [0, 1), got {decay}")
        self.max_decay = decay
        self.updates = 0
        self.weights: dict[str, Tensor] = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @property
    def decay(self) -> float:
        """d_t, the decay of the next update."""
        return min(self.max_decay, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the module's weights of now into the average."""
        averaged = {name for name, _ in module.named_parameters()}
        for name, value in module.state_dict().items():
            self.weights[name].lerp_(value, 1 - self.decay) if name in averaged else self.weights[name].copy_(value)
        self.updates += 1

    def copy_to(self, module: nn.Module) -> None:
        """Set the module's weights to the average."""
        module.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state as tensors by name, ready for safetensors: "updates" and "weights.<name>"."""
        return {"updates": torch.tensor(self.updates), **{f"weights.{k}": v.clone() for k, v in self.weights.items()}}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up a state as state_dict returned it.

        Raises:
            ValueError: if the names do not fit this average.
        """
        if set(state) != {"updates", *(f"weights.{k}" for k in self.weights)}:
            raise ValueError("this state of the weights' average belongs to another network")
        self.updates = int(state["updates"])
        for name, value in self.weights.items():
            value.copy_(state[f"weights.{name}"])
