"""The polynomial of a pixel: fitted, for what is known, and carried over where nothing is."""

import pytest
import torch

from zwicky.nn.local import Local, filled, places


def truth(v):
    a, b = v[:, :1], v[:, 1:]
    return torch.cat([0.3 - a + 2 * b + 0.5 * a * a - a * b, place(v) + 0.2 * b * b], 1)


def place(v):
    """A cusp of the four innermost pixels, and a slope of ln r."""
    h = places(tuple(v.shape[-2:]))
    return 3 * h[:1] - torch.einsum("k,kyx->yx", torch.arange(14.0), h)


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
    torch.testing.assert_close(local(condition_of(v))[:, :2], truth(v), atol=1e-4, rtol=1e-4)


def test_what_is_not_known_is_averaged_over(local):
    """With b unknown, of unit variance and independent of a: E[truth | a]; with a unknown too, of the place alone."""
    v = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(2))
    known = torch.ones_like(v)
    known[:, 1] = 0
    a = v[:, :1]
    expected = torch.cat([0.3 - a + 0.5 * a * a, 0.2 + place(v) + 0 * a], 1)
    assert (local(condition_of(v, known))[:, :2] - expected).abs().mean() < 0.2  # of 1024 pixels
    nothing, alone = local(condition_of(v, torch.zeros_like(v))).chunk(2, 1)
    assert torch.equal(nothing, alone)
    assert torch.equal(alone, local(condition_of(v))[:, 2:])
    assert (nothing - torch.cat([0.8 + 0 * a, 0.2 + place(v) + 0 * a], 1)).abs().mean() < 0.2


def test_weights_of_pixels_count():
    """Two pixels at one distance from the centre: the mean with weights 3 and 1."""
    v = torch.zeros(1, 1, 1, 2)
    x = torch.tensor([[[[1.0, 5.0]]]])
    local = Local(1, 1)
    local.fit([(x, condition_of(v), torch.tensor([3.0, 1.0]).expand(2, 1, 1, 1, 2))])
    assert local(condition_of(v))[:, :1].flatten().tolist() == pytest.approx([2.0, 2.0], abs=1e-4)


def test_holes_are_filled_from_around():
    g = torch.arange(8.0).expand(1, 1, 8, 8).clone()
    known = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    known[..., 3:5, 3:5] = False
    g[~known] = 1e9
    found = filled(g, known)
    assert torch.equal(found[known], g[known])
    torch.testing.assert_close(found[0, 0, 3:5, 3:5], torch.tensor([3.0, 4.0]).expand(2, 2), atol=0.4, rtol=0)
    assert not filled(g, torch.zeros_like(known)).any()


@pytest.mark.parametrize("size", [(5, 7), (1, 9), (16, 16)])
def test_maps_of_any_size_are_filled(size):
    known = torch.zeros(2, 1, *size, dtype=torch.bool)
    known[0, 0, 0, 0] = True
    found = filled(torch.full((2, 3, *size), 2.0), known)
    torch.testing.assert_close(found[0], torch.full((3, *size), 2.0))
    assert (found[1] == 0).all()


def test_places_are_shares_of_nodes_and_the_innermost_pixels_have_one_of_their_own():
    h = places((128, 128))
    torch.testing.assert_close(h.sum(0), torch.ones(128, 128))
    assert int((h[0] > 0).sum()) == 4
    torch.testing.assert_close(h[0, 63:65, 63:65], torch.ones(2, 2))
    torch.testing.assert_close(places((16, 16)), h[:, 56:72, 56:72])  # in pixels, whatever the map


def test_inputs_that_are_nowhere_seen_are_refused():
    v = torch.randn(1, 1, 8, 8)
    weights = torch.stack([torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)])
    with pytest.raises(ValueError, match="no pixel"):
        Local(1, 1).fit([(v, condition_of(v), weights)])


def test_the_noise_that_is_told_counts():
    """x is v where there is little noise and nothing where there is much: v - n v, with n from 0 to 1."""
    rng = torch.Generator().manual_seed(0)
    v, n = torch.randn(8, 1, 16, 16, generator=rng), torch.rand(8, 1, 1, 1, generator=rng).expand(8, 1, 16, 16)
    planes = torch.cat([v, torch.ones_like(v), n], 1)
    told, untold = Local(1, 1, noisy=True), Local(1, 1)
    for local in (told, untold):
        local.fit([(v - n * v, planes, torch.ones(2, 8, 1, 16, 16))])
    torch.testing.assert_close(told(planes)[:, :1], v - n * v, atol=1e-4, rtol=1e-4)
    assert (untold(planes)[:, :1] - (v - n * v)).abs().mean() > 0.1
