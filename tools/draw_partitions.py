"""Draw partitions of real volumes: python tools/draw_partitions.py IMAGES OUT.png [AXIS] [COUNT]

IMAGES is a folder of NIfTI files, one subject each; AXIS is 0 (right), 1 (front) or 2 (up).
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from medssl.training.partition_figure import partition_figure

SHOWN = 4


def main(images: Path, out: Path, axis: int = 1, count: int = 4) -> None:
    """Of volumes spread over the folder."""
    paths = sorted(images.glob("*.nii.gz"))
    subjects = []
    for path in paths[:: max(1, len(paths) // SHOWN)][:SHOWN]:
        image = nib.as_closest_canonical(nib.load(path))
        subjects.append((np.asarray(image.dataobj), tuple(map(float, image.header.get_zooms()))))
    partition_figure(subjects, axis, count).savefig(out, dpi=110)
    with Image.open(out) as picture:
        small = picture.convert("RGB").quantize(256)
    small.save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
