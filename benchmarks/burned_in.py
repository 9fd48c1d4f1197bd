"""How well burned-in text is found: real slices and phantom radiographs, with text and without.

Thresholds are chosen on one half of the subjects (`--half tune`); what is reported is measured on
the other (`--half report`). Pictures without any anatomy (some public sets hold noise in place of
pixels) and small ones count as clean pictures only.

    python benchmarks/burned_in.py DATA --half report
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from medssl.ingest.burned_in import CERTAIN, SUSPICIOUS, characters, constant_characters
from medssl.ingest.dicom import find_volumes
from medssl.ingest.nifti import read_nifti

TEXTS = ("DOE^JANE", "1970-01-31", "MRN 4711234", "Doe, Jane F 41Y", "St. Mary Hospital")
SIZES = (8, 10, 12, 16, 24, 32)
LOOKS = ("bright", "grey", "dark", "boxed")
MONO = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"
PER_VOLUME = 4


class Half(StrEnum):
    """Which subjects."""

    TUNE = "tune"
    REPORT = "report"


@dataclass(frozen=True)
class Picture:
    """A clean picture, (row, column), or volume, (row, column, slice): of what, of whom; ``plain``
    where it shows no anatomy or is too small for text."""

    pixels: np.ndarray
    kind: str
    subject: str
    plain: bool = False


def half_of(subject: str) -> Half:
    """The half of a subject."""
    return list(Half)[hashlib.sha256(subject.encode()).digest()[0] % 2]


def dicom(root: Path) -> Iterator[Picture]:
    """Slices of every volume, at most one volume of a time series."""
    files = [path for path in (root / "dicom").rglob("*") if path.is_file()]
    seen = set()
    for volume in find_volumes(files, single_slices=True)[0]:
        if volume.dims == 3 and volume.series_uid in seen:
            continue
        seen.add(volume.series_uid)
        array = volume.decode()[0]
        folder = volume.files[0].relative_to(root / "dicom").parts[0]
        subject, plain = f"{folder} {volume.patient_id}", folder == "vendors"
        small = min(array.shape[:2]) < 128
        kind = "noise" if plain else f"{volume.modality}, small" if small else volume.modality
        for pixels in [array] if array.ndim == 2 else _some(array):
            yield Picture(pixels, f"{kind}, slices", subject, plain or small)
        if array.ndim == 3:
            pixels = array.transpose(1, 0, 2)
            yield Picture(pixels, f"{kind}, volumes", subject, plain or small)


def _some(array: np.ndarray) -> list[np.ndarray]:
    step = max(1, array.shape[2] // PER_VOLUME)
    return [array[:, :, k].T for k in range(0, array.shape[2], step)]


def small(root: Path) -> Iterator[Picture]:
    """Slices of the hippocampus set and of the chest set, too small for text."""
    for path in sorted((root / "hippocampus" / "images").glob("*.nii.gz")):
        array = read_nifti(path)[0][0]
        yield Picture(array, "MR, small, volumes", path.stem, True)
        for pixels in _some(array):
            yield Picture(pixels, "MR, small, slices", path.stem, True)
    with np.load(root / "pneumonia2d" / "pneumoniamnist.npz") as archive:
        for number, pixels in enumerate(archive["train_images"]):
            yield Picture(pixels, "CR, small, slices", f"chest {number}", True)


def radiographs(count: int = 24) -> Iterator[Picture]:
    """Projections of phantom torsos with grain, as radiographs."""
    from medssl.phantom import torso

    for number in range(count):
        dense = np.clip(torso(number).image[0] + 1000.0, 0, None).mean(axis=1).T[::-1]
        shown = ndimage.zoom(dense, (8, 5), order=1)
        shown += np.random.default_rng(number).normal(0, 0.02 * shown.max(), shown.shape)
        yield Picture(shown, "phantom radiograph", f"phantom {number}")


def count(pixels: np.ndarray) -> int:
    """Characters found in a picture, or in all slices of a volume."""
    return characters(pixels) if pixels.ndim == 2 else constant_characters(pixels)


def with_text(
    picture: Picture, text: str, size: int, look: str, rng: np.random.Generator
) -> np.ndarray | None:
    """The picture with a line of text, or None where it is too small for it."""
    rows, columns = picture.pixels.shape[:2]
    font = ImageFont.truetype(MONO, size) if rng.random() < 0.5 else ImageFont.load_default(size)
    width, height = (int(np.ceil(v)) for v in font.getbbox(text)[2:])
    if width + 8 > columns or height + 8 > rows:
        return None
    # half of them in the margins, where machines write, half anywhere
    column = int(rng.choice([4, columns - width - 4]))
    row = int(rng.choice([4, rows - height - 4]))
    if rng.random() < 0.5:
        column, row = int(rng.integers(columns - width)), int(rng.integers(rows - height))
    layer = Image.new("L", (columns, rows), 0)
    ImageDraw.Draw(layer).text((column, row), text, fill=255, font=font)
    ink = np.asarray(layer).reshape(rows, columns, *[1] * (picture.pixels.ndim - 2)) / 255.0
    out = picture.pixels.astype(np.float64)
    low, high = out.min(), out.max()
    if look in ("boxed", "dark"):
        around = low if look == "boxed" else high
        out[max(0, row - 2) : row + height + 2, max(0, column - 2) : column + width + 2] = around
    value = {"grey": low + 0.7 * (high - low), "dark": low}.get(look, high)
    return out * (1 - ink) + value * ink


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the real data.")],
    half: Annotated[Half, typer.Option(help="Which subjects.")] = Half.REPORT,
) -> None:
    """Print how often text is found, and how often it is where there is none."""
    pictures = [
        picture
        for source in (dicom(data), small(data), radiographs())
        for picture in source
        if half_of(picture.subject) is half
    ]
    print(f"Half: {half.value}. Characters in a line: suspicious {SUSPICIOUS}, certain {CERTAIN}\n")
    _clean(pictures)
    _written([picture for picture in pictures if not picture.plain])


def _clean(pictures: list[Picture]) -> None:
    clean = defaultdict(list)
    for picture in pictures:
        clean[picture.kind].append((count(picture.pixels), picture.subject))
    print("| clean | subjects | pictures | suspicious | certain | most characters |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind, found in sorted(clean.items()):
        counts = np.array([number for number, _ in found])
        row = [len({subject for _, subject in found}), len(counts)]
        row += [int((counts >= limit).sum()) for limit in (SUSPICIOUS, CERTAIN)]
        print(f"| {kind} | {' | '.join(map(str, [*row, counts.max()]))} |")


def _written(pictures: list[Picture]) -> None:
    rng = np.random.default_rng(0)
    results = defaultdict(list)
    for picture in pictures:
        for size, look in itertools.product(SIZES, LOOKS):
            text = TEXTS[int(rng.integers(len(TEXTS)))]
            drawn = with_text(picture, text, size, look, rng)
            if drawn is None:
                continue
            found = count(drawn)
            for name in ("all", picture.kind, f"{size} pixels", look):
                results[name].append(found)
    print(
        "\n| with one line of text | pictures | suspicious | certain |\n| --- | --- | --- | --- |"
    )
    for name, counts in results.items():
        found = np.array(counts)
        shares = [f"{100 * (found >= limit).mean():.0f} %" for limit in (SUSPICIOUS, CERTAIN)]
        print(f"| {name} | {len(found)} | {' | '.join(shares)} |")


if __name__ == "__main__":
    typer.run(main)
