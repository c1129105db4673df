"""What a telescope makes of a map: beam, filter, noise, counts, and the pixels that it does not see.

    bolometer   image = T(l) [B(l) (S + CMB + sources)] + n,    N(l) = depth^2 (1 + T^2 (l_knee / l)^slope)
                T(l) = 1 - exp(-(l / l_0)^2),   l_0 = pi / theta_largest
    counter     N ~ Poisson(E (P * S) + b),    image = (N - b) / E,    E = A t V(theta) Omega / (4 pi (1 + z)^3)
                b = t Omega (sky V(theta) + particles),    V(theta) = 1 / (1 + (theta / theta_half)^2)
    imager      image = B(l) S + n,    n from the flux that a point source of five sigma has

B is a Gaussian. P is the profile (1 + r^2 / r_0^2)^(-3/2), which holds half of the light inside sqrt(3) r_0, integrated
over pixels: so it is never negative, however small. A clean map holds means over pixels, and so does the image: B does
not apply the pixel twice, P does. What lies around the cluster, `Sky`, is the same for all telescopes.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter

from zwicky.io import DAMAGE, UserError, reason_of, require_file
from zwicky.observe.channels import channel, is_channel
from zwicky.observe.scene import Scene
from zwicky.observe.sky import ARCSEC, Function, Sky, cut, distance, filtered, gaussian_field, inside_field, rms_of
from zwicky.observe.sz_spectrum import planck_slope, thermal_spectrum
from zwicky.units import T_CMB

FWHM = np.sqrt(8 * np.log(2))  # over the sigma of a Gaussian
LARGE = 4  # width of noise with long waves over that of the map that is cut from it
SMOOTH = 2.0  # pixels over which counts are smoothed to tell their noise
BEAMS = 3.0  # widths of the beam that a clean map must reach beyond the edge of the image


class Exposure(NamedTuple):
    """An image and what its observer knows of it, (Y, X) each.

    image: in the unit of its channel, 0 where it is not known. noise: rms of what is independent from pixel to pixel,
    or of all noise that went through the beam, same unit. mask: True where the image is known. counts: photons, None
    for instruments that do not count.
    """

    image: NDArray[np.float64]
    noise: NDArray[np.float64]
    mask: NDArray[np.bool_]
    counts: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Bolometer:
    """A telescope for the Sunyaev-Zel'dovich effect; instruments.toml says what its numbers are."""

    name: str
    source: str
    fwhm_arcsec: float
    depth: float
    frequency_ghz: float = 0.0
    knee: float = 0.0
    slope: float = 3.5
    largest_arcmin: float = 0.0
    field_arcmin: float = 0.0
    cmb: bool = False
    sources_mjy: float = 0.0
    smoothed: bool = False

    def __post_init__(self) -> None:
        zero = ("knee", "largest_arcmin", "field_arcmin", "frequency_ghz", "sources_mjy")
        _require(self, ("fwhm_arcsec", "depth", "slope"), zero)
        if not self.frequency_ghz and (self.cmb or self.sources_mjy):
            raise ValueError(f"{self.name} makes maps of y, which have no CMB and no sources in uK.")
        if self.knee and not self.largest_arcmin:
            raise ValueError(f"{self.name} has noise with a knee and needs largest_arcmin, above which it is filtered.")

    @property
    def channel(self) -> str:
        """What it maps."""
        return f"sz_{self.frequency_ghz:g}GHz" if self.frequency_ghz else "compton_y"

    @property
    def margin_arcsec(self) -> float:
        """How much wider on each side the clean map must be."""
        return BEAMS * self.fwhm_arcsec + 60 * self.largest_arcmin

    @property
    def y_depth(self) -> float:
        """White noise in Compton y [arcmin], at the frequency of the instrument, without relativistic corrections."""
        if not self.frequency_ghz:
            return self.depth
        f = thermal_spectrum(self.frequency_ghz) / planck_slope(self.frequency_ghz)
        return self.depth / (T_CMB * 1e6 * abs(float(f)))

    def transfer(self, l: NDArray[np.float64]) -> NDArray[np.float64]:
        """B(l) T(l)."""
        return _gaussian(self.fwhm_arcsec, l) * self._filter(l)

    def _filter(self, l: NDArray[np.float64]) -> NDArray[np.float64] | float:
        """T(l)."""
        return -np.expm1(-((l * 60 * self.largest_arcmin * ARCSEC / np.pi) ** 2)) if self.largest_arcmin else 1.0

    def white_power(self, l: NDArray[np.float64]) -> NDArray[np.float64]:
        """Power of the noise without its long waves [unit^2 sr]."""
        P = np.full_like(l, (self.depth * 60 * ARCSEC) ** 2)
        return P * self.transfer(l) ** 2 if self.smoothed else P

    def noise_power(self, l: NDArray[np.float64]) -> NDArray[np.float64]:
        """N(l) [unit^2 sr]."""
        return self.white_power(l) * (1 + self._filter(l) ** 2 * (self.knee / l) ** self.slope)

    def expose(
        self, clean: NDArray[np.float64], pixels: int, sky: Sky, scene: Scene, rng: np.random.Generator
    ) -> Exposure:
        """The image of (pixels, pixels) from a clean map that is wider, both centred alike; rng is for the noise."""
        seen = self._behind(sky) if self.cmb or self.sources_mjy else np.zeros_like(clean)
        cut(seen, len(clean))[:] += clean
        image = cut(filtered(seen, self.transfer, sky.pixel_arcsec), pixels)
        image = image + _field(self.noise_power, pixels, sky.pixel_arcsec, rng, large=self.knee > 0 or self.smoothed)
        mask = _field_of(self, pixels, sky.pixel_arcsec)
        rms = _white_rms(self, pixels, sky.pixel_arcsec)
        return Exposure(np.where(mask, image, 0.0), np.full_like(image, rms), mask)

    def _behind(self, sky: Sky) -> NDArray[np.float64]:
        """CMB and sources of the patch [uK]."""
        behind = np.zeros((sky.pixels, sky.pixels))
        if self.cmb:
            behind += sky.cmb
        if self.sources_mjy:
            behind += sky.sources(self.frequency_ghz, self.sources_mjy)
        return behind


