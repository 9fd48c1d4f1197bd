"""The pixel-propagation module of PixPro."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Propagation(nn.Module):
    """Every cell as the sum of all cells of its image, those that resemble it most (Xie et al.
    2021, "Propagate yourself: exploring pixel-level consistency for unsupervised visual
    representation learning", eq. 3 and 4): y_i = Σ_j max(cos(x_i, x_j), 0)^power g(x_j).

    Args:
        width: of a cell.
        power: γ, how much more near cells count than distant ones; > 0.
        layers: of g: 0 leaves cells as they are, 1 is linear, 2 have a ReLU between them.

    Shape: (B, P, width) -> the same.
    """

    def __init__(self, width: int, power: float = 2.0, layers: int = 1) -> None:
        super().__init__()
        if power <= 0 or layers < 0:
            raise ValueError(
                f"the power must be above 0 and layers not below, not {power} and {layers}"
            )
        self.power = power
        self.transform = nn.Sequential()
        for number in range(layers):
            if number:
                self.transform.append(nn.ReLU())
            self.transform.append(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        unit = F.normalize(x, dim=2)
        near = (unit @ unit.transpose(1, 2)).clamp(min=0)
        near = near.square() if self.power == 2 else near**self.power
        y: Tensor = near @ self.transform(x)
        return y
