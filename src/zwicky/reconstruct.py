"""From images of a cluster to samples of its gas and dark matter.

The posterior p(x | y) of the normalised maps x given any subset of the inputs y is sampled by integrating the reverse
diffusion with the trained denoiser; a missing input, or a masked pixel, is told to the network as such.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.wcs import WCS
from numpy.typing import NDArray

from zwicky.cosmology import Cosmology
from zwicky.dataset.loader import conditioned
from zwicky.dataset.store import open_maps
from zwicky.device import choose_device, cpu_threads
from zwicky.diffusion.sample import DEFAULT_LEVELS, SAMPLERS, seeded_noise
from zwicky.images import (
    Image,
    pixel_angle,
    pixel_size,
    read_image,
    read_mask,
    regrid,
    regrid_noise,
    regrid_wcs,
    same_grid,
    to_unit,
)
from zwicky.io import UserError
from zwicky.model import KINDS, ModelConfig, Networks, find_model, model_id, read_model
from zwicky.nn.mass import draw as draw_mixture
from zwicky.nn.mass import widened
from zwicky.outliers import FEWEST, Reference, read_reference
from zwicky.posterior import draw_maps, key_of, network_calls
from zwicky.prior import weights
from zwicky.products import Outlier, Posterior

BATCH = 10
CANDIDATES = 200  # masses of which one is taken, by its weight, under another prior
LARGEST = 50.0  # standard deviations of the training pixels; a sample beyond has diverged


class DivergedError(ValueError):
    """The samples of a map grew without bound."""


@dataclass
class Model:
    """A trained model, ready to sample."""

    name: str
    id: str
    config: ModelConfig
    networks: Networks
    device: torch.device
    reference: Reference | None = None

    def sample(
        self,
        inputs: Mapping[str, NDArray],
        redshift: float,
        pixel_kpc: float,
        n: int = 50,
        seed: int = 0,
        *,
        masks: Mapping[str, NDArray] | None = None,
        noise: Mapping[str, NDArray | float] | None = None,
        fwhm_kpc: Mapping[str, float] | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        prior: str = "training",
        wcs: WCS | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Posterior:
        """Samples of the posterior given images; index [y, x], centred on the cluster.

        Args:
            inputs: channel -> (Y, X) in the unit of the channel; any subset of the model's inputs, even none.
            redshift: of the cluster. pixel_kpc: side of a pixel, proper [kpc].
            n: number of samples; where the mean alone is asked for, or all that the model gives, one map comes back.
            seed: of the samples; sample i depends on (seed, i) alone.
            masks: channel -> (Y, X), true where a pixel is known.
            noise: channel -> rms of its pixels, (Y, X) or a number, in the unit of the channel.
            fwhm_kpc: channel -> full width at half maximum of its beam, proper [kpc]. Only noisy models are told these.
            sampler: a name of `diffusion.sample.SAMPLERS`, None for that of the kind of model.
            steps: noise levels, None for the sampler's default.
            prior: of the mass, a name of `prior.PRIORS`; others than `training` need a model with masses apart.
            wcs: celestial coordinates of the images.
            progress: called as progress(network evaluations done, in all).

        Raises:
            ValueError: an input is unknown, not a finite 2-D image, or differs in shape; or a number is out of range.
        """
        kind = KINDS[self.config.kind]
        sampler = sampler or kind.sampler
        _check_request(redshift, pixel_kpc, n, seed, sampler, steps)
        sampler = sampler if kind.form else "mean"
        n = 1 if sampler == "mean" else n
        y, known, levels = self._normalised(inputs, masks or {}, noise or {}, pixel_kpc)
        shape = next((np.shape(m) for m in inputs.values()), (self.config.pixels,) * 2)
        told = self._told(redshift, fwhm_kpc or {})
        condition = conditioned(y, known, levels if self.config.noisy else None)
        u = self._masses(condition, told, n, seed, sampler, prior, redshift)
        factors = self.config.spread.get(key_of(self.config, known[0]))
        x = self._draw(condition, told, u, n, seed, sampler, steps or DEFAULT_LEVELS[sampler], factors, progress)
        if wcs is not None:
            wcs = regrid_wcs(wcs, shape, pixel_kpc, self.config.pixels, self.config.pixel_kpc)
        if not (x.abs() < LARGEST).all():
            raise DivergedError("the samples diverged; take more --steps, or check the units of the images.")
        samples = self._maps(x, u)
        outlier = None if self.reference is None else self.reference.score(
            y[0].numpy(), known[0].numpy(), self._scaled(samples)
        )  # fmt: skip
        return Posterior(
            samples, {c: self.config.units[c] for c in self.config.targets}, redshift, self.config.pixel_kpc, wcs,
            {"MODEL": self.name, "MODELID": self.id, "SEED": seed, "SAMPLER": sampler,
             "NLEVELS": steps or DEFAULT_LEVELS[sampler], "INPUTS": ",".join(inputs) or "none"},
            (*self._doubts(y, known, redshift, pixel_kpc, list(inputs)), *_oddity(outlier)), outlier,
        )

    def _maps(self, x: torch.Tensor, u: torch.Tensor | None) -> dict[str, NDArray[np.float32]]:
        """Maps {target: (n, P, P)} of normalised ones (n, C, P, P), brought to the masses u (n, C) if known."""
        found = {}
        for i, name in enumerate(self.config.targets):
            maps = self.config.scales[name].inverse(x[:, i].double())
            if u is not None:
                mass = self.config.ln_mass(u)[:, i].exp() / self.config.pixel_kpc**2
                maps = maps * (mass / maps.sum((1, 2)))[:, None, None]
            found[name] = maps.float().numpy()
        return found

    def _scaled(self, samples: Mapping[str, NDArray]) -> NDArray[np.float32]:
        """Maps on the normalised scale, (n, C, P, P)."""
        return np.stack([self.config.scales[c].forward(maps) for c, maps in samples.items()], 1)

    def _told(self, redshift: float, fwhm_kpc: Mapping[str, float]) -> torch.Tensor:
        """The numbers that the networks are told, (1, Q)."""
        c = self.config
        beams = {f"beam_{name}": math.log1p(width / c.pixel_kpc) for name, width in fwhm_kpc.items()}
        return c.scalars({"redshift": redshift, "ln_pixel_kpc": math.log(c.pixel_kpc), **beams}, 1)

    @cpu_threads()
    @torch.no_grad()
    def _masses(
        self, condition: torch.Tensor, told: torch.Tensor, n: int, seed: int, sampler: str, prior: str, redshift: float
    ) -> torch.Tensor | None:
        """Standardised ln M (n, C) of samples, or of the mean; None where the model does not predict masses apart."""
        if self.networks.mass is None:
            if prior != "training":
                raise ValueError(f"the prior {prior!r} needs a model that predicts masses apart; this one does not.")
            return None
        ln_w, m, L = (part[0].cpu() for part in self.networks.masses(condition.to(self.device), told.to(self.device)))
        mass, k = self.config.mass, len(self.config.inputs)
        widths = mass["widths"].get(key_of(self.config, condition[0, k : 2 * k]), [1.0] * m.shape[1])
        ln_w, m, L = widened(ln_w, m, L, torch.tensor(widths))
        if sampler == "mean":
            if prior != "training":
                raise ValueError(f"the mean of one evaluation is that of the training; {prior!r} needs samples.")
            return self._mean_mass(ln_w, m, L)
        count = 1 if prior == "training" else CANDIDATES
        rngs = [np.random.default_rng([seed, i, 1]) for i in range(n)]
        normals = [torch.from_numpy(rng.standard_normal((count, m.shape[1]))).float() for rng in rngs]
        uniforms = [torch.from_numpy(rng.random(count)) for rng in rngs]
        pairs = zip(normals, uniforms, strict=True)
        u = torch.stack([draw_mixture(ln_w, m, L, *pair) for pair in pairs])  # (n, count, C)
        ln_map = torch.logsumexp(self.config.ln_mass(u), 2).numpy()
        w = weights(prior, ln_map, mass["prior"], Cosmology(**self.config.cosmology), redshift)
        return u[range(n), [rng.choice(count, p=of / of.sum()) for rng, of in zip(rngs, w, strict=True)]]

    def _mean_mass(self, ln_w: torch.Tensor, m: torch.Tensor, L: torch.Tensor) -> torch.Tensor:
        """Standardised ln of the mean M of a mixture of one map, (1, C)."""
        roots = torch.tensor(self.config.mass["root"], dtype=torch.float64) @ L.double()  # of ln M, (K, C, C)
        ln_mean = torch.logsumexp(ln_w.double()[:, None] + self.config.ln_mass(m) + (roots**2).sum(2) / 2, 0)
        return self.config.standard_mass(ln_mean[None])

    def _normalised(
        self,
        inputs: Mapping[str, NDArray],
        masks: Mapping[str, NDArray],
        noise: Mapping[str, NDArray | float],
        pixel_kpc: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Inputs on the model's grid and scale, where they are known, and the levels of their noise, (1, K, P, P)."""
        c = self.config
        unknown = set(inputs) - set(c.inputs)
        if unknown:
            raise ValueError(f"this model takes {', '.join(c.inputs)}, not {', '.join(sorted(unknown))}.")
        if len({np.shape(m) for m in [*inputs.values(), *masks.values()]}) > 1:
            raise ValueError("the input images and masks differ in shape.")
        y, levels = np.zeros((2, 1, len(c.inputs), c.pixels, c.pixels), np.float32)
        known = np.zeros(y.shape, bool)
        for i, name in enumerate(c.inputs):
            if name not in inputs:
                continue
            data = np.asarray(inputs[name], dtype=np.float64)
            mask = np.asarray(masks.get(name, np.ones(data.shape, bool)), bool)
            if data.ndim != 2 or not np.isfinite(data[mask]).all():
                raise ValueError(f"{name} must be a two-dimensional image, finite where it is not masked.")
            rms = np.broadcast_to(np.asarray(noise.get(name, 0.0), dtype=np.float64), data.shape)
            if not (np.isfinite(rms[mask]) & (rms[mask] >= 0)).all():
                raise ValueError(f"the noise of {name} must be finite and not negative.")
            data, known[0, i] = regrid(np.where(mask, data, 0.0), mask, pixel_kpc, c.pixels, c.pixel_kpc)
            rms = regrid_noise(rms, mask, pixel_kpc, c.pixels, c.pixel_kpc)
            y[0, i], levels[0, i] = c.scales[name].forward(data, rms), c.scales[name].level(rms)
        return torch.from_numpy(y), torch.from_numpy(known), torch.from_numpy(levels)

    @cpu_threads()
    @torch.no_grad()
    def _draw(
        self,
        condition: torch.Tensor,
        told: torch.Tensor,
        u: torch.Tensor | None,
        n: int,
        seed: int,
        sampler: str,
        steps: int,
        factors: list[list[float]] | None,
        progress: Callable[[int, int], None] | None,
    ) -> torch.Tensor:
        """Normalised samples (n, C, P, P) on the CPU, their spread corrected by `factors`."""
        c = self.config
        shape = (len(c.targets), c.pixels, c.pixels)
        per_batch = network_calls(c, sampler, steps)
        batches = [range(i, min(i + BATCH, n)) for i in range(0, n, BATCH)]
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            if progress:
                progress(done, per_batch * len(batches))

        out = []
        for batch in batches:
            noise = seeded_noise(shape, seed, batch, self.device)
            planes, scalars = condition.expand(len(batch), -1, -1, -1), told.expand(len(batch), -1)
            if u is not None:
                scalars = torch.cat([scalars, u[list(batch)]], 1)
            drawn = draw_maps(self.networks, c, planes, scalars, noise, sampler, steps, self.device, tick)
            out.append((drawn if factors is None else drawn.respread(factors)).x)
        return torch.cat(out)

    def _doubts(
        self, y: torch.Tensor, known: torch.Tensor, redshift: float, pixel_kpc: float, given: list[str]
    ) -> list[str]:
        """What makes this cluster unlike the training set."""
        c = self.config
        doubts = [] if given else ["no image was given: these are samples of the prior"]
        low, high = c.ranges["redshift"]
        if not low - 0.05 <= redshift <= high + 0.05:
            doubts.append(f"the model was trained at redshift {_range(low, high)}, not at {redshift:g}")
        if given and pixel_kpc > 2 * c.pixel_kpc:
            doubts.append(f"the pixels of {pixel_kpc:g} kpc are coarser than those of the model, {c.pixel_kpc:g} kpc")
        for i, name in enumerate(c.inputs):
            if name in given:
                doubts += self._doubts_of_image(name, y[0, i][known[0, i]])
        return doubts

    def _doubts_of_image(self, name: str, known: torch.Tensor) -> list[str]:
        """The same for one image: its known pixels on the model's grid and scale."""
        covered = len(known) / self.config.pixels**2
        doubts = []
        if covered < 0.5:
            doubts.append(f"the {name} image covers {100 * covered:.0f}% of the map of the model")
        if len(known) and float(known.max()) > self.config.scales[name].high + 0.3:
            doubts.append(f"the {name} image is brighter than any in training")
        if len(known) and float(known.max()) < 0:
            doubts.append(f"the {name} image is fainter than any in training")
        return doubts


