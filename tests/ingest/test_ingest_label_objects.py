"""Which volume a label object belongs to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medssl.ingest.geometry import SlicePose
from medssl.ingest.headers import SliceHeader
from medssl.ingest.label_objects import WHOLE, LabelObject, match
from medssl.ingest.volume import DicomVolume


def header(series, sop, frame=0, patient="P1", z=0.0):
    return SliceHeader(
        path=Path(sop),
        sop_uid=sop,
        series_uid=series,
        study_uid="1",
        patient_id=patient,
        frame_uid="F" + series,
        modality="MR",
        pose=SlicePose((1, 0, 0, 0, 1, 0), (5.0, 6.0, z), (3.0, 2.0), (4, 7)),
        slope=1,
        intercept=0,
        bits_stored=16,
        signed=False,
        thickness=2.0,
        declared_spacing=None,
        instance=1,
        marks=(),
        picture=(4, 7),
        frame=frame,
    )


def volume(series, *sops, **more):
    return DicomVolume([header(series, sop, **more) for sop in sops], np.eye(4))


def label(name="l", images=(), series=(), structures=("liver",), patient="P1", frames=()):
    pairs = tuple((i, WHOLE) if isinstance(i, str) else i for i in images)
    return LabelObject(Path(name), "seg", name, patient, frames, series, pairs, structures)


A, B = volume("A", "a1", "a2"), volume("B", "b1", "b2")
ENHANCED = [
    DicomVolume([header("E", "e", frame) for frame in frames], np.eye(4), part)
    for frames, part in (((0, 2), "echo=1"), ((1, 3), "echo=2"))
]


@pytest.mark.parametrize(
    ("found", "index"),
    [
        (label(images=["a1"]), 0),
        (label(images=["b2", "b1"], series=("B",), frames=("FB",)), 1),
        (label(images=["b2", "gone"]), 1),
        (label(images=["b1", "a1"], series=("B",)), 1),  # the series decides
        (label(series=("B",)), 1),
        (label(images=[("e", 1)]), 3),
        (label(images=[("e", 2), ("e", 0)]), 2),
        (label(images=["a1"], patient=""), 0),
        (label(images=["a1"], frames=("",)), 0),
    ],
)
def test_the_one_volume_that_has_its_images(found, index):
    matched, rejections = match([found], [A, B, *ENHANCED])
    assert rejections == []
    assert matched == {index: [found]}


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (label(images=["c1"]), "LABEL_WITHOUT_IMAGE"),
        (label(), "LABEL_WITHOUT_IMAGE"),
        (label(series=("C",)), "LABEL_WITHOUT_IMAGE"),
        (label(images=["a1"], series=("B",)), "LABEL_WITHOUT_IMAGE"),
        (label(images=["a1"], patient="P2"), "LABEL_WITHOUT_IMAGE"),
        (label(images=[("e", 7)]), "LABEL_WITHOUT_IMAGE"),
        (label(images=["a1", "b1"]), "LABEL_AMBIGUOUS"),
        (label(images=["e"]), "LABEL_AMBIGUOUS"),
        (label(images=[("e", 0), ("e", 1)]), "LABEL_AMBIGUOUS"),
        (label(series=("E",)), "LABEL_AMBIGUOUS"),
        (label(images=["a1"], frames=("FB",)), "LABEL_GRID_MISMATCH"),
        (label(images=["a1"], frames=("FA", "FB")), "LABEL_GRID_MISMATCH"),
    ],
)
def test_none_or_several_refuse_the_object_alone(found, code):
    good = label("good", images=["a2"], structures=("aorta",))
    matched, (rejection,) = match([found, good], [A, B, *ENHANCED])
    assert matched == {0: [good]}
    assert (rejection.files, rejection.code) == ([found.path], code)


def test_two_versions_of_a_structure_refuse_both_files():
    one, two = label("1", images=["a1"]), label("2", images=["a2"], structures=("aorta", "liver"))
    apart, elsewhere = label("3", images=["a1"], structures=("vein",)), label("4", images=["b1"])
    matched, rejections = match([one, two, apart, elsewhere], [A, B])
    assert matched == {0: [apart], 1: [elsewhere]}
    assert [(r.files, r.code) for r in rejections] == [
        ([one.path], "DUPLICATE_CONFLICT"),
        ([two.path], "DUPLICATE_CONFLICT"),
    ]
