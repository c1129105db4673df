"""Cards of models: what they expect, and scores that belong to them."""

import json
import shutil
from dataclasses import replace

import pytest

from zwicky.evaluate.run import EvaluateConfig, evaluate
from zwicky.io import UserError
from zwicky.model import shipped
from zwicky.model_card import model_card, write_scores
from zwicky.train import train


@pytest.fixture
def copy(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "mine")


def test_the_card_says_what_the_model_expects_and_gives(model_folder):
    text = model_card(model_folder)
    units = ("compton_y [dimensionless]", "xray [erg / (s cm2)]", "dark_matter [Msun / kpc2]")
    for part in (*units, "16 x 16", "200 kpc"):
        assert part in text
    assert "12 sightlines of 4 clusters" in text
    assert "not measured" in text


def test_the_card_says_how_many_clusters_set_the_widths_of_masses(model_folder, map_file, tiny_config, tmp_path):
    text = model_card(train(map_file, tmp_path / "model", replace(tiny_config, mass=True)))
    assert "set by 2 validation clusters: those of masses are known to 35%" in text
    assert "widths of masses" not in model_card(model_folder)  # it has none


def test_every_shipped_model_has_a_card():
    assert "laptop" in shipped()
    assert all(model_card(name).startswith(f"# {name}") for name in shipped())


def test_scores_are_those_of_the_report(copy, map_file, tmp_path):
    report = evaluate([copy], map_file, tmp_path / "report", EvaluateConfig(sightlines=3, samples=3, steps=3))
    write_scores(copy, report)
    found = json.loads((report / "metrics.json").read_text())["channels"]["gas"]["bins"]["all"]
    text = model_card(copy)
    assert f"{found['mass']['map']['error_median']:+.3f}" in text
    assert "On 3 sightlines of 2 held-out clusters, 3 samples" in text


def test_scores_of_another_model_are_refused(copy, model_folder, map_file, tmp_path):
    report = evaluate([model_folder], map_file, tmp_path / "report", EvaluateConfig(sightlines=1, samples=2, steps=2))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"pixel_kpc": 199.0}))
    with pytest.raises(UserError, match="of another model"):
        write_scores(copy, report)
    with pytest.raises(UserError, match="the report"):
        write_scores(model_folder, tmp_path / "nothing")
