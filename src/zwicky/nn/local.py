"""What a pixel says by itself: a polynomial of second degree in the inputs that are known in it.

    g_c(v) = sum_j a_cj phi_j(v),        phi = 1, v_i, v_i v_j (i <= j)

with one set of a for each set of inputs that may be known in a pixel, fitted by weighted least squares to the training
maps. Where nothing is known, g is carried over from the pixels around. What a network adds to g is small: its errors
are about a per cent of what it returns, and the small scales of the bright pixels are less than that of a whole map.
"""

from collections.abc import Iterable
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RIDGE = 1e-6  # of the mean square of the monomials, so that what does not vary has no weight


@final
class Local(nn.Module):
    """g (B, C, H, W) of a condition (B, P, H, W), whose first 2 K planes are the inputs and their masks.

    Args:
        inputs: K. targets: C.
    """

    weight: Tensor

    def __init__(self, inputs: int, targets: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.pairs = [(i, j) for i in range(inputs) for j in range(i, inputs)]
        self.register_buffer("weight", torch.zeros(2**inputs, targets, 1 + inputs + len(self.pairs)))

    def forward(self, condition: Tensor) -> Tensor:
        """Return g."""
        phi, known = self._monomials(condition), condition[:, self.inputs : 2 * self.inputs] > 0
        which = sum(known[:, i] * 2**i for i in range(self.inputs))
        g = phi.new_zeros(len(phi), self.weight.shape[1], *phi.shape[2:])
        for case, weight in enumerate(self.weight):
            here = (which == case)[:, None]
            if here.any():
                g = torch.where(here, torch.einsum("cf,bfyx->bcyx", weight, phi), g)
        return filled(g, (which > 0)[:, None], self.weight[0, :, 0])

    def fit(self, maps: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Find a by least squares.

        Args:
            maps: x (B, C, H, W), conditions (B, P, H, W) with all inputs known everywhere, and, for each of the 2^K
                sets of inputs, weights of the pixels, (2^K, B, 1, H, W).
        """
        cases, c, f = self.weight.shape
        A, b = torch.zeros(cases, f, f, dtype=torch.float64), torch.zeros(cases, f, c, dtype=torch.float64)
        for x, condition, weights in maps:
            for case in range(cases):
                phi = self._monomials(condition * self.given(case, condition)).double()
                A[case] += torch.einsum("bfyx,bgyx,bzyx->fg", phi, phi, weights[case].double())
                b[case] += torch.einsum("bfyx,bcyx,bzyx->fc", phi, x.double(), weights[case].double())
        A += RIDGE * torch.diag_embed(A.diagonal(dim1=1, dim2=2).clamp_min(RIDGE * A[:, :1, 0]))
        self.weight.copy_(torch.linalg.solve(A, b).transpose(1, 2))

    def given(self, case: int, condition: Tensor) -> Tensor:
        """1 for planes of the inputs of a case, else 0, (P, 1, 1)."""
        keep = [(case >> i) & 1 for i in range(self.inputs)]
        return condition.new_tensor(keep * (condition.shape[1] // self.inputs))[:, None, None]

    def _monomials(self, condition: Tensor) -> Tensor:
        """phi (B, F, H, W); those of inputs that are not known are 0."""
        v = condition[:, : self.inputs].float()
        squares = [v[:, i] * v[:, j] for i, j in self.pairs]
        return torch.stack([torch.ones_like(v[:, 0]), *v.unbind(1), *squares], 1)


def filled(g: Tensor, known: Tensor, otherwise: Tensor) -> Tensor:
    """g (B, C, H, W) where it is known (B, 1, H, W); elsewhere the mean of what is known in the blocks around.

    Blocks of 2, 4, 8, ... pixels along a side, joined smoothly.

    Args:
        otherwise: (C,) values of maps of which nothing is known.
    """
    if known.all():
        return g
    share = known.to(g.dtype)
    levels = [(g * share, share)]
    while max(levels[-1][1].shape[-2:]) > 1:
        levels.append(tuple(F.avg_pool2d(part, 2, ceil_mode=True) for part in levels[-1]))  # type: ignore[arg-type]
    found = otherwise[:, None, None].expand_as(levels[-1][0])
    for total, share in reversed(levels):
        found = F.interpolate(found, total.shape[-2:], mode="bilinear", align_corners=False)
        found = torch.where(share > 0, total / share.clamp_min(1e-9), found)
    return found
