"""A task model over one whole volume, under the input contract it was trained with.

Fine-tuning validates with it and `medssl predict` runs it, so the figure seen in training and the
label map a site receives come from the same steps in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.errors import MedsslError
from medssl.evaluate.windows import cut, pad_to_patch, window_starts
from medssl.store.grid import resample, resampled_size

if TYPE_CHECKING:
    from medssl.bundle import InputContract

# Volumes of more voxels are stitched in main memory, and only their windows are on the device:
# here one class takes 256 MiB.
STITCH_ON_DEVICE = 2**26

_LINEAR = {2: "bilinear", 3: "trilinear"}


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """The device to run on; "auto" is the first GPU where there is one, else the CPU.

    Raises:
        MedsslError: DEVICE_MISSING where the name means no device of this machine.
    """
    if isinstance(name, torch.device):
        return name
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # torch raises the latter where it has no CUDA
        raise MedsslError(
            "DEVICE_MISSING",
            f"There is no device {name!r} on this machine",
            where="--device",
            fix="Use auto, cpu, or cuda:N.",
        ) from None
    return device


def segment_volume(
    model: nn.Module,
    array: npt.NDArray[np.generic],
    spacing: Sequence[float],
    stats: Mapping[str, float],
    contract: InputContract,
    device: str | torch.device = "cpu",
    *,
    overlap: float = 0.5,
    window_batch: int = 4,
) -> npt.NDArray[np.uint8]:
    """Label every voxel of one volume by sliding windows.

    Args:
        model: maps (batch, channel, *patch) to logits (batch, classes, *patch); class 0 is
            background.
        array: (channel, x, y, z) in RAS+, or (channel, row, column); any real dtype, raw values.
        spacing: mm per axis of `array`.
        stats: the intensity statistics of the volume (`store.intensity.statistics`).
        contract: what the model was trained on: channels, spacing, intensity, patch size.
        device: where the windows run; "auto" takes a GPU if there is one.
        overlap: the share of a window that the next one covers again, in [0, 1).
        window_batch: windows per forward pass.

    Returns:
        (x, y, z) or (row, column) uint8 on the grid of `array`, values 0 .. classes-1.

    Raises:
        MedsslError: CONTRACT_MISMATCH where dimensions, channels or classes do not fit.
    """
    logits = volume_logits(
        model,
        array,
        spacing,
        stats,
        contract,
        device,
        overlap=overlap,
        window_batch=window_batch,
    )
    if logits.shape[0] > 256:
        raise MedsslError(
            "CONTRACT_MISMATCH",
            f"the model has {logits.shape[0]} classes and a label map holds 256",
            fix="use a bundle with fewer classes",
        )
    return logits.argmax(0).to(torch.uint8).cpu().numpy()


def volume_logits(
    model: nn.Module,
    array: npt.NDArray[np.generic],
    spacing: Sequence[float],
    stats: Mapping[str, float],
    contract: InputContract,
    device: str | torch.device = "cpu",
    *,
    overlap: float = 0.5,
    window_batch: int = 4,
) -> Tensor:
    """The logits behind `segment_volume`: float32 (classes, *spatial) on the grid of `array`.

    Windows are weighted by a Gaussian (Isensee et al. 2021, nnU-Net) and volumes smaller than a
    window are padded. Logits, not labels, are resampled back to the input's grid, so that a
    boundary keeps sub-voxel accuracy.
    """
    place = resolve_device(device)
    image = prepare_volume(array, spacing, stats, contract)
    native = tuple(array.shape[1:])
    with torch.inference_mode():
        logits = _slide(model, image[None], contract.patch_size, place, overlap, window_batch)
        if tuple(logits.shape[2:]) != native:
            logits = _resize(logits, native)
    return logits[0]


def classify_volume(
    model: nn.Module,
    array: npt.NDArray[np.generic],
    spacing: Sequence[float],
    stats: Mapping[str, float],
    contract: InputContract,
    device: str | torch.device = "cpu",
    *,
    overlap: float = 0.5,
    window_batch: int = 4,
) -> npt.NDArray[np.float32]:
    """Class probabilities (classes,) of one volume, float32, summing to 1: the softmax of
    `volume_outputs`, whose arguments and errors these are.
    """
    outputs = volume_outputs(
        model,
        array,
        spacing,
        stats,
        contract,
        device,
        overlap=overlap,
        window_batch=window_batch,
    )
    return outputs.softmax(0).cpu().numpy()


def volume_outputs(
    model: nn.Module,
    array: npt.NDArray[np.generic],
    spacing: Sequence[float],
    stats: Mapping[str, float],
    contract: InputContract,
    device: str | torch.device = "cpu",
    *,
    overlap: float = 0.5,
    window_batch: int = 4,
) -> Tensor:
    """What a model that returns (batch, outputs) says of one volume: float32 (outputs,).

    A volume larger than the patch size is covered by windows whose outputs are averaged with equal
    weight. Arguments and errors are those of `segment_volume`.
    """
    place = resolve_device(device)
    image = prepare_volume(array, spacing, stats, contract)
    image = pad_to_patch(image, contract.patch_size)
    starts = window_starts(image.shape[1:], contract.patch_size, overlap)
    windows = [cut(image, start, contract.patch_size) for start in starts]
    outputs = []
    with torch.inference_mode(), _evaluating(model.to(place)):
        for first in range(0, len(windows), window_batch):
            batch = torch.stack(windows[first : first + window_batch]).to(place)
            outputs.append(model(batch).float())
        return torch.cat(outputs).mean(0)


def prepare_volume(
    array: npt.NDArray[np.generic],
    spacing: Sequence[float],
    stats: Mapping[str, float],
    contract: InputContract,
) -> Tensor:
    """The network's view of a volume: float32 (channel, *spatial), normalised and resampled.

    Raises:
        MedsslError: CONTRACT_MISMATCH where dimensions or channels differ from the contract's.
    """
    check_shape(array.shape, contract)
    image: npt.NDArray[Any] = np.asarray(array)
    if contract.spacing is not None:
        # Before clipping, as training resamples its crops.
        size = resampled_size(image.shape[1:], spacing, contract.spacing)
        image = resample(image, size, order=1)
    image = contract.intensity.normalise(image, stats)
    return torch.as_tensor(np.ascontiguousarray(image, dtype=np.float32))


def check_shape(shape: Sequence[int], contract: InputContract) -> None:
    """Raise CONTRACT_MISMATCH unless an array of `shape` (channel, *spatial) fits the contract."""
    dims = len(shape) - 1
    if dims != contract.dims:
        raise MedsslError(
            "CONTRACT_MISMATCH",
            f"the volume has {dims} dimensions and the bundle was trained on {contract.dims}",
            fix="use a bundle trained on such data",
        )
    if shape[0] != contract.channels:
        raise MedsslError(
            "CONTRACT_MISMATCH",
            f"the volume has {shape[0]} channels and the bundle expects {contract.channels}",
            fix="use a bundle trained on such data",
        )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while: validation inside training must leave every part as it was."""
    was_training = {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for part, training in was_training.items():
            part.training = training


def _slide(
    model: nn.Module,
    image: Tensor,
    patch_size: Sequence[int],
    place: torch.device,
    overlap: float,
    window_batch: int,
) -> Tensor:
    """Logits (1, classes, *spatial) float32 of image (1, channel, *spatial)."""
    from monai.inferers.utils import sliding_window_inference

    def forward(window: Tensor) -> Tensor:
        # A copy: the inferer weights its windows in place, and a model may return its input.
        logits: Tensor = model(window)
        return logits.to(torch.float32, copy=True)

    with _evaluating(model.to(place)):
        large = image[0, 0].numel() > STITCH_ON_DEVICE
        stitched: Tensor = sliding_window_inference(
            image if large else image.to(place),
            roi_size=tuple(patch_size),
            sw_batch_size=window_batch,
            predictor=forward,
            overlap=overlap,
            mode="gaussian",
            sw_device=place,
            device=torch.device("cpu") if large else place,
        )
    return stitched


def _resize(image: Tensor, size: Sequence[int]) -> Tensor:
    """`store.grid.resample` of order 1 on the device: (batch, channel, *spatial), edges aligned."""
    mode = _LINEAR[image.ndim - 2]
    return F.interpolate(image, size=tuple(size), mode=mode, align_corners=False)