def load_model(name: str | Path, device: str = "cpu") -> Model:
    """A shipped model by its name ("laptop"), or one in a folder made by `zwicky train`.

    Args:
        device: cpu, cuda or auto.

    Raises:
        UserError: there is no such model, or the device is missing.
    """
    place = choose_device(device)
    config, networks = read_model(name)
    networks.to(place)
    networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    reference = read_reference(find_model(name), config.pixels, len(config.inputs), len(config.targets))
    return Model(str(Path(name).name), model_id(name), config, networks, place, reference)


def add_reference(
    folder: str | Path,
    maps: str | Path,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    samples: int = 6,
) -> None:
    """Give a model the reference that outliers are told by, from the set it was trained on, unless it has one.

    A set with too few validation maps to take a limit from leaves the model without, and so does noise in the training:
    the maps of the set have none, and noisy images would all be unlike them.

    Args:
        progress: called as progress(validation maps done, in all). samples: of each.

    Raises:
        UserError: the model or the maps cannot be used.
    """
    model, map_set = load_model(folder, device), open_maps(maps)
    c = model.config
    if model.reference is not None or c.noisy or len(map_set.rows("validation")) < FEWEST:
        return

    def draw(y: NDArray[np.float32], i: int, count: int) -> NDArray[np.float32]:
        images = {name: c.scales[name].inverse(y[k]) for k, name in enumerate(c.inputs)}
        found = model.sample(images, map_set.redshift, map_set.pixel_kpc, samples, i)
        if progress:
            progress(i + 1, count)
        return model._scaled(found.samples)

    Reference.fit(map_set, c.targets, c.inputs, c.scales, draw).save(folder)


