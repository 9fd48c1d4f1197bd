"""From an image on any grid to its label map on the same grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedsslError
from medssl.evaluate.inference import classify_volume, segment_volume, volume_outputs
from medssl.predict.cases import Image
from medssl.store.grid import from_canonical, spacing_of, to_canonical
from medssl.store.intensity import statistics

if TYPE_CHECKING:
    import torch
    from torch import nn

    from medssl.bundle import InputContract


def segment_image(
    model: nn.Module, image: Image, contract: InputContract, device: torch.device
) -> npt.NDArray[np.uint8]:
    """Label an image by sliding windows, in RAS+ and under the contract, and turn it back.

    Returns:
        uint8 (x, y, z), or (row, column) for a 2D image, on the grid of the image.

    Raises:
        MedsslError: CONTRACT_MISMATCH; PREDICTION_MOVED where the way back does not end on the
            grid it started from.
    """
    array, spacing, back = _canonical(image)
    labels = segment_volume(model, array, spacing, statistics(array), contract, device)
    if back is None or image.affine is None:
        return labels
    turned, affine = from_canonical(labels[None], *back)
    if turned.shape[1:] != image.array.shape[1:] or not np.allclose(affine, image.affine):
        raise MedsslError("PREDICTION_MOVED", "The labels do not return to the grid of the image")
    result: npt.NDArray[np.uint8] = np.ascontiguousarray(turned[0])
    return result


def classify_image(
    model: nn.Module, image: Image, contract: InputContract, device: torch.device
) -> npt.NDArray[np.float32]:
    """Class probabilities (classes,) of an image, in RAS+ and under the contract.

    Raises:
        MedsslError: CONTRACT_MISMATCH.
    """
    array, spacing, _ = _canonical(image)
    return classify_volume(model, array, spacing, statistics(array), contract, device)


def measure_image(
    model: nn.Module, image: Image, contract: InputContract, device: torch.device
) -> float:
    """The one output of a regression model for an image, in RAS+ and under the contract.

    Raises:
        MedsslError: CONTRACT_MISMATCH.
    """
    array, spacing, _ = _canonical(image)
    return float(volume_outputs(model, array, spacing, statistics(array), contract, device)[0])


def _canonical(
    image: Image,
) -> tuple[npt.NDArray[Any], tuple[float, ...], tuple[npt.NDArray[Any], str] | None]:
    """The array in RAS+ with its spacing, and what `from_canonical` needs to undo it."""
    if image.array.ndim == 3 or image.affine is None:
        return image.array, image.spacing, None
    array, affine, orientation = to_canonical(image.array, image.affine)
    return array, spacing_of(affine), (affine, orientation)
