"""The mean and its spread: a likelihood of Gaussian errors, around what each pixel says."""

import math

import pytest
import torch

from zwicky.nn.local import NODES
from zwicky.nn.mass import MassHead
from zwicky.nn.mean import Mean, gaussian_error, squared, with_local
from zwicky.nn.unet import UNet

K, C, Q = 2, 2, 1


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mean_of(local=True):
    """A new mean of small maps, its polynomial g = (v_1, 2 v_2) where both inputs are known."""
    torch.manual_seed(0)
    net = UNet(2 * K + 2 * C * local, 2 * C, Q, widths=(8, 16), blocks=1)
    mean = Mean(net, K, 2 * K, C, local)
    if local:
        mean.local.weight[3, 0, NODES], mean.local.weight[3, 1, NODES + 1] = 1.0, 2.0
    return mean


@pytest.fixture
def condition():
    return torch.cat([randn(3, K, 16, 16), torch.ones(3, K, 16, 16)], 1)


def test_the_error_is_that_of_a_normal_distribution():
    mu, x, s = randn(4, C, 8, 8), randn(4, C, 8, 8, seed=1), randn(4, C, 8, 8, seed=2).exp()
    expected = -torch.distributions.Normal(mu, s).log_prob(x).mean() - math.log(2 * math.pi) / 2
    torch.testing.assert_close(gaussian_error(mu, s, x), expected)


def test_pixels_that_can_be_known_do_not_count_for_more_in_the_mean():
    """With the weights s^2 / <s^2>, the gradient by mu is that of the squared error over <s^2> of each map."""
    mu, x, s = randn(4, C, 8, 8).requires_grad_(), randn(4, C, 8, 8, seed=1), randn(4, C, 8, 8, seed=2).exp()
    gaussian_error(mu, s, x, squared(s)).backward()
    expected = (mu.detach() - x) / s.square().mean((2, 3), keepdim=True) / mu.numel()
    torch.testing.assert_close(mu.grad, expected)


def test_a_new_mean_is_what_pixels_say(condition):
    mu, s = mean_of()(condition, torch.zeros(3, Q))
    torch.testing.assert_close(mu, torch.stack([condition[:, 0], 2 * condition[:, 1]], 1))
    assert (s == 1).all()
    mu, _ = mean_of(local=False)(condition, torch.zeros(3, Q))
    assert not mu.any()


def test_what_pixels_say_is_not_rounded(condition):
    with torch.autocast("cpu", torch.bfloat16):
        planes = with_local(mean_of().local, condition)
    torch.testing.assert_close(planes[:, 0], condition[:, 0], rtol=1e-6, atol=1e-6)


def test_the_spread_learns_how_far_the_truth_lies():
    """Truths off by 1, by a tenth of it in maps that are given and by half of it in upper halves: so is s."""
    mean, told = mean_of(local=False), torch.zeros(2, Q)
    upper = (torch.arange(16) < 8).float()[:, None].expand(2, 1, 16, 16)
    given = torch.tensor([1.0, 0.0])[:, None, None, None].expand(2, 1, 16, 16)
    off = (1 - 0.9 * given) * (1 - 0.5 * upper)
    condition = torch.cat([upper, upper, given, given], 1)
    optimizer = torch.optim.Adam(mean.parameters(), lr=0.01)
    for step in range(300):
        optimizer.zero_grad()
        mu, s = mean(condition, told)
        gaussian_error(mu, s, off * randn(2, C, 16, 16, seed=step), squared(s)).backward()
        optimizer.step()
    for rows in ([2, 3, 4, 5], [10, 11, 12, 13]):  # the network sees neighbours
        inside = (s / off)[:, :, rows, 2:-2].mean((2, 3))
        torch.testing.assert_close(inside, torch.ones(2, C), rtol=0.1, atol=0)


def test_a_head_knows_the_totals_of_its_planes():
    """t_j of a new head is ln mean exp of plane j; with the relation of ones, m is that of the first."""
    torch.manual_seed(0)
    head, planes = MassHead(4, 1, widths=(8, 16), patch=2, totals=3), randn(5, 4, 16, 16)
    with torch.no_grad():
        before = head(planes)[1]
        head.relation.weight[0, 0] = 1.0
        head.totals.bias[:] = 0.5
        after = head(planes)[1]
    expected = planes[:, 0].exp().mean((1, 2)).log() + 0.5
    torch.testing.assert_close((after - before)[:, :, 0], expected[:, None].expand(5, 3), rtol=1e-4, atol=1e-5)
