"""What a pixel says by itself: a polynomial of second degree in the inputs that are known in it, and its place.

    g_c(v, r) = sum_k b_ck h_k(r) + sum_i a_ci v_i + sum_{i <= j} a_cij v_i v_j

v_i are the inputs and, where a network is told it, their noise; r is the distance from the centre of the map, where the
cluster is, and h_k are piecewise linear functions of ln r, one of which is 1 at each node. The innermost pixels have a
node of their own: the cusp of a halo is not seen in its gas. There is a set of a and b for each set of inputs that may
be known in a pixel, fitted by weighted least squares to the training maps. Where nothing is known, what g has over that
of the place alone is carried over from the pixels around. What a network adds to g is small: its errors are about a per
cent of what it returns, and the small scales of the bright pixels are less than that of a whole map.
"""

import functools
import math
from collections.abc import Iterable
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NODES, RATIO = 14, 1.5
RIDGE = 1e-6  # of the mean square of the monomials, so that what does not vary has no weight


@final
class Local(nn.Module):
    """g, and that of the place alone, (B, 2 C, H, W), of a condition (B, P, H, W) that begins with inputs and masks.

    Args:
        inputs: K. targets: C. noisy: whether the condition has the noise of the inputs after their masks.
    """

    weight: Tensor

    def __init__(self, inputs: int, targets: int, noisy: bool = False) -> None:
        super().__init__()
        self.inputs = inputs
        self.variables = [*range(inputs), *(range(2 * inputs, 3 * inputs) if noisy else ())]  # planes of the condition
        count = len(self.variables)
        self.pairs = [(i, j) for i in range(count) for j in range(i, count)]
        self.register_buffer("weight", torch.zeros(2**inputs, targets, NODES + count + len(self.pairs)))

    def forward(self, condition: Tensor) -> Tensor:
        """Return g and, after it, g of nothing but the place."""
        phi, known = self._monomials(condition), condition[:, self.inputs : 2 * self.inputs] > 0
        which = sum(known[:, i] * 2**i for i in range(self.inputs))
        alone = torch.einsum("cf,bfyx->bcyx", self.weight[0], phi)
        more = torch.zeros_like(alone)
        for case, weight in enumerate(self.weight):
            here = (which == case)[:, None]
            if case and here.any():
                more = torch.where(here, torch.einsum("cf,bfyx->bcyx", weight, phi) - alone, more)
        return torch.cat([alone + filled(more, (which > 0)[:, None]), alone], 1)

    def fit(self, maps: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Find a and b by least squares.

        Args:
            maps: x (B, C, H, W), conditions (B, P, H, W) with all inputs, and, for each of the 2^K sets of inputs,
                weights of the pixels, (2^K, B, 1, H, W), 0 where an input of the set is not known.

        Raises:
            ValueError: no pixel has all inputs of a set.
        """
        cases, c, f = self.weight.shape
        A, b = (torch.zeros(cases, f, n, dtype=torch.float64) for n in (f, c))
        for x, condition, weights in maps:
            for case in range(cases):
                phi = _pixels(self._monomials(condition * self.given(case, condition)))
                weighted = phi * _pixels(weights[case])
                A[case] += weighted @ phi.T
                b[case] += weighted @ _pixels(x).T
        if not A.flatten(1).any(1).all():
            raise ValueError("no pixel of the training maps has all inputs.")
        diagonal = A.diagonal(dim1=1, dim2=2)
        A += RIDGE * torch.diag_embed(diagonal.clamp_min(RIDGE * diagonal.amax(1, keepdim=True)))
        self.weight.copy_(torch.linalg.solve(A, b).transpose(1, 2))

    def given(self, case: int, condition: Tensor) -> Tensor:
        """1 for planes of the inputs of a case, else 0, (P, 1, 1)."""
        keep = [(case >> i) & 1 for i in range(self.inputs)]
        return condition.new_tensor(keep * (condition.shape[1] // self.inputs))[:, None, None]

    def _monomials(self, condition: Tensor) -> Tensor:
        """h, v and v v, (B, F, H, W); those of inputs that are not known are 0."""
        v = condition[:, self.variables].float()
        place = places(tuple(condition.shape[-2:])).to(v.device).expand(len(v), -1, -1, -1)
        return torch.cat([place, v, *(v[:, i : i + 1] * v[:, j : j + 1] for i, j in self.pairs)], 1)


def _pixels(maps: Tensor) -> Tensor:
    """Maps (B, F, H, W) as (F, B H W), double."""
    return maps.transpose(0, 1).flatten(1).double()


@functools.cache
def places(shape: tuple[int, ...]) -> Tensor:
    """h_k(r) of the pixels of a map, (NODES, H, W), of sum 1; the nodes are at r = 2^-1/2 RATIO^k pixels."""
    y, x = (torch.arange(n) - (n - 1) / 2 for n in shape)
    r = torch.hypot(y[:, None], x).clamp_min(0.5**0.5)
    t = ((r * 2**0.5).log() / math.log(RATIO)).clamp(max=NODES - 1)
    return (1 - (t - torch.arange(NODES)[:, None, None]).abs()).clamp_min(0)


def filled(g: Tensor, known: Tensor) -> Tensor:
    """g (B, C, H, W) where it is known (B, 1, H, W); elsewhere the mean of what is known in the blocks around.

    Blocks of 2, 4, 8, ... pixels along a side, joined smoothly. Maps of which nothing is known are zero.
    """
    if known.all():
        return g
    share = known.to(g.dtype)
    levels = [(g * share, share)]
    while max(levels[-1][1].shape[-2:]) > 1:
        levels.append(tuple(F.avg_pool2d(part, 2, ceil_mode=True) for part in levels[-1]))  # type: ignore[arg-type]
    found = torch.zeros_like(levels[-1][0])
    for total, share in reversed(levels):
        found = F.interpolate(found, total.shape[-2:], mode="bilinear", align_corners=False)
        found = torch.where(share > 0, total / share.clamp_min(1e-9), found)
    return found
