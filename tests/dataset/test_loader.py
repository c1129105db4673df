"""Batches: a function of (seed, step), turned by the symmetries of the square, with channels and pixels dropped."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from zwicky.dataset.loader import MapLoader, View, _fields, blurred, brightness, conditioned, dihedral
from zwicky.dataset.normalize import fit

TARGETS, INPUTS = ("gas", "dark_matter"), ("compton_y", "xray")


@pytest.fixture(scope="module")
def scales(maps):
    return {c: fit(maps.read(c)) for c in (*TARGETS, *INPUTS)}


def loader(maps, scales, drop_channel=0.0, drop_pixels=0.0, split="train"):
    return MapLoader(maps, split, View(TARGETS, INPUTS, scales, drop_channel=drop_channel, drop_pixels=drop_pixels))


def rows_of(data):
    """All normalised targets and inputs of a split."""
    x, _ = data.targets(np.arange(len(data)))
    y = [data.view.scales[c].forward(data._maps(c, np.arange(len(data)))) for c in INPUTS]
    return x, torch.stack(y, 1)


def masks_of(batch):
    return batch.condition[:, len(INPUTS) :]


def test_a_batch_depends_on_seed_and_step_alone(maps, scales):
    one, two = (loader(maps, scales, 0.3, 0.5) for _ in range(2))
    two.batch(8, 9, 9)  # what was drawn before does not matter
    (a, rng_a), (b, rng_b) = one.batch(8, 3, 7), two.batch(8, 3, 7)
    assert torch.equal(a.x, b.x)
    assert torch.equal(a.condition, b.condition)
    assert torch.equal(torch.rand(5, generator=rng_a), torch.rand(5, generator=rng_b))


@pytest.mark.parametrize("other", [(3, 8), (4, 7), (7, 3)])
def test_another_step_or_seed_gives_another_batch(maps, scales, other):
    data = loader(maps, scales)
    assert not torch.equal(data.batch(8, 3, 7)[0].x, data.batch(8, *other)[0].x)


def test_a_split_holds_its_own_rows(maps, scales):
    assert [len(loader(maps, scales, split=s)) for s in ("train", "validation", "test")] == [12, 6, 6]


def test_dihedral_is_the_group_of_eight():
    square = torch.arange(9.0).reshape(3, 3)
    images = [dihedral(square, e) for e in range(8)]
    names = {tuple(m.flatten().tolist()): e for e, m in enumerate(images)}
    assert len(names) == 8
    products = [[names[tuple(dihedral(m, e).flatten().tolist())] for e in range(8)] for m in images]
    assert all(sorted(row) == list(range(8)) for row in products)  # closed, and every element has an inverse
    assert all(m[1, 1] == square[1, 1] for m in images)


def test_targets_and_inputs_are_turned_together(maps, scales):
    """Each pair (x, y) of a batch is one symmetry of one row of the set."""
    data = loader(maps, scales)
    batch, _ = data.batch(12, 0, 0)
    x_all, y_all = rows_of(data)
    known = {dihedral(x, e).numpy().tobytes(): (i, e) for i, x in enumerate(x_all) for e in range(8)}
    for x, condition in zip(batch.x, batch.condition, strict=True):
        row, element = known[x.contiguous().numpy().tobytes()]
        assert torch.equal(condition[: len(INPUTS)], dihedral(y_all[row], element))


def test_symmetries_are_all_used(maps, scales):
    data = loader(maps, scales)
    first = {dihedral(x, e).numpy().tobytes(): e for x in rows_of(data)[0] for e in range(8)}
    batch, _ = data.batch(200, 0, 0)
    assert {first[x.contiguous().numpy().tobytes()] for x in batch.x} == set(range(8))


def test_condition_is_zero_exactly_where_the_mask_is(maps, scales):
    batch, _ = loader(maps, scales, 0.4, 1.0).batch(64, 1, 0)
    y, mask = batch.condition[:, : len(INPUTS)], masks_of(batch)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(y == 0, mask == 0)


def test_a_nan_under_the_mask_does_not_reach_the_network():
    y, mask = torch.full((1, 1, 2, 2), torch.nan), torch.tensor([[[[1, 0], [0, 0]]]])
    y[0, 0, 0, 0] = 3.0
    assert conditioned(y, mask).tolist() == [[[[3.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]]]


def test_nothing_is_dropped_unasked(maps, scales):
    assert (masks_of(loader(maps, scales).batch(32, 0, 0)[0]) == 1).all()


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_channels_are_withheld_at_the_rate_asked_for(maps, scales, rate):
    whole = masks_of(loader(maps, scales, drop_channel=rate).batch(2000, 0, 0)[0]).flatten(2)
    assert torch.equal(whole.amin(2), whole.amax(2))  # a channel is there or is not
    none = rate / 3
    one = none + (1 - none) * rate
    assert (1 - whole[..., 0]).mean(0).tolist() == pytest.approx([one, one], abs=4 * (one / 2000) ** 0.5)
    both = none + (1 - none) * rate**2  # independently of each other, and all together
    assert float((1 - whole[..., 0]).prod(1).mean()) == pytest.approx(both, abs=4 * (both / 2000) ** 0.5)


def test_holes_and_narrow_fields_come_at_the_rate_asked_for(maps, scales):
    """The corners are lost to a narrow field, common to both inputs; where they are not, holes are small."""
    mask = masks_of(loader(maps, scales, drop_pixels=0.4).batch(1000, 0, 0)[0])
    corners = mask[:, :, :: mask.shape[2] - 1, :: mask.shape[3] - 1].sum((2, 3))
    narrow = (corners == 0).all(1)
    assert float(narrow.float().mean()) == pytest.approx(0.4, abs=0.06)
    lost = (1 - mask[~narrow]).mean((2, 3))
    assert float((lost > 0).float().mean()) == pytest.approx(0.4, abs=0.12)  # the smallest holes miss every pixel
    assert float(lost.max()) < 0.2


def test_a_narrow_field_is_a_centred_square(maps, scales):
    field = _fields(torch.Size((500, 2, 16, 16)), 1.0, torch.Generator().manual_seed(0))
    rows, columns = field.amax(3), field.amax(2)
    assert torch.equal(field, rows[..., None] * columns[..., None, :])
    assert torch.equal(field, field.flip(2))
    assert torch.equal(rows, columns)
    assert (field.mean((2, 3)) > 0.04).all()


def test_a_split_too_large_for_memory_gives_the_same_batches(maps, scales, monkeypatch):
    one = loader(maps, scales, 0.3, 0.5)
    monkeypatch.setattr("zwicky.dataset.loader.MEMORY", 0)
    two = loader(maps, scales, 0.3, 0.5)
    assert one.held
    assert not two.held
    (a, _), (b, _) = one.batch(8, 3, 7), two.batch(8, 3, 7)
    assert torch.equal(a.x, b.x)
    assert torch.equal(a.condition, b.condition)


def test_masses_are_those_of_the_maps(maps, scales):
    data = MapLoader(maps, "train", View(TARGETS, INPUTS, scales))
    x, ln_mass = data.targets(np.arange(len(data)))
    for i, name in enumerate(TARGETS):
        total = scales[name].inverse(x[:, i].double()).sum((1, 2)) * maps.pixel_kpc**2
        np.testing.assert_allclose(total.log(), ln_mass[:, i], atol=1e-4)
        true = maps.read(name, data.rows).astype(float).sum((1, 2)) * maps.pixel_kpc**2
        np.testing.assert_allclose(ln_mass[:, i], np.log(true), atol=1e-5)


def test_degraded_images_have_the_noise_and_the_beam_that_is_told(maps, scales):
    signed = {c: replace(s, signed=True) for c, s in scales.items()}
    view = View(TARGETS, INPUTS, signed, noisy=True, degrade=0.5, drop_channel=0.0, drop_pixels=0.0)
    data = MapLoader(maps, "train", view)
    batch, _ = data.batch(400, 0, 0)
    y, mask, level = batch.condition.split(2, 1)
    hit = level.amax((2, 3)) > 0
    assert float(hit.float().mean()) == pytest.approx(0.5, abs=0.06)
    assert torch.equal(hit, batch.beams > 0)
    assert (mask == 1).all()
    assert torch.isfinite(y).all()
    strong = level[:, 0].mean((1, 2)) > level[hit[:, 0], 0].mean() * 1.5
    assert (y[strong, 0].std((1, 2)) > 0).all()


def test_a_beam_keeps_the_flux_and_has_its_width():
    point = torch.zeros(2, 64, 64)
    point[:, 32, 32] = 1
    image = blurred(point, torch.tensor([4.0, 0.0]))
    torch.testing.assert_close(image.sum((1, 2)), torch.ones(2))
    torch.testing.assert_close(image[1], point[1], atol=1e-6, rtol=0)
    r2 = (torch.arange(64)[:, None] - 32) ** 2 + (torch.arange(64) - 32) ** 2
    sigma = ((image[0] * r2).sum() / 2) ** 0.5
    assert float(sigma) * 8**0.5 * np.log(2) ** 0.5 == pytest.approx(4.0, rel=1e-3)


def test_bright_pixels_weigh_by_the_mean_of_the_inputs_that_are_given():
    y, mask = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(1)), torch.ones(3, 2, 8, 8)
    mask[1, 0], mask[2] = 0, 0
    w = brightness(conditioned(y, mask), 2, 0.7)
    torch.testing.assert_close(w.mean((2, 3)), torch.ones(3, 1))
    for i, v in enumerate((y[0].mean(0), y[1, 1], torch.zeros(8, 8))):
        ln_w = w[i, 0].log()
        torch.testing.assert_close(ln_w - ln_w.mean(), 0.7 * (v - v.mean()), rtol=1e-4, atol=1e-5)
    assert torch.equal(brightness(conditioned(y, mask), 2, 0.0), torch.ones(3, 1, 8, 8))
