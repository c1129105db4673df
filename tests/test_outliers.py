"""The score of outliers: alarms at the rate that was set, any part of the images, what is unlike, its file."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from zwicky import outliers
from zwicky.io import UserError
from zwicky.outliers import FALSE_ALARMS, RINGS, Reference, features, gaussian, read_reference, tail
from zwicky.products import Outlier
from zwicky.reconstruct import add_reference, load_model
from zwicky.train import train

PIXELS, SAMPLES = 16, 5
FAST = {"sampler": "dpm", "steps": 4}


def population(count, rng, tilt=0.0, samples=SAMPLES):
    """Normalised inputs (N, 2, P, P), truths (N, 1, P, P) and samples of their exact posterior (N, S, 1, P, P).

    A cluster has a mass that sets the height of every map; inputs follow the truth with their own scatter, and `tilt`
    moves the second of them off the first.
    """
    x = np.arange(PIXELS) - (PIXELS - 1) / 2
    shape = -np.log1p(np.hypot(x[:, None], x) ** 2 / 8)
    truth = shape + rng.normal(size=(count, 1, 1, 1)) + 0.1 * rng.normal(size=(count, 1, PIXELS, PIXELS))
    error = 0.2 * rng.normal(size=(count, 2, 1, 1)) + 0.1 * rng.normal(size=(count, 2, PIXELS, PIXELS))
    inputs = truth * [[[1.0]], [[1.2]]] + error + tilt * np.array([0.0, 1.0])[:, None, None]
    mean, sigma = (inputs[:, :1, :1, :1] - error[:, :1, :1, :1]), 0.14
    drawn = truth[:, None] + sigma * rng.normal(size=(count, samples, 1, 1, 1)) + 0 * mean[:, None]
    return inputs, truth, drawn


def reference_of(rng, train=400, validation=400):
    inputs, truth, _ = population(train, rng)
    mean, covariance = gaussian(np.concatenate([features(inputs), features(truth)], 1))
    inputs, _, drawn = population(validation, rng)
    return Reference(mean, covariance, features(inputs), features(drawn).mean(1))


def scores(reference, maps, known=None):
    inputs, _, drawn = maps
    everything = np.ones(inputs.shape[1:], bool) if known is None else known
    return np.array([reference.score(y, everything, x).score for y, x in zip(inputs, drawn, strict=True)])


@pytest.fixture(scope="module")
def reference():
    return reference_of(np.random.default_rng(1))


def holes():
    """A twelfth of the pixels, in five places."""
    known = np.ones((2, PIXELS, PIXELS), bool)
    for y, x in ((1, 2), (4, 11), (9, 4), (12, 12), (6, 7)):
        known[:, y : y + 2, x : x + 2] = False
    return known


def small_field():
    known = np.zeros((2, PIXELS, PIXELS), bool)
    known[:, 4:-4, 4:-4] = True
    return known


def only(channel):
    known = np.zeros((2, PIXELS, PIXELS), bool)
    known[channel] = True
    return known


KNOWN = {"all": None, "first": only(0), "second": only(1), "masked": holes(), "small field": small_field()}


@pytest.mark.parametrize("known", KNOWN.values(), ids=KNOWN)
def test_like_clusters_raise_the_alarm_at_the_rate_that_was_set(reference, known):
    """3 sigma of a binomial share of 400 maps, with a limit from as many."""
    p = scores(reference, population(400, np.random.default_rng(2)), known)
    assert np.mean(p < FALSE_ALARMS) == pytest.approx(FALSE_ALARMS, abs=3 * np.sqrt(2 * 0.09 / 400))
    if known is None:
        assert np.mean(p < 0.5) == pytest.approx(0.5, abs=3 * np.sqrt(2 * 0.25 / 400))


def test_inputs_that_disagree_are_caught_where_both_are_given(reference):
    maps = population(100, np.random.default_rng(3), tilt=1.5)
    assert np.mean(scores(reference, maps) < FALSE_ALARMS) > 0.95
    assert np.mean(scores(reference, maps, only(0)) < FALSE_ALARMS) < 0.25


def test_a_change_of_brightness_is_found_where_all_features_together_do_not_show_it(reference):
    inputs, _, drawn = population(60, np.random.default_rng(14))
    known = np.ones(inputs.shape[1:], bool)
    off = inputs + np.array([0.0, 0.9])[:, None, None]
    parts = [reference.score(y, known, x).parts for y, x in zip(off, drawn, strict=True)]
    z = {name: np.mean([part[name] for part in parts]) for name in parts[0]}
    assert min(z["brightness"], z["samples"]) > z["images"] + 0.5


def test_samples_are_asked_only_where_all_is_seen(reference):
    """Those that saw less err in other ways than those of the validation maps."""
    inputs, _, drawn = population(1, np.random.default_rng(15))
    everything = np.ones(inputs[0].shape, bool)
    corner = everything.copy()
    corner[:, 0, :2] = False
    for known, parts in ((everything, 3), (corner, 3), (only(0), 2), (small_field(), 2)):
        outlier = reference.score(inputs[0], known, drawn[0])
        assert len(outlier.parts) == parts
        assert ("samples" in outlier.parts) == (parts == 3)


def test_samples_that_do_not_explain_the_images_are_caught(reference):
    inputs, truth, drawn = population(100, np.random.default_rng(4))
    assert np.mean(scores(reference, (inputs, truth, drawn + 1.5)) < FALSE_ALARMS) > 0.95


def test_an_unusual_mass_is_like_those_of_training_until_it_leaves_their_range(reference):
    rng = np.random.default_rng(5)
    inputs, truth, drawn = population(100, rng)
    heavy = np.argsort(truth.mean((1, 2, 3)))[-10:]
    assert np.mean(scores(reference, (inputs[heavy], truth[heavy], drawn[heavy])) < FALSE_ALARMS) <= 0.6
    beyond = inputs + 8 * np.array([1.0, 1.2])[:, None, None], truth + 8, drawn + 8
    assert scores(reference, beyond).max() < FALSE_ALARMS


def test_a_lump_off_the_centre_is_caught(reference):
    inputs, truth, drawn = population(100, np.random.default_rng(6))
    inputs[:, :, 3, 3] += 4
    assert np.mean(scores(reference, (inputs, truth, drawn)) < FALSE_ALARMS) > 0.9


def test_too_little_to_judge(reference):
    known = np.zeros((2, PIXELS, PIXELS), bool)
    known[0, 7:9, 7:9] = True
    inputs, _, drawn = population(1, np.random.default_rng(7))
    assert reference.score(inputs[0], known, drawn[0]) is None
    assert reference.score(inputs[0], ~np.ones_like(known), drawn[0]) is None
    assert reference.score(inputs[0], np.arange(PIXELS) + 0 * known > PIXELS / 2, drawn[0]) is None


def test_what_is_masked_does_not_count(reference):
    inputs, _, drawn = population(1, np.random.default_rng(8))
    hidden = np.where(holes(), inputs[0], 1e6)
    assert reference.score(hidden, holes(), drawn[0]) == reference.score(inputs[0], holes(), drawn[0])


def test_features_of_rings_do_not_depend_on_orientation():
    v = np.random.default_rng(9).normal(size=(3, PIXELS, PIXELS))
    f = features(v)
    assert f.shape == (3 * 2 * RINGS,)
    np.testing.assert_allclose(features(np.rot90(v, axes=(1, 2))), f)
    np.testing.assert_allclose(features(v + 2)[:RINGS], f[:RINGS] + 2)
    np.testing.assert_allclose(features(v + 2)[RINGS : 2 * RINGS], f[RINGS : 2 * RINGS], atol=1e-6)


def test_the_shrunk_covariance_is_close_to_the_truth_whatever_the_number_of_rows():
    """Of 30 independent columns: invertible from 10 rows, better than the plain estimate, equal to it for many."""
    rng, scale = np.random.default_rng(10), np.geomspace(0.1, 10, 30)
    for rows in (10, 100):
        x = scale * rng.normal(size=(rows, 30))
        _, shrunk = gaussian(x)
        standard = shrunk / np.outer(scale, scale)
        assert np.linalg.eigvalsh(shrunk).min() > 0
        assert np.linalg.norm(standard - np.eye(30)) < np.linalg.norm(np.cov((x / scale).T) - np.eye(30))
    mix = rng.normal(size=(30, 30))
    x = rng.normal(size=(20000, 30)) @ mix
    np.testing.assert_allclose(gaussian(x)[1], np.cov(x.T, ddof=0), atol=0.01 * np.abs(np.cov(x.T)).max())


def test_the_tail_falls_without_a_step_or_an_end():
    like = np.sort(np.random.default_rng(11).normal(size=500))
    p = np.array([tail(d, like) for d in np.linspace(-4, 12, 400)])
    assert (np.diff(p) <= 0).all()
    assert (p[0], p[-1] < 1e-6, (p > 0).all()) == (1, True, True)
    assert np.abs(np.diff(p)).max() < 0.05
    assert tail(like[450], like) >= FALSE_ALARMS > tail(like[452], like)
    assert tail(1.0, np.zeros(20)) < 1e-6


def test_a_reference_goes_through_its_file(reference, tmp_path):
    reference.save(tmp_path)
    again = read_reference(tmp_path, PIXELS, 2, 1)
    inputs, _, drawn = population(1, np.random.default_rng(12))
    known = np.ones(inputs[0].shape, bool)
    assert again.score(inputs[0], known, drawn[0]) == reference.score(inputs[0], known, drawn[0])
    assert read_reference(tmp_path / "elsewhere", PIXELS, 2, 1) is None


DAMAGE = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a reference"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_named(reference, tmp_path, damage):
    reference.save(tmp_path)
    damage(tmp_path / outliers.FILE)
    with pytest.raises(UserError, match=r"outliers.safetensors is damaged or of another model; move it away"):
        read_reference(tmp_path, PIXELS, 2, 1)


def test_a_reference_of_another_model_is_refused(reference, tmp_path):
    reference.save(tmp_path)
    with pytest.raises(UserError, match="of another model"):
        read_reference(tmp_path, PIXELS, 1, 1)


@pytest.mark.parametrize("change", [{"mean": np.zeros(3)}, {"images": np.zeros((1, 32))}])
def test_arrays_that_do_not_fit_are_refused(reference, change):
    with pytest.raises(ValueError, match="do not fit each other"):
        replace(reference, **change)


@pytest.fixture(scope="module")
def watchful(model_folder, map_file, more_maps, tmp_path_factory):
    """The tiny model with a reference from ten validation maps; six, those it was trained with, are too few."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(model_folder, folder / "tiny")
    add_reference(folder / "tiny", map_file)
    assert not (folder / "tiny" / outliers.FILE).exists()
    seen = []
    add_reference(folder / "tiny", more_maps, progress=lambda done, total: seen.append((done, total)), samples=2)
    assert seen == [(i, 10) for i in range(1, 11)]
    return folder / "tiny"


