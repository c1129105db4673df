"""Samples: set by their seed, physical, blind to what is masked, and honest about what is unlike the training."""

import numpy as np
import pytest

from zwicky.device import choose_device
from zwicky.io import UserError
from zwicky.reconstruct import load_model, reconstruct_files

KPC, Z = 200.0, 0.1
FAST = {"sampler": "dpm", "steps": 4}
TARGETS = ("gas", "dark_matter")


def draw(model, inputs, n=3, seed=0, **options):
    return model.sample(inputs, Z, KPC, n, seed, **{**FAST, **options})


def equal(a, b):
    return all(np.array_equal(a.samples[c], b.samples[c]) for c in TARGETS)


def test_the_same_seed_gives_the_same_samples(model, observation):
    a, b = draw(model, observation), draw(model, observation)
    assert equal(a, b)
    assert not equal(a, draw(model, observation, seed=1))


@pytest.mark.parametrize("sampler", ["dpm", "sde"])
def test_a_sample_depends_on_its_number_alone(model, observation, sampler, monkeypatch):
    """Not on how many are drawn, nor on the batch; to the precision of the network's arithmetic."""
    options = {"sampler": sampler, "steps": 16}
    many, few = (draw(model, observation, n=n, **options) for n in (13, 2))
    monkeypatch.setattr("zwicky.reconstruct.BATCH", 3)
    other = draw(model, observation, n=13, **options)
    for c in TARGETS:
        spread = many.samples[c].std(0).mean()
        assert spread > 0
        assert np.abs(many.samples[c][:2] - few.samples[c]).mean() < 0.02 * spread
        assert np.abs(many.samples[c] - other.samples[c]).mean() < 0.02 * spread


@pytest.mark.parametrize("given", [(), ("compton_y",), ("xray",), ("xray", "compton_y")])
@pytest.mark.parametrize("sampler", ["dpm", "sde", "heun", "euler_maruyama"])
def test_any_subset_of_inputs_gives_physical_maps(model, observation, given, sampler):
    p = draw(model, {c: observation[c] for c in given}, n=2, sampler=sampler, steps=None)
    assert list(p.samples) == list(TARGETS)
    for x in p.samples.values():
        assert x.shape == (2, 16, 16)
        assert np.isfinite(x).all()
        assert (x >= 0).all()
    assert p.provenance["INPUTS"] == (",".join(given) or "none")
    assert any("samples of the prior" in text for text in p.warnings) == (not given)


def test_samples_that_diverge_are_refused(model, observation):
    with pytest.raises(ValueError, match="diverged; take more --steps"):
        draw(model, observation, sampler="euler_maruyama", steps=4)


def test_inputs_matter_and_their_order_does_not(model, observation):
    swapped = dict(reversed(observation.items()))
    assert list(swapped) != list(observation)
    assert equal(draw(model, observation), draw(model, swapped))
    assert not equal(draw(model, observation), draw(model, {"xray": observation["xray"]}))


@pytest.mark.parametrize("kpc", [200.0, 100.0, 330.0])
@pytest.mark.parametrize("value", [0.0, 1e9, -1.0, np.nan])
def test_what_lies_under_the_mask_changes_nothing(model, observation, kpc, value):
    mask = np.ones((16, 16), bool)
    mask[4:9, 6:13] = False
    hidden = {c: np.where(mask, x, value) for c, x in observation.items()}
    masks = dict.fromkeys(observation, mask)
    a, b = (model.sample(x, Z, kpc, 2, masks=masks, **FAST) for x in (observation, hidden))
    assert equal(a, b)
    assert a.warnings == b.warnings


def test_a_wholly_masked_input_is_a_missing_one(model, observation):
    nothing = {"xray": np.zeros((16, 16), bool)}
    a = draw(model, observation, masks=nothing)
    assert equal(a, draw(model, {"compton_y": observation["compton_y"]}))


def test_finer_pixels_of_the_same_sky_give_the_same_samples(model, observation):
    finer = {c: np.kron(x, np.ones((2, 2))) for c, x in observation.items()}
    a, b = draw(model, observation), model.sample(finer, Z, KPC / 2, 3, **FAST)
    for c in TARGETS:
        np.testing.assert_allclose(a.samples[c], b.samples[c], rtol=1e-3)
    assert b.pixel_kpc == KPC


def test_progress_counts_evaluations_of_the_network(model, observation):
    seen = []
    draw(model, observation, n=12, sampler="heun", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 16) for i in range(1, 17)]  # two batches of 1 for the mean and 2 x 4 - 1


def test_unlikeness_is_told(model, observation):
    assert draw(model, observation).warnings == ()
    far = model.sample(observation, 0.9, KPC, 1, **FAST)
    assert far.warnings == ("the model was trained at redshift 0.1, not at 0.9",)
    bright = draw(model, {"xray": observation["xray"] * 1e4})
    assert bright.warnings == ("the xray image is brighter than any in training",)


