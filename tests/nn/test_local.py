"""The polynomial of a pixel: fitted, for what is known, and carried over where nothing is."""

import pytest
import torch

from zwicky.nn.local import Local, filled


def truth(v):
    a, b = v[:, :1], v[:, 1:]
    return torch.cat([0.3 - a + 2 * b + 0.5 * a * a - a * b, 1 + 0.2 * b * b], 1)


def condition_of(v, known=None):
    known = torch.ones_like(v) if known is None else known
    return torch.cat([v * known, known], 1)


@pytest.fixture
def local():
    rng = torch.Generator().manual_seed(0)
    local = Local(2, 2)
    v = torch.randn(4, 2, 16, 16, generator=rng)
    maps = [(truth(part), condition_of(part), torch.ones(4, len(part), 1, 16, 16)) for part in v.split(2)]
    local.fit(maps)
    return local


def test_a_polynomial_is_found_exactly(local):
    v = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(local(condition_of(v)), truth(v), atol=1e-4, rtol=1e-4)


def test_what_is_not_known_is_averaged_over(local):
    """With b unknown, of unit variance and independent of a: E[truth | a]."""
    v = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(2))
    known = torch.ones_like(v)
    known[:, 1] = 0
    a = v[:, :1]
    expected = torch.cat([0.3 - a + 0.5 * a * a, 1.2 + 0 * a], 1)
    assert (local(condition_of(v, known)) - expected).abs().mean() < 0.2  # of 1024 pixels
    nothing = local(condition_of(v, torch.zeros_like(v)))
    assert nothing[0, 0].std() < 1e-5
    assert nothing[0, :, 0, 0].tolist() == pytest.approx([0.8, 1.2], abs=0.2)


def test_weights_of_pixels_count():
    v = torch.zeros(1, 1, 1, 2)
    x = torch.tensor([[[[1.0, 5.0]]]])
    local = Local(1, 1)
    local.fit([(x, condition_of(v), torch.tensor([3.0, 1.0]).expand(2, 1, 1, 1, 2))])
    assert local(condition_of(v)).flatten().tolist() == pytest.approx([2.0, 2.0], abs=1e-4)


def test_holes_are_filled_from_around():
    g = torch.arange(8.0).expand(1, 1, 8, 8).clone()
    known = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    known[..., 3:5, 3:5] = False
    g[~known] = 1e9
    found = filled(g, known, torch.tensor([0.0]))
    assert torch.equal(found[known], g[known])
    torch.testing.assert_close(found[0, 0, 3:5, 3:5], torch.tensor([3.0, 4.0]).expand(2, 2), atol=0.8, rtol=0)
    assert torch.equal(filled(g, torch.zeros_like(known), torch.tensor([7.0])), torch.full_like(g, 7.0))


@pytest.mark.parametrize("size", [(5, 7), (1, 9), (16, 16)])
def test_maps_of_any_size_are_filled(size):
    known = torch.zeros(2, 1, *size, dtype=torch.bool)
    known[0, 0, 0, 0] = True
    found = filled(torch.full((2, 3, *size), 2.0), known, torch.zeros(3))
    torch.testing.assert_close(found[0], torch.full((3, *size), 2.0))
    assert (found[1] == 0).all()
