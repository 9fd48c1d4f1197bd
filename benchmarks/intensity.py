"""What each change of intensity costs: nanoseconds a voxel on one core, and next to one resampling.

    python benchmarks/intensity.py [--quick]

Every change is applied to every sample of a batch (`probability` 1), in 2D and 3D. Beside them: a
copy of the batch; `torch.randn`, which a noise can hardly beat; SciPy's Gaussian filter, image by
image, at the largest sigma drawn; and one bare `grid_sample`. Processor time, best of several.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from medssl.views import Draw, IntensityParams, IntensitySettings, sample_key

SHAPES = [(256, 1, 28, 28), (16, 1, 224, 224), (4, 1, 64, 64, 64), (2, 1, 96, 96, 96)]
SIGMA = 1.0
CHANGES: dict[str, dict[str, Any]] = {
    "style": {"style": "batch"},
    "window": {"window": (0.5, 1.0)},
    "bias": {"bias": 0.3},
    "motion": {"motion": (8.0, 2.0)},
    "ghost": {"ghost": (0.3, 0.8)},
    "spike": {"spike": (0.3, 1.0)},
    "blur": {"blur": (0.3, SIGMA)},
    "low resolution": {"low_resolution": (1.0, 2.0)},
    "thick slices": {"thick_slices": (1.0, 4.0)},
    "contrast": {"contrast": (0.7, 1.3)},
    "gamma": {"gamma": (0.7, 1.5)},
    "noise": {"noise": 0.1},
    "Rician noise": {"noise": 0.1, "rician": True},
    "SimCLR's, at 1/2": {
        "contrast": (0.7, 1.3),
        "brightness": 0.2,
        "gamma": (0.7, 1.4),
        "noise": 0.1,
        "blur": (0.1, SIGMA),
        "probability": 0.5,
    },
}


def seconds(call: Callable[[], object], times: int) -> float:
    """Processor time of one call, the best of several after one to warm up."""
    call()
    best = float("inf")
    for _ in range(times):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


def resampled(batch: Tensor) -> Tensor:
    """One bare resampling by a small turn."""
    dims = batch.ndim - 2
    theta = torch.eye(dims, dims + 1).repeat(len(batch), 1, 1)
    theta[:, 0, 1], theta[:, 1, 0] = 0.1, -0.1
    grid = F.affine_grid(theta, list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, align_corners=False)


def table(shape: tuple[int, ...], times: int) -> dict[str, float]:
    """Name -> nanoseconds a voxel."""
    batch = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    draw = Draw(torch.tensor([sample_key(0, 0, index) for index in range(len(batch))]))
    arrays = batch[:, 0].numpy()
    calls: dict[str, Callable[[], object]] = {
        "copy": batch.clone,
        "torch.randn": lambda: torch.randn(shape),
        "SciPy's blur": lambda: [gaussian_filter(a, SIGMA, mode="nearest") for a in arrays],
        "grid_sample": lambda: resampled(batch),
    }
    for name, asked in CHANGES.items():
        settings = IntensitySettings(**{"probability": 1.0, **asked})
        params = IntensityParams.draw(draw, settings)
        calls[name] = lambda params=params: params.apply(batch)
    return {name: 1e9 * seconds(call, times) / batch.numel() for name, call in calls.items()}


def main(quick: bool) -> None:
    """Print a table with a column for each size."""
    torch.set_num_threads(1)
    shapes = [(4, 1, 28, 28), (1, 1, 16, 16, 16)] if quick else SHAPES
    columns = [table(shape, 1 if quick else 5) for shape in shapes]
    heads = ["x".join(map(str, shape)) for shape in shapes]
    print("ns a voxel        ", *(f"{head:>16}" for head in heads))
    for name in columns[0]:
        print(f"{name:18}", *(f"{column[name]:16.1f}" for column in columns))


if __name__ == "__main__":
    main("--quick" in sys.argv)
