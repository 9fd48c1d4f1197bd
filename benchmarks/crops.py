"""How many crops a second a training run gets, beside peers, in one run.

    python benchmarks/crops.py SCRATCH [--size 64]

Makes 24 volumes of about 288 x 288 x 180 voxels, int16, in SCRATCH at first use (about 5 GB with
what the peers need). Put peers that are to be measured on PYTHONPATH: torchio, blosc2.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import nibabel
import numpy as np
import torch
import typer
from scipy import ndimage
from torch.utils.data import DataLoader

from medssl.store import LedgerRow, Outcome, Store, StoreInfo, StoreWriter, VolumeRecord
from medssl.store.intensity import IntensityContract
from medssl.training.cache import CacheSettings
from medssl.training.data import CropSource, loader

VOLUMES = 24
BATCH = 8
PER_VISIT = 8  # crops that peers which read whole volumes take of one
Draw = Callable[[], int]  # makes some crops and says how many


def volume(number: int) -> np.ndarray:
    """A body of two tissues in noisy air: (x, y, z) int16."""
    rng = np.random.default_rng(number)
    shape = tuple(int(n) for n in rng.integers([280, 280, 172], [297, 297, 189]))
    coarse = rng.normal(0, 1, [n // 8 + 2 for n in shape])
    tissue = ndimage.zoom(coarse, 8, order=1)[tuple(slice(n) for n in shape)]
    axes = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    body = sum(a**2 / r for a, r in zip(axes, (0.6, 0.5, 1.2), strict=True)) < 1
    image = np.where(body, 300 + 150 * tissue, 0) + rng.normal(0, 12, shape)
    return np.rint(image).astype(np.int16)


def prepare(scratch: Path) -> Store:
    """The store, made at first use; and the same volumes as NIfTI."""
    path = scratch / "store"
    if not path.exists():
        scratch.mkdir(parents=True, exist_ok=True)
        (scratch / "nifti").mkdir(exist_ok=True)
        rows = []
        with StoreWriter(path, StoreInfo()) as writer, ProcessPoolExecutor() as pool:
            for i, image in enumerate(pool.map(volume, range(VOLUMES))):
                name = f"vol-{i:02d}"
                nibabel.Nifti1Image(image, np.eye(4)).to_filename(scratch / "nifti" / f"{name}.nii")
                ids = (name, name, name, name)
                writer.add_volume(VolumeRecord(*ids, "MR"), image[None], np.eye(4))
                rows.append(LedgerRow(name, Outcome.USED, volume_id=name))
            writer.finish(rows, VOLUMES)
    return Store.open(path)


def corners(shape: tuple[int, ...], size: int, rng: np.random.Generator) -> list[slice]:
    """A random crop."""
    starts = [int(rng.integers(n - size + 1)) for n in shape]
    return [slice(s, s + size) for s in starts]


def floor(store: Store, size: int, volumes: int) -> Draw:
    """Copying a block of an array in memory, nothing else; of one volume the processor's own
    cache holds a part, of 24 it does not."""
    arrays = [np.array(store[name].array()) for name in list(store)[:volumes]]
    out, rng = np.empty((1, size, size, size), np.int16), np.random.default_rng(0)

    def draw() -> int:
        array = arrays[rng.integers(volumes)]
        np.copyto(out, array[(slice(None), *corners(array.shape[1:], size, rng))])
        return 1

    return draw


def memmap16(store: Store, size: int, scratch: Path) -> Draw:
    """A float16 memory map, opened once, made float32 by torch."""
    folder = scratch / "float16"
    if not folder.exists():
        folder.mkdir()
        for name in store:
            np.save(folder / f"{name}.npy", np.asarray(store[name].array()).astype(np.float16))
    maps = [np.load(file, mmap_mode="r") for file in sorted(folder.iterdir())]
    rng = np.random.default_rng(0)

    def draw() -> int:
        array = maps[rng.integers(len(maps))]
        crop = array[(slice(None), *corners(array.shape[1:], size, rng))]
        torch.from_numpy(np.asarray(crop)).float()
        return 1

    return draw


def blosc(store: Store, size: int, scratch: Path) -> Draw:
    """The scheme of nnssl: a blosc2 file of chunks of about the patch, opened and sliced per crop,
    made float32."""
    import blosc2

    blosc2.set_nthreads(1)
    folder = scratch / f"blosc-{size}"
    if not folder.exists():
        folder.mkdir()
        for name in store:
            array = np.asarray(store[name].array())
            blosc2.asarray(
                array,
                chunks=(1, *(min(size, n) for n in array.shape[1:])),
                blocks=(1, *(min(32, size, n) for n in array.shape[1:])),
                urlpath=str(folder / f"{name}.b2nd"),
                cparams={"codec": blosc2.Codec.ZSTD, "clevel": 8, "nthreads": 2},
            )
    files = sorted(folder.iterdir())
    rng = np.random.default_rng(0)

    def draw() -> int:
        file = str(files[rng.integers(len(files))])
        array = blosc2.open(file, mode="r", mmap_mode="r", dparams={"nthreads": 1})
        crop = array[(slice(None), *corners(array.shape[1:], size, rng))]
        torch.from_numpy(crop).float()
        return 1

    return draw


def monai_visits(dataset: Any) -> Draw:
    """Items of a MONAI data set in random order, each a list of crops or one.

    MONAI's crops can be views of the cached volume: copied, as any batch of them is, they are
    crops.
    """
    rng = np.random.default_rng(0)

    def draw() -> int:
        item = dataset[int(rng.integers(len(dataset)))]
        crops = item if isinstance(item, list) else [item]
        for crop in crops:
            crop["image"].as_tensor().clone()
        return len(crops)

    return draw


def monai_items(scratch: Path, size: int, per_visit: int) -> tuple[list[dict[str, str]], Any]:
    """The data dictionaries, and MONAI's transforms for them."""
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        RandSpatialCropd,
        RandSpatialCropSamplesd,
    )

    files = [{"image": str(file)} for file in sorted((scratch / "nifti").iterdir())]
    roi = (size, size, size)
    crop: Any = RandSpatialCropd("image", roi, random_size=False)
    if per_visit > 1:
        crop = RandSpatialCropSamplesd("image", roi, per_visit, random_size=False)
    return files, Compose([LoadImaged("image"), EnsureChannelFirstd("image"), crop])


