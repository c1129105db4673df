"""What a training is finished by: the widths of masses and maps, corrected by the validation split.

Nothing else of the networks changes. The corrections are numbers in the configuration of the model, found for each set
of given inputs on maps that are spread evenly over the clusters. Few clusters say little of a width, which is drawn to
1 therefore.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from zwicky.dataset.loader import MapLoader
from zwicky.diffusion.sample import DEFAULT_LEVELS
from zwicky.model import KINDS, ModelConfig, Networks
from zwicky.nn.mass import log_density, widened
from zwicky.posterior import key_of, spread_factors
from zwicky.trainer import Trainer

MASSES, MAPS = 1 << 41, 1 << 42  # steps from here on are the batches that widths of masses, and of maps, are found by
MASS_MAPS = 256
MOST_INPUTS = 3  # there are 2^K sets of given inputs
SAMPLES = 4  # of each map
PRIOR = 0.4  # standard deviation of ln width before the validation split is seen
SWEEPS = 3  # over the directions of masses, whose widths are found one after the other


@torch.no_grad()
def corrected_masses(trainer: Trainer, loader: MapLoader) -> ModelConfig:
    """The model with the widths of its masses corrected: the factors that make the validation maps most likely.

    The mean of ln p over the maps counts as often as there are clusters, sightlines of one not being independent.
    """
    model = trainer.model
    if not model.mass or len(model.inputs) > MOST_INPUTS:
        return model
    networks, found = _finished(trainer), {}
    clusters = len(set(loader.maps.cluster[loader.rows].tolist()))
    batch = loader.whole().even(MASS_MAPS, trainer.config.seed, MASSES)
    u, told = model.standard_mass(batch.ln_mass), trainer.told(batch)
    for name, condition in _given(model, batch.condition):
        parts = [networks.masses(c.to(trainer.device), t.to(trainer.device))
                 for c, t in zip(condition.split(64), told.split(64), strict=True)]  # fmt: skip
        ln_w, m, L = (torch.cat([part[i].cpu() for part in parts]) for i in range(3))
        found[name] = likeliest_widths(u, ln_w, m, L, clusters)
    return replace(model, mass={**model.mass, "widths": found})


def likeliest_widths(u: Tensor, ln_w: Tensor, m: Tensor, L: Tensor, clusters: int) -> list[float]:
    """Factors (C,) of the widths of mixtures, about their means, by which masses u (B, C) of clusters are likeliest.

    One for each direction of u: a head may know the mass well and the ratio of two masses, a tenth as wide, badly.

    Args:
        ln_w (B, K), m (B, K, C), L (B, K, C, C): the mixtures, see `nn.mass`.
    """
    tried, best = torch.from_numpy(np.geomspace(0.25, 4, 81)).float(), torch.ones(u.shape[1])

    def likely(widths: Tensor) -> float:
        return clusters * float(log_density(u, *widened(ln_w, m, L, widths)).mean())

    for i in [*range(len(best))] * SWEEPS:
        options = torch.stack([torch.where(torch.arange(len(best)) == i, w, best) for w in tried])
        best = options[int(np.argmax([likely(w) - float((w.log() / PRIOR).square().sum()) / 2 for w in options]))]
    return best.tolist()


@torch.no_grad()
def corrected_spread(trainer: Trainer, loader: MapLoader, model: ModelConfig) -> ModelConfig:
    """The model with the spread of its maps corrected (`posterior`), for every set of given inputs.

    Args:
        loader: of the validation split. model: to correct.
    """
    c, k = trainer.config, len(model.inputs)
    kind = KINDS[model.kind]
    if not (c.spread_maps and kind.mean and kind.form) or k > MOST_INPUTS:
        return replace(model, spread={})
    networks, levels = _finished(trainer), DEFAULT_LEVELS[kind.sampler]
    batch = loader.whole().even(c.spread_maps, c.seed, MAPS)
    found = {}
    for name, condition in _given(model, batch.condition):
        part = replace(batch, condition=condition)
        drawn = trainer.samples(networks, part, SAMPLES, levels)
        found[name] = spread_factors((batch.x[:, None] - drawn.mu) / drawn.s, drawn.rho)
    return replace(model, spread=found)


def _given(model: ModelConfig, condition: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The name of each set of given inputs, and a condition with these alone."""
    k = len(model.inputs)
    for given in product((False, True), repeat=k):
        planes = torch.tensor(given).repeat(condition.shape[1] // k)[:, None, None]
        yield key_of(model, planes[:k]), condition * planes


def _finished(trainer: Trainer) -> Networks:
    """The networks with the weights that are kept."""
    networks = trainer.averaged()
    networks.load_state_dict(trainer.kept)
    return networks
