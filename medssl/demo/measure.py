"""What the demonstration measures itself: predictions against the truth, and reconstructions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medssl.errors import MedsslError
from medssl.phantom import Phantom

Floats = NDArray[np.floating[Any]]

if TYPE_CHECKING:
    from medssl.evaluate.segmentation import SegmentationMetrics
    from medssl.methods import Method
    from medssl.store import Volume
    from medssl.training.pretrain import PretrainResult

GRID_TOLERANCE_MM = 1e-2


@dataclass(frozen=True)
class Prediction:
    """One held-out patient's label map (x, y, z) uint8 on the phantom's grid, and its metrics."""

    patient_id: str
    case_id: str
    label: NDArray[np.uint8]
    metrics: dict[int, SegmentationMetrics]
    files: list[str]


@dataclass(frozen=True)
class Reconstruction:
    """A volume, what the encoder saw of it, and what was reconstructed; (x, y, z), image units.

    explained: the share of the hidden voxels' variance that the reconstruction explains; 1 is
    perfect, 0 no better than their mean.
    """

    modality: str
    original: Floats
    masked: Floats
    reconstruction: Floats
    spacing: tuple[float, ...]
    explained: float


def score_predictions(
    results: Path, phantoms: Sequence[Phantom], case_ids: Sequence[str], tolerance_mm: float
) -> list[Prediction]:
    """Compare the label maps in a results folder with the truth the phantoms were drawn with.

    Raises:
        MedsslError: INPUT_MISSING where a case was not predicted, PREDICTION_MOVED where a label
            map does not lie on the phantom's own grid.
    """
    import nibabel as nib

    from medssl.evaluate.segmentation import segmentation_metrics

    scored = []
    for phantom, case_id in zip(phantoms, case_ids, strict=True):
        folder = results / "cases" / case_id
        path = folder / "segmentation.nii.gz"
        if not path.is_file():
            raise MedsslError(
                "INPUT_MISSING", "A held-out patient was not predicted", where=case_id
            )
        image: Any = nib.as_closest_canonical(nib.load(path))
        label = np.asarray(image.dataobj).astype(np.uint8)
        apart = np.abs(image.affine - phantom.affine).max() if label.ndim == 3 else np.inf
        if label.shape != phantom.label.shape[1:] or apart > GRID_TOLERANCE_MM:
            raise MedsslError(
                "PREDICTION_MOVED", "A label map is not on the patient's own grid", where=case_id
            )
        metrics = segmentation_metrics(
            label, phantom.label[0], phantom.spacing, list(phantom.label_names), tolerance_mm
        )
        files = sorted(item.name for item in folder.iterdir())
        scored.append(Prediction(phantom.patient_id, case_id, label, metrics, files))
    return scored


def reconstruct(
    pretrained: PretrainResult, store_path: Path, volume_ids: Sequence[str]
) -> list[Reconstruction]:
    """Mask whole volumes cell by cell and reconstruct them with the method's last weights."""
    from medssl.bundle import Bundle
    from medssl.store import Store

    spec = Bundle.load(pretrained.bundle).spec
    method = _method(pretrained, spec.config)
    store = Store.open(store_path)
    patch = spec.contract.patch_size
    found = []
    for volume_id in volume_ids:
        volume = store[volume_id]
        _, _, shift, scale = spec.contract.intensity.parameters(volume.row)
        image = spec.contract.intensity.normalise(volume.array(), volume.row)
        original, masked, filled = _through(method, image, patch, volume.spacing)
        hidden = original != masked
        error = float(((filled - original)[hidden] ** 2).mean())
        explained = 1.0 - error / max(float(original[hidden].var()), 1e-12)
        found.append(
            Reconstruction(
                modality=volume.modality,
                original=original / scale + shift,
                masked=masked / scale + shift,
                reconstruction=filled / scale + shift,
                spacing=volume.spacing,
                explained=explained,
            )
        )
    return found


def _method(pretrained: PretrainResult, config: dict[str, Any]) -> Method:
    """The method as pretraining left it. Views are not turned or scaled: slices are shown."""
    from medssl import config as configuration
    from medssl.methods import METHODS, Samples
    from medssl.networks import build_encoder
    from medssl.training import checkpoint
    from medssl.training.pretrain_task import PretrainTask

    kind = METHODS[config["method"]]
    options = configuration.load(kind.Config, values={**config["options"], "view": {}})
    encoder = build_encoder(config["encoder"], config["dims"], 1, **config["encoder_options"])
    task = PretrainTask(kind(options, encoder, Samples(tuple(config["patch_size"]))))
    folder = pretrained.bundle.parent / "checkpoints"
    checkpoint.load_newest(folder, task)
    return task.method.eval()


def _through(
    method: Method, image: Floats, patch: Sequence[int], spacing: Sequence[float]
) -> tuple[Floats, Floats, Floats]:
    """Original, masked and reconstructed (x, y, z) of a normalised (1, x, y, z), patch by patch."""
    import torch

    from medssl.methods import Crops
    from medssl.views import Draw
    from medssl.views.draw import sample_key

    size = image.shape[1:]
    room = [(0, -n % p) for n, p in zip(size, patch, strict=True)]
    padded = np.pad(image[0], room, mode="edge")
    parts = [np.empty_like(padded) for _ in range(3)]
    step = torch.tensor([list(spacing)], dtype=torch.float32)
    for number, place in enumerate(_places(padded.shape, patch)):
        crop = torch.from_numpy(np.ascontiguousarray(padded[place]))[None, None]
        draw = Draw(torch.tensor([sample_key(0, 0, number)]))
        with torch.inference_mode():
            seen = method.preview(Crops.whole(crop, draw, step, torch.zeros(1, dtype=torch.int64)))
        for part, name in zip(parts, ("original", "masked", "reconstruction"), strict=True):
            part[place] = seen[name][0, 0].float().numpy()
    inside = tuple(slice(0, n) for n in size)
    return parts[0][inside], parts[1][inside], parts[2][inside]


def _places(shape: Sequence[int], patch: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    starts = (range(0, n, p) for n, p in zip(shape, patch, strict=True))
    for corner in product(*starts):
        yield tuple(slice(s, s + p) for s, p in zip(corner, patch, strict=True))


def volume_of(store_path: Path, subject_id: str) -> Volume:
    """The only volume of a subject in a store."""
    from medssl.store import Store

    store = Store.open(store_path)
    table = store.manifest
    return store[str(table[table["subject_id"] == subject_id]["volume_id"].iloc[0])]