def monai_persistent(scratch: Path, size: int) -> Draw:
    """MONAI's PersistentDataset, 8 crops a visit."""
    from monai.data import PersistentDataset

    files, transforms = monai_items(scratch, size, PER_VISIT)
    dataset = PersistentDataset(files, transforms, cache_dir=scratch / "persistent")
    for i in range(len(dataset)):
        dataset[i]
    return monai_visits(dataset)


def monai_cache(scratch: Path, size: int, copy: bool) -> Draw:
    """MONAI's CacheDataset; `copy` is its default."""
    from monai.data import CacheDataset

    files, transforms = monai_items(scratch, size, 1)
    return monai_visits(CacheDataset(files, transforms, copy_cache=copy, progress=False))


def torchio_queue(scratch: Path, size: int) -> Draw:
    """TorchIO's Queue, 8 crops a volume."""
    import torchio

    files = sorted((scratch / "nifti").iterdir())
    subjects = [torchio.Subject(image=torchio.ScalarImage(file)) for file in files]
    queue = torchio.Queue(
        torchio.SubjectsDataset(subjects),
        max_length=64,
        samples_per_volume=PER_VISIT,
        sampler=torchio.data.UniformSampler(size),
        num_workers=0,
    )
    return _batches(lambda: iter(torchio.SubjectsLoader(queue, batch_size=BATCH, num_workers=0)))


def _batches(start: Callable[[], Iterator[Any]]) -> Draw:
    """The next batch, from the beginning again when they end."""
    state = {"batches": start()}

    def draw() -> int:
        try:
            next(state["batches"])
        except StopIteration:
            state["batches"] = start()
            next(state["batches"])
        return BATCH

    return draw


