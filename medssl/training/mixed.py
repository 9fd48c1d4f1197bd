"""Runs on crops of 3D and of 2D in turn: one step sees those, the next these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from medssl.bundle import BundleSpec, InputContract
from medssl.errors import MedsslError
from medssl.methods import METHODS, Method
from medssl.store import Store
from medssl.store.intensity import IntensityContract
from medssl.training.crop_config import CropConfig, crop_source
from medssl.training.data import CropSource
from medssl.training.sampling import numbered
from medssl.training.slots import Fields

if TYPE_CHECKING:
    import pandas as pd

    from medssl.training.pretrain import PretrainConfig

Array = npt.NDArray[Any]

NAMES = ("3d", "2d")  # of even steps, counted from 0, and of odd ones
_FLAT_SEED = 0x2D  # added to the seed, so that 2D crops and 3D ones are drawn apart


class MixedSource:
    """Samples of two sources, those of a step all of one.

    Step s has samples [s * batch_size, (s + 1) * batch_size) of the run, as always; of its own
    source they are the next batch_size ones. So what a step sees depends on its number alone,
    however many processes and workers there are. Volumes and subjects are numbered through both
    sources: a volume that both take crops of, and a subject that both have volumes of, has one
    number.

    Args:
        store: where the volumes are.
        sources: of 3D crops, then of 2D ones.
        volume_ids: those of either.
        batch_size: samples of one step, over all processes and micro-steps.
    """

    def __init__(
        self,
        store: Store,
        sources: tuple[CropSource, CropSource],
        volume_ids: tuple[Sequence[str], Sequence[str]],
        batch_size: int,
    ) -> None:
        self._sources, self._batch = sources, batch_size
        self._fields = tuple(source.fields() for source in sources)
        every = list(dict.fromkeys([*volume_ids[0], *volume_ids[1]]))
        places = {name: number for number, name in enumerate(every)}
        subjects = numbered([store[name].subject_id for name in every])
        self._volumes = tuple(np.array([places[v] for v in ids], np.int64) for ids in volume_ids)
        self._subjects = tuple(subjects[numbers] for numbers in self._volumes)

    def fields(self) -> Fields:
        """Shape and dtype of what one sample has, of either source under its name."""
        pairs = zip(NAMES, self._fields, strict=True)
        return {f"{name}.{key}": value for name, own in pairs for key, value in own.items()}

    def write(self, number: int, batch: Mapping[str, Array], place: int) -> None:
        """Write a sample into its own source's part of a batch.

        Raises:
            MedsslError: as :meth:`medssl.training.data.CropSource.write`.
        """
        step, within = divmod(number, self._batch)
        turn, which = divmod(step, 2)
        part = {key: batch[f"{NAMES[which]}.{key}"] for key in self._fields[which]}
        self._sources[which].write(turn * self._batch + within, part, place)
        index = int(part["volume"][place])
        part["volume"][place] = self._volumes[which][index]
        part["subject"][place] = self._subjects[which][index]

    def part(self, first: int, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a batch that begins with sample ``first`` is: its step's fields, by their names."""
        which = first // self._batch % 2
        return {key: batch[f"{NAMES[which]}.{key}"] for key in self._fields[which]}


def check_both(method: type[Method], config: PretrainConfig) -> None:
    """Refuse what does not go together with crops of 3D and 2D in turn.

    Raises:
        MedsslError: CONFIG_INVALID.
    """
    wrong = ""
    if config.dims == "both" and not method.both:
        fitting = ", ".join(name for name, kind in METHODS.items() if kind.both)
        where, wrong = "dims", f"{config.method} takes one kind of crops; both take: {fitting}"
    elif config.dims == "both" and config.plane is not None:
        where, wrong = "plane", "Where dims is both, it is the 2D crops' plane: flat.plane"
    elif config.dims != "both" and config.flat is not None:
        where, wrong = "flat", "It is for dims=both"
    if wrong:
        raise MedsslError("CONFIG_INVALID", wrong, where=where)


def by_dims(
    store: Store, volume_ids: Sequence[str], flat: CropConfig | None
) -> tuple[list[str], list[str]]:
    """Those of the volumes that 3D crops are cut from, and those that 2D ones are."""
    dims = {volume_id: store[volume_id].dims for volume_id in volume_ids}
    solid = [volume_id for volume_id in volume_ids if dims[volume_id] == 3]
    if flat is not None and flat.plane is not None:
        return solid, solid
    return solid, [volume_id for volume_id in volume_ids if dims[volume_id] == 2]


def mixed_source(
    store: Store, volume_ids: Sequence[str], config: PretrainConfig, out: Path
) -> MixedSource:
    """The crops of a resolved configuration of ``dims`` both.

    Raises:
        MedsslError: as :class:`medssl.training.data.CropSource`.
    """
    flat = config.flat or CropConfig()
    solid_ids, flat_ids = by_dims(store, volume_ids, flat)
    sources = (
        crop_source(store, solid_ids, config, config.seed, out),
        crop_source(store, flat_ids, flat, config.seed + _FLAT_SEED, out),
    )
    return MixedSource(store, sources, (solid_ids, flat_ids), config.batch_size)


def with_other(
    spec: BundleSpec, method: Method, store: Store, config: PretrainConfig, seen: Sequence[str]
) -> BundleSpec:
    """A bundle's description with the method's encoder for the other number of dimensions."""
    flat, contract = None, spec.contract
    if config.dims == "both" and config.flat is not None:
        table, plane = store.manifest, config.flat.plane
        some = table[table["subject_id"].isin(seen)].groupby("dims")
        solid, pictures = some.get_group(3), some.get_group(2 if plane is None else 3)
        contract = contract.model_copy(update={"modalities": _modalities(solid)})
        flat = InputContract(
            dims=2,
            channels=int(pictures["channels"].iloc[0]),
            spacing=config.flat.spacing,
            intensity=config.flat.intensity or IntensityContract(),
            patch_size=config.flat.patch_size or [],
            modalities=_modalities(pictures),
        )
    other = method.other_spec(spec.architecture.encoder, contract, flat)
    return spec.model_copy(update={"contract": contract, "other": other})


def _modalities(table: pd.DataFrame) -> list[str]:
    return sorted(table["modality"].unique().tolist())
