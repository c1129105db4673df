"""A trained model on disk: `config.json`, which says what it is, and `model.safetensors`, its weights.

The configuration holds all that is needed to use the weights: channels, their scalings and units, the noise schedule,
the network, the pixel grid and what the model was trained on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from zwicky.cosmology import Cosmology
from zwicky.dataset.normalize import LogScale
from zwicky.diffusion.denoise import Denoiser
from zwicky.diffusion.noise import NoiseSchedule
from zwicky.diffusion.spectra import Spectra
from zwicky.io import UserError, atomic_folder, file_mode, write_json
from zwicky.nn.mass import MassHead
from zwicky.nn.mean import Mean, with_local
from zwicky.nn.ncsnpp import NCSNpp
from zwicky.nn.unet import UNet
from zwicky.version import __version__

FORMAT, FORMER = "zwicky-model-3", ("zwicky-model-1", "zwicky-model-2")
SHIPPED = Path(__file__).parent / "data"
BANDS = (0.5, 1.5, 2.5, 4.5, 8.5, 16.5, 32.5)  # edges of the bands of `spread` [waves along a side]


NETWORKS: dict[str, type[UNet] | type[NCSNpp]] = {"unet": UNet, "ncsnpp": NCSNpp}


@dataclass(frozen=True)
class Kind:
    """A way to make a reconstruction of networks.

    Args:
        form: of the denoiser, a name of `diffusion.denoise.FORMS`; none where the mean is all there is.
        noise: the default schedule. scaling: of the maps, a name of `dataset.normalize.SCALINGS`.
        sampler: the default one. mean: whether there is a network for the mean, and the denoiser is of what is left.
    """

    form: str
    noise: NoiseSchedule
    scaling: str
    sampler: str
    mean: bool


KINDS: dict[str, Kind] = {
    "score": Kind("edm", NoiseSchedule(), "standard", "dpm", True),
    "regression": Kind("", NoiseSchedule(), "standard", "mean", True),  # one map, no posterior
    # Hsu et al. 2025: sigma from 1e-3 to 1 on maps in [0, 1], ln sigma uniform in training, no last denoising
    "h25": Kind("ve", NoiseSchedule(1e-3, 1.0, P_mean=-3.45, P_std=100.0), "unit", "euler_maruyama_open", False),
}


@dataclass(frozen=True)
class ModelConfig:
    """What a model is.

    Args:
        targets, inputs: channel names. scales, units: of all of them.
        pixels: along a side of a map. pixel_kpc: side of a pixel, proper [kpc].
        network: keyword arguments of a network, but for its planes and scalars. noise: the schedule.
        ranges: (low, high) in the training set of the numbers that the network is told: redshift, ln_pixel_kpc and,
            of noisy models, beam_<input>, ln(1 + full width at half maximum / pixel).
        cosmology: of the training set.
        training: how it was trained, for the model card.
        kind: a name of KINDS. architecture: a name of NETWORKS.
        noisy: whether images may have noise and beams, which the network is told.
        local: whether the mean is that of each pixel (`nn.local`) and what a network adds to it.
        mass: for models that predict the masses in the map apart from their shape: `mean` of ln M [Msun] of each
            target; `root`, L of their covariance L L^T; `widths`, names of given inputs, with commas -> correction of
            the width in each direction of u; `prior`, see `zwicky.prior`.
        spread: names of given inputs, with commas -> correction of the spread of samples, see `zwicky.posterior`.
    """

    targets: tuple[str, ...]
    inputs: tuple[str, ...]
    scales: dict[str, LogScale]
    units: dict[str, str]
    pixels: int
    pixel_kpc: float
    network: dict[str, Any]
    noise: NoiseSchedule
    ranges: dict[str, tuple[float, float]]
    cosmology: dict[str, float]
    training: dict[str, Any] = field(default_factory=dict)
    kind: str = "score"
    architecture: str = "unet"
    noisy: bool = False
    local: bool = False
    mass: dict[str, Any] = field(default_factory=dict)
    spread: dict[str, list[list[float]]] = field(default_factory=dict)

    def scalars(self, values: Mapping[str, torch.Tensor | float], batch: int) -> torch.Tensor:
        """What the network is told besides maps, (B, Q): the numbers of `ranges`, each in [-1, 1] over training.

        Values outside the training range are clamped to it; one that never varied in training is 0.

        Args:
            values: of the names of `ranges`, numbers or (B,); a beam that is not given is 0.
        """
        columns = []
        for name, (low, high) in self.ranges.items():
            half = (high - low) / 2
            value = torch.as_tensor(values.get(name, 0.0), dtype=torch.float32).expand(batch)
            columns.append(((value - low) / half - 1).clamp(-1, 1) if half > 1e-9 else torch.zeros(batch))
        return torch.stack(columns, 1)

    def standard_mass(self, ln_mass: torch.Tensor) -> torch.Tensor:
        """u = L^-1 (ln M - mean) of ln M (B, C) [Msun]: of mean 0 and covariance 1 over the training set."""
        mean, L = self._mass_scale
        return torch.linalg.solve_triangular(L, (ln_mass.double() - mean).T, upper=False).T.float()

    def ln_mass(self, u: torch.Tensor) -> torch.Tensor:
        """ln M [Msun] (..., C), double, of standardised ones."""
        mean, L = self._mass_scale
        return u.double() @ L.T + mean

    @property
    def _mass_scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean (C,) of ln M [Msun] and the root (C, C) of its covariance."""
        return tuple(torch.tensor(self.mass[name], dtype=torch.float64) for name in ("mean", "root"))  # type: ignore[return-value]

    @property
    def planes(self) -> int:
        """How many planes a condition has."""
        return (3 if self.noisy else 2) * len(self.inputs)

    def networks(self) -> Networks:
        """The networks with fresh weights."""
        kind, C = KINDS[self.kind], len(self.targets)
        first = self.planes + 2 * C * self.local  # of the condition and of what its pixels say
        told = len(self.ranges) + C * bool(self.mass)

        def network(planes: int, results: int) -> UNet | NCSNpp:
            return NETWORKS[self.architecture](planes, results, told, **self.network)

        mean = Mean(network(first, 2 * C), len(self.inputs), self.planes, C, self.local) if kind.mean else None
        spectra = Spectra(len(self.inputs), C) if kind.mean else None
        left = network(self.planes + C * (4 if kind.mean else 1), C) if kind.form else None
        denoiser = Denoiser(left, kind.form, spectra) if left else None
        head = MassHead(first, C, len(self.ranges), patch=self.network.get("patch", 2)) if self.mass else None
        return Networks(mean, denoiser, head)


