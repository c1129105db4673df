"""What a misplaced centre does: images of held-out clusters moved by whole pixels, reconstructed as if centred.

    python validation/centring.py MODEL MAPS [--pixels 0 1 2 4] [--sightlines 30] [--samples 20] [--split test]

For each displacement and target it prints the median and the half-width (16 to 84%) of the error of the mean mass
inside R500c and R200m of the displaced centre, and the share of truths within one standard deviation of the samples.
Pixels that would come from outside the image are not known to the model. Networks are trained on maps centred on their
halo.
"""

import argparse

import numpy as np

from zwicky.dataset.store import open_maps
from zwicky.products import aperture_mass
from zwicky.reconstruct import load_model

RADII = ("r500c", "r200m")


def moved(image, pixels):
    """An image whose content lies so many pixels further along x, and where it is known."""
    known = np.ones(image.shape, bool)
    known[:, :pixels] = False
    return np.where(known, np.roll(image, pixels, axis=1), 0.0), known


def masses(model, maps, row, pixels, samples):
    """True masses and those of samples of a row, {(target, radius): (truth, (samples,))} [Msun]."""
    images, masks = {}, {}
    for name in model.config.inputs:
        images[name], masks[name] = moved(maps.read(name, np.array([row]))[0].astype(float), pixels)
    posterior = model.sample(images, maps.redshift, maps.pixel_kpc, samples, int(row), masks=masks)
    found = {}
    for name in model.config.targets:
        truth = np.roll(maps.read(name, np.array([row]))[0].astype(float), pixels, axis=1)
        for radius in RADII:
            kpc = float(maps.halo[radius][row])
            found[name, radius] = float(aperture_mass(truth, maps.pixel_kpc, kpc)), posterior.mass(name, kpc)
    return found


def main():
    """Move, reconstruct, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("maps")
    parser.add_argument("--pixels", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--sightlines", type=int, default=30)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--split", default="test")
    o = parser.parse_args()
    model, maps = load_model(o.model), open_maps(o.maps)
    rows = maps.few(o.split, o.sightlines)
    print("pixels  target        radius   median   half-width   within 1 sigma")
    for pixels in o.pixels:
        found = [masses(model, maps, row, pixels, o.samples) for row in rows]
        for target, radius in found[0]:
            truth, samples = (np.array(part) for part in zip(*(f[target, radius] for f in found), strict=True))
            low, middle, high = np.percentile(samples.mean(1) / truth - 1, [16, 50, 84])
            inside = np.mean(np.abs(samples.mean(1) - truth) < samples.std(1, ddof=1))
            print(f"{pixels:6d}  {target:12s}  {radius:6s}  {middle:+7.3f}  {(high - low) / 2:11.3f}  {inside:15.2f}")


if __name__ == "__main__":
    main()
