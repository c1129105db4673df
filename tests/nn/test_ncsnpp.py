"""NCSN++: the published size, starts at zero, sees everything it is given, and any map size."""

import pytest
import torch

from zwicky.nn.ncsnpp import NCSNpp, fir


def build(**options):
    torch.manual_seed(0)
    return NCSNpp(4, 2, 1, widths=(8, 16), blocks=1, **options)


def planes(b=2, size=16, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(b, 2, size, size, generator=g), torch.randn(b, 2, size, size, generator=g)


def test_it_is_as_large_as_the_published_one():
    """45,835,912 parameters for width 128 x (2, 2, 2, 2), without the attention at every level."""
    with torch.device("meta"):
        net = NCSNpp(4, 2, 0, widths=(256,) * 4)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(45.8e6, rel=0.25)


def test_a_new_one_returns_zero():
    x, condition = planes()
    assert not build()(x, torch.zeros(2), condition, torch.zeros(2, 1)).any()


@pytest.mark.parametrize("what", ["x", "c_noise", "condition", "scalars"])
def test_every_input_matters(what):
    net = build()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    x, condition = planes()
    given = {"x": x, "c_noise": torch.zeros(2), "condition": condition, "scalars": torch.zeros(2, 1)}
    before = net(**given)
    assert before.shape == (2, 2, 16, 16)
    assert (net(**{**given, what: given[what] + 0.3}) - before).abs().max() > 1e-4


def test_any_size_that_is_a_multiple():
    net = build()
    assert net.multiple == 2
    x, condition = planes(size=10)
    assert net(x, torch.zeros(2), condition, torch.zeros(2, 1)).shape == (2, 2, 10, 10)


def test_filters_keep_the_mean():
    x = torch.ones(1, 3, 8, 8)
    torch.testing.assert_close(fir(x, up=False)[..., 1:-1, 1:-1], torch.ones(1, 3, 2, 2))
    torch.testing.assert_close(fir(x, up=True)[..., 1:-1, 1:-1], torch.ones(1, 3, 14, 14))


def test_config_builds_it_again():
    net = build(dropout=0.1)
    again = NCSNpp(**net.config)
    again.load_state_dict(net.state_dict())


@pytest.mark.parametrize("wrong", [{"widths": ()}, {"blocks": 0}, {"out_channels": 0}, {"scalar_features": -1}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="NCSN"):
        NCSNpp(**{"in_channels": 4, "out_channels": 2, **wrong})