def reconstruct_files(
    model: Model,
    files: Mapping[str, str | Path],
    redshift: float,
    *,
    mask: str | Path | None = None,
    pixel_kpc: float | None = None,
    **options: Any,
) -> Posterior:
    """The posterior for FITS images {channel: path} on one pixel grid; `options` go to `Model.sample`.

    Raises:
        UserError: an image cannot be used; the message says which and why.
    """
    if not files:
        raise UserError("give at least one image, with --sz or --xray.")
    if not (np.isfinite(redshift) and 0 <= redshift < 30):
        raise UserError(f"the redshift must be zero or positive (and below 30), not {redshift:g}.")
    if pixel_kpc is not None and not (np.isfinite(pixel_kpc) and pixel_kpc > 0):
        raise UserError(f"the pixel size must be positive, not {pixel_kpc:g} kpc.")
    allowed = None if mask is None else read_mask(mask)
    images = {c: read_image(path, f"the {c} image", allowed) for c, path in files.items()}
    same_grid(list(images.values()))
    first = next((image for image in images.values() if image.wcs is not None), next(iter(images.values())))
    size = pixel_kpc or pixel_size(first, redshift, Cosmology(**model.config.cosmology))
    data, warnings, beams = {}, [], {}
    noise: dict[str, NDArray] = {}
    for channel, image in images.items():
        data[channel], warning = to_unit(image, channel, model.config.units[channel], redshift)
        warnings += [warning] if warning else []
        if image.noise is not None and model.config.noisy:
            rms = replace(image, data=image.noise)
            noise[channel], _ = to_unit(rms, channel, model.config.units[channel], redshift)
        if image.fwhm_arcsec and model.config.noisy:
            beams[channel] = image.fwhm_arcsec * _kpc_per_arcsec(image, size)
        if (image.noise is not None or image.fwhm_arcsec) and not model.config.noisy:
            warnings.append(f"{image.name} has noise or a beam, and the model was trained on maps without")
    masks = {c: i.mask for c, i in images.items()}
    posterior = model.sample(
        data, redshift, size, masks=masks, noise=noise, fwhm_kpc=beams, wcs=first.wcs, **options
    )
    provenance = posterior.provenance | {f"INPUT{i}": im.name for i, im in enumerate(images.values(), 1)}
    return replace(posterior, provenance=provenance, warnings=(*warnings, *posterior.warnings))


