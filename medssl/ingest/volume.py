"""A volume of a DICOM series: its slices, their place, and their voxels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.ingest.colour import FrameReader
from medssl.ingest.facts import Facts, shared_facts
from medssl.ingest.headers import SliceHeader
from medssl.ingest.pixels import SliceReader, read_plain
from medssl.ingest.resample import resample
from medssl.store.original import OriginalGrid

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DicomVolume:
    """Slices whose headers make one volume of a series. ``series_uid``, ``study_uid`` and
    ``patient_id`` are the real ones.

    Attributes:
        headers: its slices in slice order, along the normal of the image plane.
        affine: 4x4 float64, voxel (column, row, slice) to RAS mm; None for a 2D image.
        part: what tells it from the other volumes of its series, "" where there is no other.
        duplicates: further files with the same images.
        defects: codes that were accepted on request.
        original: where its slices lie, if they are resampled to the grid of the affine.
        resampled: why, such as "tilt 12.50 degrees"; "" where they are not.
    """

    headers: list[SliceHeader]
    affine: Array | None
    part: str = ""
    duplicates: list[Path] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)
    original: OriginalGrid | None = None
    resampled: str = ""

    @property
    def files(self) -> list[Path]:
        """Its files, in slice order, each once."""
        return list(dict.fromkeys(header.path for header in self.headers))

    @property
    def kind(self) -> str:
        """How it is stored: "classic", "enhanced", "mosaic", "projection" or "picture"."""
        return self.headers[0].kind

    @property
    def modality(self) -> str:
        """DICOM code: "CT", "MR", "CR", "US", ...; "OT" for secondary captures."""
        return self.headers[0].modality

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return self.headers[0].series_uid

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID, may be empty."""
        return self.headers[0].study_uid

    @property
    def patient_id(self) -> str:
        """PatientID, may be empty."""
        return self.headers[0].patient_id

    @property
    def facts(self) -> Facts:
        """What its slices agree on of the facts in their headers, real values."""
        return shared_facts(header.facts for header in self.headers)

    @property
    def pixel_spacing(self) -> tuple[float, float]:
        """Distance between rows, then between columns, mm."""
        rows, columns = self.headers[0].pose.pixel_spacing
        return rows, columns

    @property
    def dims(self) -> int:
        """3, or 2 for a single slice, a radiograph or a picture."""
        return 2 if self.affine is None else 3

    @property
    def provenance(self) -> dict[str, Any]:
        """What the manifest says of resampling: fields of ``VolumeRecord``, plain values."""
        if self.original is None:
            return {}
        return {
            "resampled": self.resampled,
            "source_affine": list(self.original.affine),
            "source_shape": list(self.original.shape),
            "source_positions": list(self.original.positions),
        }

    def decode(self, reader: SliceReader | None = None) -> Array:
        """Read the voxels.

        Args:
            reader: one for all volumes of a file, so that it is read once.

        Returns:
            (1, x, y, z) on the grid of :attr:`affine`, x along the columns and y along the rows;
            (1, row, column) of a 2D image, (3, row, column) RGB of one in colour. CT in HU, MR in
            arbitrary units, PT in the units of its series.

        Raises:
            MedsslError: as :meth:`medssl.ingest.colour.FrameReader.read`.
        """
        reader = reader or FrameReader()
        if self.affine is None:
            image = reader.read(self.headers[0])
            return image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
        if self.original is not None:
            return resample(lambda k: reader.read(self.headers[k]).T, self.original)[None]
        plain = read_plain(self.headers)
        if plain is not None:
            return plain.transpose(2, 1, 0)[None]
        # Slice-wise types can differ (one slice may rescale by 1); numpy finds the common one.
        return np.stack([reader.read(header).T for header in self.headers], axis=-1)[None]
