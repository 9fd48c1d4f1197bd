"""Draw views of one place in two patients: python tools/draw_aligned_crops.py OUT.png STORE BUNDLE

STORE is a store of the hippocampus, BUNDLE that of an embedding of places. Crops of validation
subjects are paired as Alice pairs them; the first ones are drawn, whatever they look like. In each
row a place of one patient, with the view that is cut around it, then where it is in another one by
its relative position and by the embedding. Labels are outlined to judge by; Alice sees none.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from PIL import Image
from torch import Tensor

from medssl.bundle import Bundle, InputContract
from medssl.drawing.planes import PALETTE, border_letters, take_plane
from medssl.methods import Crops
from medssl.methods.pairs import Pairing, Pairs, apart_by
from medssl.methods.place_matcher import PlaceMatcher
from medssl.store import Store
from medssl.studies.data import study_split
from medssl.training.data import CropSource, loader
from medssl.training.pretrain_task import crops_of
from medssl.views.places import free_range

CROP, VIEW = (32, 48, 32), (16, 24, 16)
ROWS, SCORE = 4, 0.7
MM = 0.064  # inches
INK = "#f0f0f0"
RIM = [Stroke(linewidth=1.8, foreground="black"), Normal()]
PLACE = "#ff5fe0"
NAMES = {1: "anterior hippocampus", 2: "posterior"}
OUTLINE = {value: [part / 255 for part in PALETTE[value - 1]] for value in NAMES}


def batch_of(store: Store, contract: InputContract) -> tuple[Crops, Tensor]:
    """Crops of validation subjects, one volume each, and their label maps (B, 1, *crop)."""
    split = study_split(store)
    volumes: dict[str, str] = {}
    for volume_id in store.manifest["volume_id"]:
        subject = store[volume_id].subject_id
        if split[subject] == "validation":
            volumes.setdefault(subject, volume_id)
    source = CropSource(
        store, list(volumes.values()), CROP, contract.intensity, 0, spacing=contract.spacing,
        labels=True,
    )  # fmt: skip
    batch = next(iter(loader(source, 2 * ROWS, 0, 1, 0)))
    return crops_of(batch), batch["label"]


def panel(axis: Axes, image: Tensor, label: Tensor, place: Tensor, title: str, note: str) -> None:
    """The sagittal plane of a crop (x, y, z) through a place, with the view around it."""
    at = tuple(int(n) for n in place.round())
    grey = take_plane(image.numpy(), "sagittal", at)
    low, high = np.percentile(image.numpy(), (1, 99.5))
    axis.imshow(grey, cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
    shown = take_plane(label.numpy(), "sagittal", at)
    for value, colour in OUTLINE.items():
        if (shown == value).any():
            axis.contour(shown == value, [0.5], colors=[colour], linewidths=1.1)
    height, width = grey.shape
    across, down = width - 1 - float(place[1]), height - 1 - float(place[2])
    corner = across - VIEW[1] / 2, down - VIEW[2] / 2
    axis.add_patch(Rectangle(corner, VIEW[1], VIEW[2], fill=False, color=PLACE, linewidth=1.4))
    axis.plot(across, down, "+", color=PLACE, markersize=9, markeredgewidth=1.4)
    letters = border_letters(np.eye(4), "sagittal")
    for side, x, y in (("left", 0.02, 0.5), ("right", 0.98, 0.5), ("top", 0.5, 0.97),
                       ("bottom", 0.5, 0.03)):  # fmt: skip
        axis.text(
            x, y, letters[side], transform=axis.transAxes, color=INK, fontsize=8,
            ha={"left": "left", "right": "right"}.get(side, "center"),
            va={"top": "top", "bottom": "bottom"}.get(side, "center"), path_effects=RIM,
        )  # fmt: skip
    axis.plot([1, 11], [height - 2.5] * 2, color=INK, linewidth=2.2, path_effects=RIM)
    axis.text(1, height - 4, "10 mm", color=INK, fontsize=6.5, path_effects=RIM)
    axis.set_title(title, fontsize=8, loc="left", pad=3)
    axis.set_title(note, fontsize=7, loc="right", pad=3)
    axis.set_axis_off()


def titles(number: int, by_position: Pairs, score: float, apart: float) -> list[tuple[str, str]]:
    """What stands above the three panels of a row, left and right."""
    first, second = (chr(ord("A") + 2 * number + k) for k in range(2))
    counts = "counts" if by_position.weight[2 * number] else "does not count"
    found = "counts" if score > SCORE else "does not count"
    return [
        (f"Patient {first}: a place", ""),
        (f"Patient {second}: position", counts),
        (
            f"Patient {second}: embedding",
            f"alike {score:.2f}, {found}; {100 * apart:.0f} % off position",
        ),
    ]


def draw(crops: Crops, label: Tensor, matcher: PlaceMatcher, out: Path) -> None:
    """Write the figure."""
    pairs = Pairing("position", CROP, VIEW)(crops)
    low, high = free_range(CROP, VIEW, torch.device("cpu"))
    found, score = matcher.match(crops.image, pairs.partner, pairs.first[..., None], low, high)
    apart = apart_by(crops, crops.take(pairs.partner), pairs.first[..., None], found)
    width, height = 3 * (CROP[1] * MM + 0.12), ROWS * (CROP[2] * MM + 0.28) + 0.35
    figure, axes = plt.subplots(ROWS, 3, figsize=(width, height), squeeze=False)
    for number in range(ROWS):
        row = 2 * number  # its partner is the next one, which is not drawn again
        other = int(pairs.partner[row])
        named = titles(number, pairs, float(score[row, 0]), float(apart[row, 0]))
        places = (pairs.first[row], pairs.second[row], found[row, :, 0])
        for axis, whose, place, title in zip(
            axes[number], (row, other, other), places, named, strict=True
        ):
            panel(axis, crops.image[whose, 0], label[whose, 0], place, *title)
    lines: list[Any] = [Line2D([], [], color=c, label=NAMES[v]) for v, c in OUTLINE.items()]
    told = "place and view; each panel is the sagittal plane through its place"
    lines.append(Line2D([], [], color=PLACE, marker="+", label=told))
    figure.legend(handles=lines, ncols=3, loc="lower center", frameon=False, fontsize=8)
    figure.subplots_adjust(
        left=0.01, right=0.99, top=1 - 0.22 / height, bottom=0.32 / height, wspace=0.03, hspace=0.17
    )
    figure.savefig(out, dpi=100)
    with Image.open(out) as picture:
        picture.convert("RGB").quantize(200).save(out, optimize=True)


if __name__ == "__main__":
    bundle = Bundle.load(sys.argv[3])
    drawn, labels = batch_of(Store.open(Path(sys.argv[2])), bundle.spec.contract)
    draw(drawn, labels, PlaceMatcher(bundle.embedding()), Path(sys.argv[1]))
