"""The moving average of the weights: its formula, its warm-up, and its state."""

import pytest
import torch
from torch import nn

from zwicky.nn.ema import EMA


def layer(value):
    """Return a linear layer with all weights equal to value."""
    net = nn.Linear(2, 2)
    for parameter in net.parameters():
        nn.init.constant_(parameter, value)
    return net


def test_average_follows_the_formula():
    values, d_max = [3.0, -1.0, 2.0, 5.0], 0.2
    ema, expected = EMA(layer(0.0), decay=d_max), 0.0
    for t, value in enumerate(values):
        d = min(d_max, (1 + t) / (10 + t))
        assert ema.decay == pytest.approx(d)
        ema.update(layer(value))
        expected = d * expected + (1 - d) * value
    torch.testing.assert_close(ema.weights["weight"], torch.full((2, 2), expected))


def test_decay_warms_up_to_its_limit():
    ema = EMA(layer(0.0), decay=0.999)
    assert ema.decay == pytest.approx(0.1)
    ema.updates = 10**6
    assert ema.decay == 0.999


def test_constant_weights_stay():
    ema = EMA(layer(0.7))
    for _ in range(5):
        ema.update(layer(0.7))
    torch.testing.assert_close(ema.weights["bias"], torch.full((2,), 0.7))


def test_average_does_not_share_memory_with_the_network():
    net = layer(1.0)
    ema = EMA(net)
    nn.init.zeros_(net.weight)
    assert (ema.weights["weight"] == 1).all()


def test_buffers_are_copied():
    net = nn.BatchNorm1d(2)
    ema = EMA(net)
    net(torch.randn(8, 2))
    ema.update(net)
    assert torch.equal(ema.weights["running_mean"], net.running_mean)
    assert ema.weights["num_batches_tracked"] == 1


def test_copy_to_sets_the_network():
    net = layer(4.0)
    EMA(layer(1.5)).copy_to(net)
    assert (net.weight == 1.5).all()


def test_state_is_resumed():
    ema, other = EMA(layer(0.0)), EMA(layer(9.0))
    ema.update(layer(1.0))
    other.load_state_dict(ema.state_dict())
    assert other.updates == 1
    for e in (ema, other):
        e.update(layer(2.0))
    assert torch.equal(ema.weights["weight"], other.weights["weight"])


def test_foreign_state_is_refused():
    with pytest.raises(ValueError, match="another network"):
        EMA(layer(0.0)).load_state_dict(EMA(nn.Linear(2, 2, bias=False)).state_dict())


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_bad_decay_is_refused(decay):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        EMA(layer(0.0), decay)
