"""The scaling of a channel: invertible, standardised, the same in numpy and torch."""

import numpy as np
import pytest
import torch

from zwicky.dataset.normalize import LogScale, fit

MAPS = np.random.default_rng(0).lognormal(-8, 2, (40, 12, 12)).astype(np.float32)


def test_inverse_undoes_forward_over_thirty_decades():
    scale = fit(MAPS)
    x = scale.floor * np.logspace(-15, 15, 61)
    np.testing.assert_allclose(scale.inverse(scale.forward(x)), x, rtol=1e-12, atol=1e-15 * scale.floor)


def test_training_pixels_have_zero_mean_and_unit_variance():
    v = fit(MAPS).forward(MAPS.astype(float))
    assert v.mean() == pytest.approx(0, abs=1e-5)
    assert v.std() == pytest.approx(1, abs=1e-5)


def test_low_and_high_are_the_extremes():
    scale = fit(MAPS)
    v = scale.forward(MAPS.astype(float))
    assert (scale.low, scale.high) == pytest.approx((v.min(), v.max()), rel=1e-5)


def test_torch_equals_numpy():
    scale = fit(MAPS)
    x = np.concatenate([[-1.0, 0.0], MAPS.ravel().astype(float)])
    v = scale.forward(x)
    np.testing.assert_allclose(scale.forward(torch.from_numpy(x)).numpy(), v, rtol=1e-12)
    np.testing.assert_allclose(scale.inverse(torch.from_numpy(v)).numpy(), scale.inverse(v), rtol=1e-12)


def test_negative_pixels_count_as_zero_and_no_map_is_negative():
    scale = fit(MAPS)
    assert scale.forward(np.array([-3.0])) == scale.forward(np.array([0.0]))
    assert (scale.inverse(np.array([-100.0, -1e6])) == 0).all()


def test_order_is_kept():
    scale = fit(MAPS)
    assert (np.diff(scale.forward(np.sort(MAPS.ravel()).astype(float))) >= 0).all()


FLAT = {
    "zero": np.zeros((3, 4, 4)), "negative": -MAPS, "nan": np.full((3, 4, 4), np.nan),
    "constant": np.full((3, 4, 4), 2.0),
}  # fmt: skip


@pytest.mark.parametrize("maps", FLAT.values(), ids=FLAT)
def test_what_has_no_contrast_cannot_be_normalised(maps):
    with pytest.raises(ValueError, match="normalised"):
        fit(maps.astype(np.float32))


def test_a_scale_survives_its_dictionary():
    scale = fit(MAPS)
    assert LogScale(**scale.as_dict()) == scale


def test_noise_alone_is_of_order_one_and_a_bright_pixel_keeps_its_value():
    scale = fit(MAPS, signed=True)
    noise = 1e4 * scale.floor
    dark = scale.forward(noise * np.random.default_rng(1).standard_normal(10000), noise)
    assert dark.std() * scale.std < 0.6
    assert dark.mean() == pytest.approx(scale.level(noise) - scale.mean / scale.std, abs=0.02)
    bright = 1e9 * scale.floor
    assert scale.forward(np.array([bright]), noise) == pytest.approx(scale.forward(np.array([bright])), rel=1e-6)
    assert scale.level(0.0) == 0


def test_signed_scales_are_odd_and_invertible():
    scale = fit(MAPS, signed=True)
    x = scale.floor * np.logspace(-6, 12, 40)
    np.testing.assert_allclose(scale.inverse(scale.forward(x)), x, rtol=1e-9)
    up, down = (scale.forward(s * x) * scale.std + scale.mean for s in (1, -1))
    np.testing.assert_allclose(up, -down, rtol=1e-9)


def test_unit_scaling_reaches_from_zero_to_one():
    v = fit(MAPS, "unit").forward(MAPS.astype(float))
    assert (v.min(), v.max()) == pytest.approx((0, 1), abs=1e-6)