def rate(draw: Draw, seconds: float) -> float:
    """Crops per second."""
    count, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        count += draw()
    return count / spent


def streams(source: CropSource) -> dict[str, Callable[[], Iterator[Any]]]:
    """What hands batches over, each to be started and closed for a measurement."""
    ring = lambda workers: iter(loader(source, BATCH, 0, 10**5, workers))  # noqa: E731
    plain = DataLoader(source, BATCH, sampler=range(10**6), num_workers=2)
    return {
        "medssl, one process": lambda: ring(0),
        "medssl, ring, 2 workers": lambda: ring(2),
        "plain DataLoader of the same, 2 workers": lambda: iter(plain),
    }


def handed_over(start: Callable[[], Iterator[Any]], seconds: float) -> float:
    """Crops per second of a stream, its start not counted."""
    batches = start()
    for _ in range(4):
        next(batches)
    found = rate(lambda: len(next(batches)["image"]), seconds)
    if hasattr(batches, "close"):
        batches.close()
    return found


def contestants(store: Store, scratch: Path, size: int) -> dict[str, Callable[[], Draw]]:
    """What is measured in one process."""
    return {
        "floor: copying the block in memory, of one volume": lambda: floor(store, size, 1),
        "floor: the same of 24 volumes": lambda: floor(store, size, VOLUMES),
        "float16 memory map, float32 by torch": lambda: memmap16(store, size, scratch),
        "MONAI CacheDataset, shallow copies": lambda: monai_cache(scratch, size, copy=False),
        "MONAI CacheDataset": lambda: monai_cache(scratch, size, copy=True),
        "MONAI PersistentDataset, 8 crops a visit": lambda: monai_persistent(scratch, size),
        "TorchIO Queue, 8 crops a volume": lambda: torchio_queue(scratch, size),
        "nnssl's blosc2 scheme": lambda: blosc(store, size, scratch),
    }


NEEDS = {"TorchIO": "torchio", "nnssl": "blosc2", "MONAI": "monai"}


def main(
    scratch: Annotated[Path, typer.Argument(help="Where volumes and caches go.")],
    size: Annotated[int, typer.Option(help="Voxels of a crop's side.")] = 96,
    seconds: Annotated[float, typer.Option(help="Of each measurement.")] = 1.5,
    rounds: Annotated[int, typer.Option(help="The best of so many counts.")] = 3,
    cache: Annotated[bool, typer.Option(help="Crops of a cache, not of the store.")] = False,
) -> None:
    """Print crops per second, and each as a ratio to medssl in one process."""
    torch.set_num_threads(1)
    store = prepare(scratch)
    settings = CacheSettings(scratch / "cache") if cache else None
    source = CropSource(store, list(store), [size] * 3, IntensityContract(), 0, cache=settings)
    for i in range(VOLUMES):
        source[i]
    best: dict[str, float] = {}
    absent, draws = [], {}
    for name, make in contestants(store, scratch, size).items():
        module = next((m for word, m in NEEDS.items() if name.startswith(word)), None)
        if module is not None and importlib.util.find_spec(module) is None:
            absent.append(name)
        else:
            draws[name] = make()
            draws[name]()
    for _ in range(rounds):
        for name, start in streams(source).items():
            best[name] = max(best.get(name, 0), handed_over(start, seconds))
        for name, draw in draws.items():
            best[name] = max(best.get(name, 0), rate(draw, seconds))
    own = best["medssl, one process"]
    print(f"crops of {size}^3 from {VOLUMES} volumes, warm, best of {rounds}\n")
    print("| what | crops/s | medssl in one process is |\n| --- | --- | --- |")
    for name, found in sorted(best.items(), key=lambda item: -item[1]):
        print(f"| {name} | {found:.0f} | {own / found:.2f}x |")
    for name in absent:
        print(f"| {name} | not installed | |")
    ring = best["medssl, ring, 2 workers"]
    plain = best["plain DataLoader of the same, 2 workers"]
    print(f"\nthe ring is {ring / plain:.1f}x the plain DataLoader")


if __name__ == "__main__":
    typer.run(main)