def _kpc_per_arcsec(image: Image, pixel_kpc: float) -> float:
    """Proper length under an angle, by the pixels of an image.

    Raises:
        UserError: the image has a beam but no sky coordinates to tell how wide it is.
    """
    if image.wcs is None:
        raise UserError(f"{image.name} has a beam (BMAJ) but no sky coordinates (WCS) to tell its width in kpc by.")
    return pixel_kpc / (pixel_angle(image.wcs) * 3600)


def _oddity(outlier: Outlier | None) -> list[str]:
    """The warning of an outlier."""
    if outlier is None or not outlier.warned:
        return []
    return [
        f"the images are unlike those of the training (outlier score {outlier.score:.2g}; of like clusters "
        f"{100 * outlier.limit:.0f}% lie below {outlier.limit:g}), and the masses may be off by more than their errors"
    ]


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _check_request(redshift: float, pixel_kpc: float, n: int, seed: int, sampler: str, steps: int | None) -> None:
    if not (np.isfinite(redshift) and redshift >= 0):
        raise ValueError(f"the redshift must be zero or positive, not {redshift}.")
    if not (np.isfinite(pixel_kpc) and pixel_kpc > 0):
        raise ValueError(f"the pixel size must be positive, not {pixel_kpc} kpc.")
    if n < 1 or seed < 0:
        raise ValueError(f"need at least one sample and a non-negative seed, not {n} and {seed}.")
    if sampler not in SAMPLERS:
        raise ValueError(f"the sampler must be one of {', '.join(SAMPLERS)}, not {sampler!r}.")
    if steps is not None and steps < 2:
        raise ValueError(f"a sampler needs at least 2 noise levels, not {steps}.")
