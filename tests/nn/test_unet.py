"""The U-Net: shapes, configuration, determinism, gradients, and its errors."""

import json

import pytest
import torch

from zwicky.nn.layers import SelfAttention, group_norm
from zwicky.nn.unet import UNet

SMALL = dict(
    in_channels=6, out_channels=2, scalar_features=3, widths=(8, 16, 24), blocks=1, patch=2, embedding=16
)


def build(**changes):
    """Return a small U-Net whose zero-started layers have been given weights."""
    torch.manual_seed(0)
    net = UNet(**{**SMALL, **changes})
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return net


def inputs(batch=2, H=32, W=32):
    """Return x, c_noise, condition, scalars."""
    g = torch.Generator().manual_seed(1)
    shapes = [(batch, 2, H, W), (batch,), (batch, 4, H, W), (batch, 3)]
    return [torch.randn(shape, generator=g) for shape in shapes]


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("size", [(32, 32), (16, 48)])
def test_shape_of_the_result(patch, size):
    assert build(patch=patch)(*inputs(3, *size)).shape == (3, 2, *size)


def test_condition_and_scalars_may_be_absent():
    net = build(in_channels=2, scalar_features=0)
    x, c_noise, _, _ = inputs()
    assert net(x, c_noise).shape == x.shape


def test_a_new_network_returns_zero():
    assert not UNet(**SMALL)(*inputs()).any()


def test_the_linear_path_keeps_the_inputs_in_full_precision():
    """With weights that copy one plane, its pixels come back, times the gain of their place in the folded block."""
    net, (x, c_noise, condition, scalars) = UNet(**SMALL), inputs()
    with torch.no_grad():
        for phase in range(4):
            net.linear.weight[phase, 4 * 3 + phase, 1, 1] = 1.0  # of the folded planes, to the first result
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = net(x, c_noise, condition, scalars)
    gain = (result[:, 0] / condition[:, 1]).unfold(1, 2, 2).unfold(2, 2, 2)
    torch.testing.assert_close(gain, gain[:, :1, :1].expand_as(gain), rtol=1e-5, atol=0)
    assert not result[:, 1].any()


def test_the_same_input_gives_the_same_result():
    net, given = build(dropout=0.5).eval(), inputs()
    assert torch.equal(net(*given), net(*given))


def test_one_map_does_not_see_another():
    net, given = build().eval(), inputs(3)
    alone = net(*(a[1:2] for a in given))
    torch.testing.assert_close(net(*given)[1:2], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("which", range(4))
def test_every_input_matters(which):
    net, given = build(), inputs()
    changed = [a + 0.5 if i == which else a for i, a in enumerate(given)]
    assert (net(*given) - net(*changed)).abs().max() > 1e-4


def test_gradient_reaches_every_parameter():
    net = build()
    net(*inputs()).square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_dropout_acts_in_training_only():
    net, given = build(dropout=0.5), inputs()
    assert not torch.equal(net(*given), net(*given))


def test_layout_and_autocast_change_little():
    net, (x, *rest) = build().eval(), inputs()
    plain = net(x, *rest)
    torch.testing.assert_close(
        net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), *rest),
        plain,
        atol=1e-4,
        rtol=1e-3,
    )
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x, *rest)
    assert (half.float() - plain).std() < 0.05 * plain.std()


def test_configuration_builds_the_same_network():
    net = build()
    copy = UNet(**json.loads(json.dumps(net.config)))
    copy.load_state_dict(net.state_dict())
    torch.testing.assert_close(copy(*inputs()), net(*inputs()))


def test_bad_sizes_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match="map sides must be multiples of 8 pixels, got 30 x 32"):
        build()(*inputs(2, 30, 32))


def test_bad_channels_are_refused():
    x, c_noise, condition, scalars = inputs()
    with pytest.raises(ValueError, match="takes 6 input planes, got 2"):
        build()(x, c_noise, None, scalars)
    with pytest.raises(ValueError, match="takes 3 scalars, got 0"):
        build()(x, c_noise, condition)


@pytest.mark.parametrize("bad", [{"widths": ()}, {"blocks": 0}, {"patch": 0}, {"widths": (8, 0)}])
def test_bad_configurations_are_refused(bad):
    with pytest.raises(ValueError, match="positive"):
        UNet(**{**SMALL, **bad})


def test_new_attention_is_its_input():
    x = torch.randn(2, 64, 4, 4)
    assert torch.equal(SelfAttention(64)(x), x)


def test_attention_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="attention heads"):
        SelfAttention(97)


@pytest.mark.parametrize(("channels", "groups"), [(3, 1), (8, 2), (24, 6), (32, 8), (96, 16), (128, 16)])
def test_groups_hold_at_least_four_channels(channels, groups):
    assert group_norm(channels).num_groups == groups