@final
class Networks(nn.Module):
    """What a model consists of; any part may be missing.

    Args:
        mean: of maps. denoiser: of what is left of the mean, or of maps. mass: the masses in the map.
    """

    def __init__(self, mean: Mean | None, denoiser: Denoiser | None, mass: MassHead | None) -> None:
        super().__init__()
        self.mean, self.denoiser, self.mass = mean, denoiser, mass

    def masses(self, condition: torch.Tensor, told: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The mixtures of `MassHead` for conditions (B, P, H, W) and numbers (B, Q)."""
        assert self.mass is not None
        return self.mass(condition if self.mean is None else with_local(self.mean.local, condition), told)

    def reference(
        self, condition: torch.Tensor, scalars: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """mu and s (B, C, H, W), which the denoiser counts from and in, and the planes that it is told."""
        mu, s = self.mean(condition, scalars)  # type: ignore[misc]
        return mu, s, torch.cat([condition, mu, s.log()], 1)


def save_model(
    folder: str | Path, config: ModelConfig, weights: Mapping[str, torch.Tensor], files: Mapping[str, str] | None = None
) -> None:
    """Write config, weights (names of `Networks.state_dict`) and further text `files` into `folder`, or nothing."""
    with atomic_folder(folder) as part:
        save_file({k: v.contiguous() for k, v in weights.items()}, part / "model.safetensors")
        (part / "model.safetensors").chmod(file_mode())
        for name, text in (files or {}).items():
            (part / name).write_text(text)
        write_json(part / "config.json", {"format": FORMAT, "version": __version__, **asdict(config)})


def shipped() -> list[str]:
    """Names of the models in the package."""
    return sorted(p.parent.name for p in SHIPPED.glob("*/config.json"))


def find_model(name: str | Path) -> Path:
    """The folder of a shipped model by its name, or `name` itself if it is a folder.

    Raises:
        UserError: there is no such model.
    """
    for folder in (Path(name), SHIPPED / str(name)):
        with contextlib.suppress(OSError):  # a name that is too long
            if (folder / "config.json").is_file():
                return folder
    raise UserError(f"there is no model {str(name)!r}: give a folder made by `zwicky train` or one of {shipped()}.")


def read_model(name: str | Path) -> tuple[ModelConfig, Networks]:
    """The configuration and the networks, in evaluation mode, of a shipped name or a folder.

    Raises:
        UserError: it is not a model, or is damaged.
    """
    folder = find_model(name)
    try:
        content = json.loads((folder / "config.json").read_text())
        if content["format"] in FORMER:
            raise UserError(f"{folder} was made by an earlier version of Zwicky; train it anew.")
        config = _parse(content)
        networks = config.networks()
        networks.load_state_dict(read_weights(folder))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} is not a model of Zwicky, or is damaged.") from error
    return config, networks.eval().requires_grad_(False)


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of `Networks`."""
    return load_file(folder / "model.safetensors")


def _parse(content: dict[str, Any]) -> ModelConfig:
    if content.pop("format") != FORMAT:
        raise ValueError("unknown format")
    content.pop("version")
    content["scales"] = {k: LogScale(**v) for k, v in content["scales"].items()}
    content["noise"] = NoiseSchedule(**content["noise"])
    content["targets"], content["inputs"] = tuple(content["targets"]), tuple(content["inputs"])
    content["ranges"] = {k: (float(v[0]), float(v[1])) for k, v in content["ranges"].items()}
    config = ModelConfig(**content)
    Cosmology(**config.cosmology)
    KINDS[config.kind], NETWORKS[config.architecture]
    for name in (*config.targets, *config.inputs):
        config.scales[name], config.units[name]
    shape = (len(config.targets), len(BANDS) + 1)
    if any(np.shape(factors) != shape for factors in config.spread.values()):
        raise ValueError("a correction of the spread has another shape")
    if config.mass:
        config.standard_mass(torch.zeros(1, len(config.targets)))
        if any(np.shape(widths) != shape[:1] for widths in config.mass["widths"].values()):
            raise ValueError("a correction of the widths of masses has another shape")
        config.mass["prior"]["density"]
    return config


def model_id(name: str | Path) -> str:
    """A short fingerprint of configuration and weights, for the headers of what the model made."""
    folder = find_model(name)
    content = (folder / "config.json").read_bytes() + (folder / "model.safetensors").read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]