def test_an_image_too_small_is_not_called_absent(model):
    p = model.sample({"xray": np.ones((1, 1))}, Z, 1.0, 1, **FAST)
    assert not any("no image was given" in text for text in p.warnings)


UNLIKE = {
    "no signal": (np.zeros((16, 16)), KPC),
    "a corner of the map": (np.full((2, 2), 1e-5), KPC),
    "one huge pixel": (np.full((2, 2), 1e-5), 1e6),
}


@pytest.mark.parametrize(("image", "kpc"), UNLIKE.values(), ids=UNLIKE)
def test_other_kinds_of_unlikeness_are_told(model, image, kpc):
    assert model.sample({"compton_y": image}, Z, kpc, 1, **FAST).warnings != ()


BAD = {
    "unknown input": (dict(inputs={"radio": np.ones((16, 16))}), "takes compton_y, xray, not radio"),
    "shapes": (dict(inputs={"xray": np.ones((16, 16)), "compton_y": np.ones((8, 8))}), "differ in shape"),
    "mask": (dict(inputs={"xray": np.ones((16, 16))}, masks={"xray": np.ones((4, 4))}), "differ in shape"),
    "line": (dict(inputs={"xray": np.ones(16)}), "two-dimensional"),
    "nan": (dict(inputs={"xray": np.full((16, 16), np.nan)}), "finite where it is not masked"),
    "redshift": (dict(redshift=-0.1), "redshift must be zero or positive"),
    "nan redshift": (dict(redshift=np.nan), "redshift must be zero or positive"),
    "pixel": (dict(pixel_kpc=0.0), "pixel size must be positive"),
    "none": (dict(n=0), "at least one sample"),
    "sampler": (dict(sampler="magic"), "sampler must be one of"),
    "levels": (dict(steps=1), "at least 2 noise levels"),
    "seed": (dict(seed=-1), "non-negative"),
}


@pytest.mark.parametrize(("request_", "message"), BAD.values(), ids=BAD)
def test_a_request_out_of_range_is_refused(model, request_, message):
    with pytest.raises(ValueError, match=message):
        model.sample(**{"inputs": {}, "redshift": Z, "pixel_kpc": KPC, "n": 1, **request_})


def test_devices():
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(UserError, match="must be cpu, cuda or auto"):
        choose_device("tpu")
    with pytest.raises(UserError, match="there is no model"):
        load_model("nowhere")


def files_of(write_image, observation):
    units = {"compton_y": "Compton y", "xray": "erg s-1 cm-2"}
    return {c: write_image(f"{c}.fits", x, units[c]) for c, x in observation.items()}


def test_files_give_what_their_arrays_give(model, observation, write_image):
    p = reconstruct_files(model, files_of(write_image, observation), Z, pixel_kpc=KPC, n=2, **FAST)
    assert equal(p, draw(model, observation, n=2))
    assert p.warnings == ()
    assert (p.provenance["INPUT1"], p.provenance["INPUT2"]) == ("compton_y.fits", "xray.fits")
    assert (p.provenance["MODEL"], len(p.provenance["MODELID"]), p.provenance["SEED"]) == ("tiny", 12, 0)
    assert p.wcs.celestial.wcs.ctype[0] == "RA---TAN"


def test_the_pixel_size_comes_from_the_sky(model, observation, write_image):
    """105 arcsec at z = 0.1 are 194 kpc."""
    from astropy.cosmology import FlatLambdaCDM

    files = files_of(write_image, observation)
    kpc = 105 / 60 * FlatLambdaCDM(70, 0.3).kpc_proper_per_arcmin(Z).value
    a = reconstruct_files(model, files, Z, n=1, **FAST)
    b = reconstruct_files(model, files, Z, pixel_kpc=kpc, n=1, **FAST)
    for c in TARGETS:
        np.testing.assert_allclose(a.samples[c], b.samples[c], rtol=1e-4)


def test_a_mask_file_hides_nan(model, observation, write_image):
    observation["xray"][2, 3] = np.nan
    files, mask = files_of(write_image, observation), np.ones((16, 16))
    mask[2, 3] = 0
    p = reconstruct_files(model, files, Z, pixel_kpc=KPC, n=1, mask=write_image("m.fits", mask), **FAST)
    assert np.isfinite(p.samples["gas"]).all()
    with pytest.raises(UserError, match="NaN"):
        reconstruct_files(model, files, Z, pixel_kpc=KPC, n=1, **FAST)


def test_files_without_sky_need_a_pixel_size(model, observation, write_image):
    path = write_image("a.fits", observation["xray"], "erg s-1 cm-2", sky=False)
    with pytest.raises(UserError, match="--pixel-kpc"):
        reconstruct_files(model, {"xray": path}, Z, n=1, **FAST)
    assert reconstruct_files(model, {"xray": path}, Z, pixel_kpc=KPC, n=1, **FAST).wcs is None
    with pytest.raises(UserError, match="give at least one image"):
        reconstruct_files(model, {}, Z)
