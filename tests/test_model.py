"""Models on disk: what was saved is loaded, and what is no model is refused in one sentence."""

import json
import shutil

import numpy as np
import pytest
import torch

from zwicky import model as module
from zwicky.io import UserError
from zwicky.model import find_model, model_id, read_model, save_model


@pytest.fixture
def copy(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "copy")


def test_round_trip(model_folder, tmp_path):
    config, denoiser = read_model(model_folder)
    save_model(tmp_path / "again", config, denoiser.state_dict(), {"note.txt": "hello"})
    again, same = read_model(tmp_path / "again")
    assert again == config
    assert all(torch.equal(v, denoiser.state_dict()[k]) for k, v in same.state_dict().items())
    assert (tmp_path / "again" / "note.txt").read_text() == "hello"
    assert model_id(tmp_path / "again") == model_id(model_folder)


def test_a_model_is_ready_to_sample(model_folder):
    _, denoiser = read_model(model_folder)
    assert not denoiser.training
    assert not any(p.requires_grad for p in denoiser.parameters())


def test_other_weights_have_another_fingerprint(copy, model_folder):
    config, denoiser = read_model(copy)
    weights = {k: v + 1e-3 for k, v in denoiser.state_dict().items()}
    save_model(copy, config, weights)
    assert model_id(copy) != model_id(model_folder)


def test_shipped_models_are_found_by_name(monkeypatch, copy):
    monkeypatch.setattr(module, "SHIPPED", copy.parent)
    assert find_model("copy") == copy
    with pytest.raises(UserError, match=r"no model 'none': .* one of \['copy'\]"):
        find_model("none")


def test_a_folder_comes_before_a_shipped_name(monkeypatch, copy, model_folder):
    monkeypatch.setattr(module, "SHIPPED", copy.parent)
    monkeypatch.chdir(shutil.copytree(model_folder, copy.parent / "elsewhere" / "copy").parent)
    assert find_model("copy").resolve() == copy.parent / "elsewhere" / "copy"


def test_what_holds_no_model(tmp_path):
    (tmp_path / "file").write_text("weights")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "file", tmp_path / "empty", tmp_path / "absent", ""):
        with pytest.raises(UserError, match="there is no model"):
            find_model(path)


def _edit(change):
    def damage(folder):
        content = json.loads((folder / "config.json").read_text())
        change(content)
        (folder / "config.json").write_text(json.dumps(content))

    return damage


DAMAGE = {
    "no weights": lambda f: (f / "model.safetensors").unlink(),
    "empty weights": lambda f: (f / "model.safetensors").write_bytes(b""),
    "weights cut off": lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-100]),
    "noise for weights": lambda f: (f / "model.safetensors").write_bytes(bytes(range(256)) * 9),
    "empty config": lambda f: (f / "config.json").write_text(""),
    "config of bytes": lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"),
    "a list": lambda f: (f / "config.json").write_text("[]"),
    "another format": _edit(lambda c: c.update(format="zwicky-model-0")),
    "no format": _edit(lambda c: c.pop("format")),
    "no scales": _edit(lambda c: c.pop("scales")),
    "unknown key": _edit(lambda c: c.update(colour="red")),
    "impossible noise": _edit(lambda c: c["noise"].update(sigma_min=-1.0)),
    "impossible scale": _edit(lambda c: c["scales"]["gas"].update(std=0.0)),
    "another network": _edit(lambda c: c["network"].update(widths=[8, 8])),
    "unknown network": _edit(lambda c: c["network"].update(depth=3)),
    "scales a list": _edit(lambda c: c.update(scales=[])),
    "short range": _edit(lambda c: c["ranges"].update(redshift=[0.1])),
    "unknown cosmology": _edit(lambda c: c["cosmology"].update(w=-1.0)),
    "a scale too few": _edit(lambda c: c["scales"].pop("gas")),
    "a spread of few bands": _edit(lambda c: c.update(spread={"": [[1.0, 1.0]] * 2})),
    "masses without widths": _edit(lambda c: c.update(mass={"mean": [1, 1], "root": [[1, 0], [0, 1]], "network": {}})),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_model_is_refused(copy, damage):
    damage(copy)
    with pytest.raises(UserError, match="is not a model of Zwicky, or is damaged") as caught:
        read_model(copy)
    assert len(str(caught.value).splitlines()) == 1


def test_a_model_of_an_earlier_version_is_called_so(copy):
    _edit(lambda c: c.update(format="zwicky-model-1"))(copy)
    with pytest.raises(UserError, match="earlier version of Zwicky; train it anew"):
        read_model(copy)


def test_scalars_lie_in_the_unit_range_and_are_clamped(model):
    from dataclasses import replace

    config = replace(model.config, ranges={"redshift": (0.0, 0.4), "ln_pixel_kpc": (0.0, 2.0)})
    kpc = 2.718281828459045
    for z, expected in ((0.0, -1.0), (0.2, 0.0), (0.4, 1.0), (9.0, 1.0), (-1.0, -1.0)):
        told = config.scalars({"redshift": z, "ln_pixel_kpc": np.log(kpc)}, 3)
        np.testing.assert_allclose(told, [[expected, 0.0]] * 3, atol=1e-6)
    told = config.scalars({"redshift": 0.2, "ln_pixel_kpc": np.log(1e9)}, 1)
    np.testing.assert_allclose(told, [[0.0, 1.0]], atol=1e-6)


def test_a_scalar_that_never_varied_is_zero(model):
    assert model.config.scalars({"redshift": 3.0, "ln_pixel_kpc": np.log(7.0)}, 2).tolist() == [[0.0, 0.0]] * 2