def test_a_model_without_a_reference_gives_no_score(model, observation, tmp_path):
    posterior = model.sample(observation, 0.1, 200.0, 2, **FAST)
    assert (model.reference, posterior.outlier) == (None, None)
    posterior.to_fits(tmp_path / "p.fits")
    assert "OUTLIER" not in fits.getheader(tmp_path / "p.fits")


def test_a_model_with_one_scores_any_subset_and_tells_the_header(watchful, observation, tmp_path):
    model = load_model(watchful)
    for given in (("compton_y",), ("xray",), ("compton_y", "xray")):
        posterior = model.sample({c: observation[c] for c in given}, 0.1, 200.0, 2, **FAST)
        assert 0 < posterior.outlier.score <= 1
    posterior.to_fits(tmp_path / "p.fits")
    header = fits.getheader(tmp_path / "p.fits")
    assert (header["OUTLIER"], header["OUTLIMIT"]) == (posterior.outlier.score, FALSE_ALARMS)
    assert model.sample({}, 0.1, 200.0, 2, **FAST).outlier is None


def test_models_for_noisy_images_have_no_reference(map_file, more_maps, tiny_config, tmp_path):
    folder = train(map_file, tmp_path / "noisy", replace(tiny_config, degrade=0.5, steps=2))
    add_reference(folder, more_maps)
    assert load_model(folder).reference is None


def test_what_is_unlike_the_training_is_told(watchful, observation):
    """Images of noise with the brightness of a cluster: nothing else is amiss with them."""
    model, rng = load_model(watchful), np.random.default_rng(13)
    shuffled = {c: rng.permutation(image.ravel()).reshape(image.shape) for c, image in observation.items()}
    posterior = model.sample(shuffled, 0.1, 200.0, 2, **FAST)
    assert posterior.outlier.score < FALSE_ALARMS
    assert [text for text in posterior.warnings if "unlike those of the training (outlier score" in text]


def test_a_reference_is_made_once(watchful, map_file):
    before = (watchful / outliers.FILE).stat().st_mtime_ns
    add_reference(watchful, map_file, progress=lambda *a: pytest.fail("made again"))
    assert (watchful / outliers.FILE).stat().st_mtime_ns == before


def test_the_limit_is_where_the_warning_begins():
    assert Outlier(0.099, 0.1).warned
    assert not Outlier(0.1, 0.1).warned
