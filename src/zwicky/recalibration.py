"""What a training is finished by: the widths of masses and maps, corrected by the validation split.

Nothing else of the networks changes. The corrected widths are numbers in the configuration of the model.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import torch

from zwicky.dataset.loader import MapLoader
from zwicky.diffusion.sample import DEFAULT_LEVELS
from zwicky.model import KINDS, ModelConfig, Networks
from zwicky.nn.mass import log_density
from zwicky.posterior import key_of, spread_factors
from zwicky.trainer import Trainer

MASSES, MAPS = 1 << 41, 1 << 42  # steps from here on are the batches that widths of masses, and of maps, are found by
MOST_INPUTS = 3  # there are 2^K sets of given inputs
SAMPLES = 4  # of each map


@torch.no_grad()
def corrected_masses(trainer: Trainer, loader: MapLoader) -> ModelConfig:
    """The model with the widths of its masses corrected: the factor that makes the validation maps most likely."""
    model = trainer.model
    if not model.mass:
        return model
    networks = _finished(trainer)
    drawn = [trainer.draw(loader, 64, trainer.config.seed, MASSES + i)[0] for i in range(4)]
    parts = [networks.mass(b.condition.to(trainer.device), trainer.told(b).to(trainer.device)) for b in drawn]  # type: ignore[misc]
    ln_w, m, L = (torch.cat([part[i].cpu() for part in parts]) for i in range(3))
    u = torch.cat([model.standard_mass(b.ln_mass) for b in drawn])
    mean = (ln_w.exp()[..., None] * m).sum(1, keepdim=True)
    widths = np.geomspace(0.5, 3, 61)
    likely = [float(log_density(u, ln_w, mean + w * (m - mean), w * L).mean()) for w in widths]
    return replace(model, mass={**model.mass, "width": float(widths[int(np.argmax(likely))])})


@torch.no_grad()
def corrected_spread(trainer: Trainer, loader: MapLoader, model: ModelConfig) -> ModelConfig:
    """The model with the spread of its maps corrected (`posterior`), for every set of given inputs.

    Args:
        loader: of the validation split. model: to correct.
    """
    c, k = trainer.config, len(model.inputs)
    if not c.spread_maps or model.kind != "score" or k > MOST_INPUTS:
        return replace(model, spread={})
    networks, levels = _finished(trainer), DEFAULT_LEVELS[KINDS[model.kind].sampler]
    batch, _, _ = trainer.draw(loader.whole(), c.spread_maps, c.seed, MAPS)
    found = {}
    for given in product((False, True), repeat=k):
        planes = torch.tensor(given).repeat(batch.condition.shape[1] // k)[:, None, None]
        part = replace(batch, condition=batch.condition * planes)
        name = key_of(model, part.condition[0, k : 2 * k])
        found[name] = spread_factors(batch.x, *trainer.samples(networks, part, SAMPLES, levels))
    return replace(model, spread=found)


def _finished(trainer: Trainer) -> Networks:
    """The networks with the weights that are kept."""
    networks = trainer.averaged()
    networks.load_state_dict(trainer.kept)
    return networks