@lru_cache(maxsize=32)
def _white_rms(telescope: Bolometer, pixels: int, pixel_arcsec: float) -> float:
    """rms of the noise of a pixel without its long waves, the same for every image of a set."""
    return rms_of(telescope.white_power, LARGE * pixels, pixel_arcsec)


@dataclass(frozen=True)
class Counter:
    """An X-ray telescope that counts photons; instruments.toml says what its numbers are."""

    name: str
    source: str
    band_kev: tuple[float, float]
    hew_arcsec: float
    area_cm2: float
    exposure_s: float
    sky: float
    particles: float
    vignetting_arcmin: float = 0.0
    field_arcmin: float = 0.0
    holes_per_deg2: float = 0.0
    hole_arcsec: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "band_kev", tuple(self.band_kev))
        _require(
            self, ("hew_arcsec", "area_cm2", "exposure_s"),
            ("sky", "particles", "vignetting_arcmin", "field_arcmin", "holes_per_deg2", "hole_arcsec"),
        )  # fmt: skip

    @property
    def channel(self) -> str:
        """What it maps."""
        low, high = self.band_kev
        return f"xray_photons_{low:g}-{high:g}keV"

    @property
    def fwhm_arcsec(self) -> float:
        """Full width at half maximum of the point spread."""
        return self.hew_arcsec * np.sqrt((2 ** (2 / 3) - 1) / 3)

    @property
    def margin_arcsec(self) -> float:
        """How much wider on each side the clean map must be."""
        return 2 * BEAMS * self.hew_arcsec

    def blurred(self, clean: NDArray[np.float64], pixel_arcsec: float) -> NDArray[np.float64]:
        """P * S on the pixels of S, taken as periodic; the light that P sends farther than half the map stays in it."""
        N, r_0 = len(clean), self.hew_arcsec / np.sqrt(12)
        edges = (np.arange(N + 1) - N // 2 - 0.5) * pixel_arcsec
        x, y = edges, edges[:, None]
        inside = np.arctan(x * y / (r_0 * np.sqrt(r_0**2 + x**2 + y**2))) / (2 * np.pi)  # from the centre to (x, y)
        P = np.diff(np.diff(inside, axis=0), axis=1)
        kernel = rfft2(np.roll(P / P.sum(), (-(N // 2), -(N // 2)), axis=(0, 1)))
        return np.maximum(irfft2(rfft2(clean) * kernel, s=clean.shape), 0.0)  # rounding alone makes it negative

    def counts_per_brightness(
        self, seconds: NDArray[np.float64], pixel_arcsec: float, redshift: float
    ) -> NDArray[np.float64]:
        """E, expected photons of each pixel for a brightness of one photon / (s cm^2) emitted.

        Args:
            seconds: t V, exposure of each pixel with vignetting, any shape.
        """
        solid_angle = (pixel_arcsec * ARCSEC) ** 2
        return self.area_cm2 * seconds * solid_angle / (4 * np.pi * (1 + redshift) ** 3)

    def background(
        self, seconds: NDArray[np.float64], unvignetted: ArrayLike, pixel_arcsec: float
    ) -> NDArray[np.float64]:
        """b, expected photons of each pixel that are not the cluster's.

        Args:
            seconds, unvignetted: exposure of each pixel with and without vignetting, shapes alike.
        """
        return (pixel_arcsec / 60) ** 2 * (self.sky * seconds + self.particles * np.asarray(unvignetted))

    def _vignetting(self, pixels: int, pixel_arcsec: float) -> NDArray[np.float64]:
        theta = distance(pixels, pixel_arcsec) / 60
        return 1 / (1 + (theta / self.vignetting_arcmin) ** 2) if self.vignetting_arcmin else np.ones_like(theta)

    def expose(
        self, clean: NDArray[np.float64], pixels: int, sky: Sky, scene: Scene, rng: np.random.Generator
    ) -> Exposure:
        """The image of (pixels, pixels) from a clean map that is wider, both centred alike; rng is for the photons."""
        brightness = cut(self.blurred(clean, sky.pixel_arcsec), pixels)
        seconds = self.exposure_s * self._vignetting(pixels, sky.pixel_arcsec)
        E = self.counts_per_brightness(seconds, sky.pixel_arcsec, scene.redshift)
        b = self.background(seconds, self.exposure_s, sky.pixel_arcsec)
        mask = _field_of(self, pixels, sky.pixel_arcsec) & ~sky.holes(self.holes_per_deg2, self.hole_arcsec, pixels)
        return image_of_counts(np.where(mask, rng.poisson(E * brightness + b), 0), E, b, mask)


@dataclass(frozen=True)
class Imager:
    """An optical telescope that maps the light of galaxies; instruments.toml says what its numbers are."""

    name: str
    source: str
    filter: str
    fwhm_arcsec: float
    limit_mag: float
    sun_mag: float

    def __post_init__(self) -> None:
        _require(self, ("fwhm_arcsec",), ())

    @property
    def channel(self) -> str:
        """What it maps."""
        return f"galaxy_light_{self.filter}"

    @property
    def margin_arcsec(self) -> float:
        """How much wider on each side the clean map must be."""
        return BEAMS * self.fwhm_arcsec

    def transfer(self, l: NDArray[np.float64]) -> NDArray[np.float64]:
        """B(l)."""
        return _gaussian(self.fwhm_arcsec, l)

    def rms(self, pixel_arcsec: float, scene: Scene) -> float:
        """Noise of a pixel [Lsun / kpc^2]; a source at the limit, fitted with the beam, has five times its error."""
        limit = 10 ** (-0.4 * (self.limit_mag - scene.distance_modulus - self.sun_mag))  # [Lsun]
        kpc_per_arcsec = 1 / scene.arcsec_per_kpc
        sigma, pixel = self.fwhm_arcsec / FWHM * kpc_per_arcsec, pixel_arcsec * kpc_per_arcsec
        return float(limit / 5 / (np.sqrt(4 * np.pi) * sigma) / pixel)

    def expose(
        self, clean: NDArray[np.float64], pixels: int, sky: Sky, scene: Scene, rng: np.random.Generator
    ) -> Exposure:
        """The image of (pixels, pixels) from a clean map that is wider, both centred alike; rng is for the noise."""
        image = cut(filtered(clean, self.transfer, sky.pixel_arcsec), pixels)
        noise = np.full_like(image, self.rms(sky.pixel_arcsec, scene))
        return Exposure(image + noise * rng.standard_normal(image.shape), noise, np.ones_like(image, bool))


def _gaussian(fwhm_arcsec: float, l: NDArray[np.float64]) -> NDArray[np.float64]:
    """B(l) of a beam of this width."""
    return np.exp(-0.5 * (l * fwhm_arcsec * ARCSEC / FWHM) ** 2)


def image_of_counts(
    counts: NDArray, E: NDArray[np.float64], b: NDArray[np.float64], mask: NDArray[np.bool_]
) -> Exposure:
    """The image (N - b) / E of counts N, with the noise that an observer can know, (Y, X) each.

    The noise is sqrt(b + s) / E, where s are the counts above b, smoothed over SMOOTH pixels: it must not go with the
    counts of its own pixel, or bright pixels would weigh less.

    Args:
        counts: N. E: expected photons for unit brightness. b: of the background. mask: True where E is positive.
    """
    known = gaussian_filter(mask.astype(float), SMOOTH, mode="constant")
    above = gaussian_filter(np.where(mask, counts - b, 0.0), SMOOTH, mode="constant")
    s = np.divide(above, known, out=np.zeros_like(known), where=mask)
    least = 1 / (4 * np.pi * SMOOTH**2)  # one photon where none was seen
    rms = np.sqrt(np.maximum(b + np.maximum(s, 0.0), least))
    per_E = np.divide(1.0, E, out=np.zeros_like(E), where=mask)
    noise = rms * np.where(mask, per_E, per_E.max(initial=0.0))
    return Exposure((counts - b) * per_E, noise, mask, counts)


Instrument = Bolometer | Counter | Imager
KINDS: dict[str, type[Instrument]] = {"bolometer": Bolometer, "counter": Counter, "imager": Imager}


def instruments(names: tuple[str, ...]) -> dict[str, Instrument]:
    """The instruments of these names; a name that ends in .toml stands for all instruments of that file.

    Raises:
        UserError: a name is not known, or a file cannot be used.
    """
    known = read_instruments(Path(__file__).with_name("instruments.toml"))
    found: dict[str, Instrument] = {}
    for name in names:
        if name.endswith(".toml"):
            found |= read_instruments(require_file(name, "the file of instruments"))
        elif name in known:
            found[name] = known[name]
        else:
            raise UserError(f"unknown instrument {name!r}; the known ones are: {', '.join(known)}.")
    return found


@lru_cache(maxsize=8)
def read_instruments(path: Path) -> dict[str, Instrument]:
    """The instruments of a file like instruments.toml.

    Raises:
        UserError: it is damaged, or a number is missing, unknown or impossible.
    """
    try:
        tables = tomllib.loads(path.read_text())
        return {name: _instrument(name, dict(table)) for name, table in tables.items()}
    except DAMAGE as error:
        raise UserError(f"{path} is not a file of instruments: {reason_of(error)}.") from error


def _instrument(name: str, table: dict[str, Any]) -> Instrument:
    kind = table.pop("kind", None)
    if not re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*", name):
        raise ValueError(f"an instrument cannot be called {name!r}")
    if is_channel(name):
        raise ValueError(f"an instrument cannot be called {name}, as a channel is")
    if kind not in KINDS:
        raise ValueError(f"the kind of {name} must be one of {', '.join(KINDS)}, not {kind!r}")
    types = {f.name: str(f.type) for f in fields(KINDS[kind])}
    unknown = set(table) - set(types)
    if unknown:
        raise ValueError(f"{name} has unknown settings: {', '.join(sorted(unknown))}")
    for key, value in table.items():
        if not _is_of(value, types[key]):
            raise ValueError(f"{key} of {name} cannot be {value!r}")
    instrument = KINDS[kind](name, **table)
    channel(instrument.channel)
    return instrument


def _is_of(value: object, kind: str) -> bool:
    """Whether a value of a file can be of this annotated type."""
    if kind.startswith("tuple"):
        return isinstance(value, list) and len(value) == 2 and all(_is_of(v, "float") for v in value)
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
    return isinstance(value, bool if kind == "bool" else str)


def _require(instrument: Instrument, positive: tuple[str, ...], not_negative: tuple[str, ...]) -> None:
    for name in (*positive, *not_negative):
        value = getattr(instrument, name)
        if not (np.isfinite(value) and (value > 0 or (value == 0 and name in not_negative))):
            raise ValueError(f"{name} of {instrument.name} cannot be {value}.")


def _field_of(instrument: Bolometer | Counter, pixels: int, pixel_arcsec: float) -> NDArray[np.bool_]:
    """True where the instrument sees.

    Raises:
        ValueError: not the centre of a single pixel lies in its field.
    """
    mask = inside_field(instrument.field_arcmin, pixels, pixel_arcsec)
    if not mask.any():
        raise ValueError(f"the field of {instrument.name} is smaller than a pixel of {pixel_arcsec:g} arcsec.")
    return mask


def _field(
    power: Function, pixels: int, pixel_arcsec: float, rng: np.random.Generator, large: bool
) -> NDArray[np.float64]:
    """A Gaussian field, cut from one that is LARGE times as wide if its waves are long."""
    return cut(gaussian_field(power, (LARGE if large else 1) * pixels, pixel_arcsec, rng), pixels)
