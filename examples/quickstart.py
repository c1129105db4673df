"""The Python interface in fifteen lines: the shipped model on the shipped observation."""

from astropy.io import fits

import zwicky
from zwicky.demo import OBSERVATION

y = fits.getdata(OBSERVATION / "sz.fits")  # Compton y, index [y, x]
sx = fits.getdata(OBSERVATION / "xray.fits")  # X-ray surface brightness [erg / (s cm2)]
truth = fits.getheader(OBSERVATION / "truth.fits")

model = zwicky.load_model("laptop")
images = {"compton_y": y, "xray": sx}
posterior = model.sample(images, redshift=truth["REDSHIFT"], pixel_kpc=truth["PIXKPC"], n=50, seed=0)

mass = posterior.mass("dark_matter", truth["R500C"])  # one number per sample [Msun], projected
print(f"dark matter inside R500c: {mass.mean():.3e} +- {mass.std(ddof=1):.1e} Msun")
print("mean map:", posterior.mean["dark_matter"].shape, posterior.units["dark_matter"])
posterior.to_fits("runs/quickstart.fits", {"R500c": truth["R500C"]})
