"""Pretraining: an unlabelled store in, a bundle with an encoder out."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field

from medssl import config as configuration
from medssl import tracking
from medssl.bundle import (
    Architecture,
    Bundle,
    BundleSpec,
    InputContract,
    seen_record,
)
from medssl.errors import MedsslError
from medssl.methods import Method, MethodConfig, check_views, method_class
from medssl.store import Store
from medssl.store.intensity import IntensityContract
from medssl.store.named_splits import splits_of
from medssl.training.crop_config import CropConfig, in_planes, resolved_crops
from medssl.training.data import Batch
from medssl.training.devices import check, is_leader, leave_to_leader
from medssl.training.figures import curve_figure, preview_figure
from medssl.training.folder import as_before, earlier_subjects, open_folder, remember_run
from medssl.training.loop import History, LoopConfig
from medssl.training.mixed import check_both, with_other
from medssl.training.parent import parent_of, recorded
from medssl.training.partition_figure import draw_partitions
from medssl.training.prepare import AUTO, first_crops, prepare, sized
from medssl.training.pretrain_task import crops_of
from medssl.training.sharding import usable
from medssl.training.step import moved
from medssl.training.watch import WatchConfig
from medssl.training.watched import fit_watched

if TYPE_CHECKING:
    import pandas as pd

# Automatic patches are no larger than this, so that a first run fits a small machine.
LARGEST_PATCH = {2: 224, 3: 64}

# What the store decides when a run begins.
DECIDED = ("dims", "patch_size", "intensity", "flat", "flat.patch_size", "flat.intensity")


def _number(value: Any) -> Any:
    return AUTO if value == "auto" else value


class PretrainConfig(LoopConfig, CropConfig):
    """Everything a pretraining run depends on beside the store.

    ``dims``, ``patch_size`` and ``intensity`` are taken from the store where they are not given:
    the dimensions of most volumes (2 with ``plane``), the median shape (at most 64 voxels in 3D and
    224 in 2D), and the default of the modality. With ``dims`` both, steps see 3D and 2D crops in
    turn; the 2D ones have their own keys in ``flat``. ``hold_out`` names the splits that are never
    trained on. ``split`` is the name of a split made by ``medssl split``, NAME or NAME:FOLD;
    without, the store's split ``default``, or where there is none what tables state, or by a hash.
    """

    method: str = "mae"
    options: dict[str, Any] = Field(default_factory=dict, description="the method's own config")
    encoder: str = Field("unet", description="unet, resnet, mednext, vit, swin or slices")
    encoder_options: dict[str, Any] = Field(default_factory=dict, description="see below")
    dims: Literal[2, 3, "both"] | None = None
    flat: CropConfig | None = Field(
        None, description="the 2D crops where dims is both: of 2D volumes, or with plane of 3D ones"
    )
    split: str | None = Field(None, description="NAME or NAME:FOLD, of `medssl split`")
    hold_out: list[str] = Field(default_factory=lambda: ["validation", "test"])
    preview_every: int = Field(250, ge=1)
    batch_size: Annotated[int, BeforeValidator(_number)] = Field(
        4,
        ge=0,
        description="samples of one step, over all processes and micro-steps; `auto` finds the most"
        " that fit",
    )
    watch: WatchConfig = WatchConfig()


@dataclass
class PretrainResult:
    """Where the bundle is, what was logged, the subjects trained on, and the preview figures."""

    bundle: Path
    history: History
    subjects: list[str]
    previews: list[Path]
    mlflow_run: str


def pretrain(
    store_path: Path,
    out: Path,
    config: PretrainConfig,
    *,
    subjects: Collection[str] | None = None,
    resume: bool = False,
    tracking_folder: Path | None = None,
) -> PretrainResult:
    """Pretrain an encoder on a store's images, without labels.

    Args:
        store_path: the store.
        out: a folder that does not exist; with ``resume`` the folder of the stopped run.
        config: see :class:`PretrainConfig`.
        subjects: train on these alone; None for all that ``config.hold_out`` leaves.
        resume: go on from the newest checkpoint.
        tracking_folder: where ``mlflow.db`` goes, by default beside ``out``.

    Raises:
        MedsslError: OUT_EXISTS, METHOD_UNKNOWN, CONFIG_INVALID, NOTHING_USABLE, RESUME_MISMATCH
            and what the loop raises.
    """
    store = Store.open(store_path)
    if resume:
        config = as_before(out, config, DECIDED)
    config, volume_ids = resolve(store, config, subjects)
    config = sized(store, config, volume_ids, out, resume)
    seen = sorted({store[v].subject_id for v in volume_ids})
    prepared = prepare(store, config, volume_ids, out)
    task = prepared.task
    check(config, task)
    parent = parent_of(config)
    kept = recorded(config, parent)
    record = kept.model_dump(mode="json")
    started = ""
    if is_leader():
        started = open_folder(out, record, store.fingerprint(), seen, resume)
        seen = sorted({*seen, *earlier_subjects(out)})
    previews: list[Path] = []
    dims = "2d-3d" if config.dims == "both" else f"{config.dims}d"
    name = f"{config.method}-{config.encoder}-{dims}"
    folder, silent = tracking_folder or out.parent, not is_leader()
    with tracking.run("medssl-pretrain", name, folder, resume_run=started, silent=silent) as run:
        if run.run_id:
            remember_run(out, run.run_id)
        if run.run_id != started:
            run.log_config(record)
        run.set_tags({"data_fingerprint": store.fingerprint(), "subjects": str(len(seen))})
        samples = first_crops(prepared, config)
        if task.method.bands and is_leader():
            draw_partitions(store, volume_ids, task.method.bands, out / "previews/partitions.png")
            run.log_file(out / "previews/partitions.png", "previews")

        def after_step(step: int, _: Any) -> None:
            if step == 1 or step % config.preview_every == 0 or step == config.steps:
                with usable(task):
                    for kind, sample in samples.items():
                        file = out / "previews" / f"step-{step:08d}{kind}.png"
                        previews.append(_preview(task.method, sample, file, run))

        history = fit_watched(prepared, config, out, run, resume, after_step)
        leave_to_leader()
        for key in ("loss", "effective_rank"):
            run.log_figure(curve_figure(history.rows, [key], f"pretraining: {key}"), key)
        built = Architecture(encoder=prepared.encoder, **task.method.bundle_parts())
        spec = _spec(store, kept, built, seen, history, run.run_id, parent)
        spec = with_other(spec, task.method, store, kept, seen)
        shutil.rmtree(out / "bundle", ignore_errors=True)
        bundle = Bundle.save(out / "bundle", task.method.bundle_state(), spec)
        run.log_folder(bundle.path, "bundle")
    return PretrainResult(bundle.path, history, seen, previews, run.run_id)


def resolve(
    store: Store, config: PretrainConfig, subjects: Collection[str] | None = None
) -> tuple[PretrainConfig, list[str]]:
    """Fill in what the store decides; returns the full config and the volumes to train on."""
    table = store.manifest
    split = splits_of(store, config.split)
    wanted = set(subjects) if subjects is not None else None
    keep = [
        (subject in wanted) if wanted is not None else split[subject] not in config.hold_out
        for subject in table["subject_id"]
    ]
    method = method_class(config.method)
    check_both(method, config)
    options = configuration.load(method.Config, values=config.options)
    dims = 2 if config.plane else config.dims or int(table["dims"].mode()[0])
    crops, ids = _pool(store, config, table[keep], 3 if dims == "both" else dims, options)
    update = {"dims": dims, "options": options.model_dump(mode="json"), **crops}
    if dims == "both":
        flat = config.flat or CropConfig()
        crops, others = _pool(store, flat, table[keep], 2, options)
        update["flat"] = flat.model_copy(update=crops)
        ids = list(dict.fromkeys([*ids, *others]))
    return config.model_copy(update=update), ids


def _pool(
    store: Store, config: CropConfig, table: pd.DataFrame, dims: int, options: MethodConfig
) -> tuple[dict[str, Any], list[str]]:
    """What crops of so many dimensions leave to the store, and the volumes they are cut from.

    Args:
        store: of the volumes.
        config: of the crops.
        table: the manifest's rows that may be trained on.
        dims: of the crops.
        options: of the method.
    """
    stored = 3 if config.plane else dims
    chosen = table[table["dims"] == stored]
    if chosen.empty:
        raise MedsslError(
            "NOTHING_USABLE",
            f"The store has no {stored}D volume to pretrain on",
            fix="Check dims, plane and hold_out; flat.plane takes 2D crops of 3D volumes.",
        )
    channels = chosen["channels"].unique()
    if len(channels) > 1:
        raise MedsslError(
            "CONTRACT_MISMATCH", "The volumes differ in their number of channels", where="channels"
        )
    update: dict[str, Any] = {}
    if config.patch_size is None:
        shapes = in_planes(chosen["shape"].tolist(), config.plane)
        update["patch_size"] = automatic_patch(shapes, dims)
    update["intensity"] = config.intensity or IntensityContract.for_volumes(chosen)
    check_views(options, chosen["modality"].unique(), update["intensity"].scheme)
    ids = chosen["volume_id"].tolist()
    full = config.model_copy(update=update)
    return {**update, **resolved_crops(store, full, ids, dims)}, ids


def automatic_patch(shapes: Sequence[Sequence[int]], dims: int, multiple: int = 8) -> list[int]:
    """The median shape, rounded to a multiple of 8 and limited to what a first run can hold."""
    columns = [sorted(column) for column in zip(*shapes, strict=True)]
    median = [column[len(column) // 2] for column in columns]
    most = LARGEST_PATCH[dims]
    return [min(most, max(multiple, multiple * round(size / multiple))) for size in median]


def _preview(method: Method, sample: Batch, path: Path, run: tracking.Run) -> Path:
    """Show what the method does with the first crops, on the same draw every time."""
    place = next(method.parameters()).device
    training = method.training
    method.eval()
    with torch.no_grad():
        images = method.preview(crops_of(moved(sample, place)))
    method.train(training)
    if not is_leader():
        return path
    figure = preview_figure(images)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    run.log_file(path, "previews")
    return path


def _spec(
    store: Store,
    config: PretrainConfig,
    architecture: Architecture,
    seen: Sequence[str],
    history: History,
    run_id: str,
    parent: Bundle | None,
) -> BundleSpec:
    table = store.manifest
    modalities = sorted(table[table["subject_id"].isin(seen)]["modality"].unique().tolist())
    return BundleSpec(
        kind="encoder",
        architecture=architecture,
        contract=InputContract(
            dims=architecture.encoder.dims,
            channels=architecture.encoder.in_channels,
            spacing=config.spacing,
            intensity=config.intensity or IntensityContract(),
            patch_size=config.patch_size or [],
            modalities=modalities,
        ),
        method=config.method,
        config=config.model_dump(mode="json"),
        metrics={"pretraining_loss": history.rows[-1]["loss"]},
        data_fingerprint=store.fingerprint(),
        mlflow_run=run_id,
        **seen_record(seen, parent.spec if parent else None),
    )
