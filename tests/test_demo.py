"""The shipped model and observation: what a user sees in the first minute."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from zwicky.demo import OBSERVATION, run_demo
from zwicky.products import aperture_mass

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Posterior, radii, true masses and the folder of a demo with 20 samples."""
    folder = tmp_path_factory.mktemp("demo")
    return *run_demo(folder, 20, 0, "cpu"), folder


def test_masses_inside_r200m_are_within_three_standard_deviations_of_the_truth(demo):
    posterior, radii, truth, _ = demo
    for channel in ("gas", "dark_matter"):
        mass = posterior.mass(channel, radii["R200m"])
        assert abs(mass.mean() - truth[channel, "R200m"]) < 3 * mass.std(ddof=1)


def test_the_posterior_is_closer_to_the_truth_than_the_prior_is(demo):
    """The images matter: the error of the mean map is a fraction of the truth."""
    posterior, *_ = demo
    for channel in ("gas", "dark_matter"):
        true = fits.getdata(OBSERVATION / "truth.fits", channel.upper())
        assert np.abs(posterior.mean[channel] - true).sum() < 0.3 * true.sum()


def test_true_masses_are_those_of_the_truth(demo):
    _, radii, truth, _ = demo
    gas = fits.getdata(OBSERVATION / "truth.fits", "GAS")
    pixel = fits.getheader(OBSERVATION / "truth.fits")["PIXKPC"]
    assert truth["gas", "R500c"] == pytest.approx(float(aperture_mass(gas.astype(float), pixel, radii["R500c"])))


def test_the_fits_file_has_the_layout_of_the_contract(demo):
    *_, folder = demo
    with fits.open(folder / "posterior.fits") as hdus:
        assert [h.name for h in hdus] == ["PRIMARY", "SAMPLES", "MEAN", "STD", "MASSES", "PROFILES"]
        assert hdus["SAMPLES"].data.shape == (20, 2, 128, 128)
        for name in ("SAMPLES", "MEAN", "STD"):
            assert np.isfinite(hdus[name].data).all()
            assert (hdus[name].header["CHANNEL1"], hdus[name].header["CHANNEL2"]) == ("gas", "dark_matter")
        sky = WCS(fits.getheader(OBSERVATION / "sz.fits")).pixel_to_world(10, 20)
        assert sky.separation(WCS(hdus["MEAN"].header).celestial.pixel_to_world(10, 20)).arcsec < 1e-6
    assert (folder / "reconstruction.png").stat().st_size > 10_000


def test_the_shipped_model_fits_its_size():
    size = sum(p.stat().st_size for p in (OBSERVATION.parent / "laptop").iterdir())
    assert size < 20e6


def test_the_example_of_the_readme_runs(tmp_path):
    """The block in the README is examples/quickstart.py, and it runs as it stands."""
    script = (ROOT / "examples" / "quickstart.py").read_text()
    block = [line.strip() for line in (ROOT / "README.md").read_text().splitlines() if line.strip()]
    code = [line.strip() for line in script.split('"""')[-1].splitlines() if line.strip()]
    start = block.index(code[0])
    assert block[start : start + len(code)] == code
    result = subprocess.run(
        [sys.executable, ROOT / "examples" / "quickstart.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "dark matter inside R500c" in result.stdout
    assert (tmp_path / "runs" / "quickstart.fits").exists()
