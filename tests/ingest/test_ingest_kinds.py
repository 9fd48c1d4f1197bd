"""Every kind of DICOM object has its row in the ledger: used, kept out, ignored or rejected."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import uid

from medssl.ingest.dicom import find_volumes
from medssl.ingest.run import ingest
from medssl.store import Store


@pytest.fixture
def one(tmp_path, make_slice):
    """Write one object; returns (code, detail) of its rejection, or None."""

    def make(sop_class, pixels=True, allow=(), **tags):
        data = make_slice(np.arange(12, dtype=np.uint16).reshape(3, 4), SOPClassUID=sop_class)
        if not pixels:
            del data.PixelData, data.Rows, data.Columns
        for name, value in tags.items():
            setattr(data, name, value)
        data.save_as(tmp_path / "one", enforce_file_format=True)
        _, rejections = find_volumes([tmp_path / "one"], single_slices=True, allow=allow)
        return (rejections[0].code, rejections[0].detail) if rejections else None

    return make


@pytest.mark.parametrize(
    ("sop_class", "what"),
    [
        (uid.KeyObjectSelectionDocumentStorage, "A key object selection"),
        (uid.XRayRadiationDoseSRStorage, "A radiation dose report"),
        (uid.ComprehensiveSRStorage, "A structured report"),
        (uid.GrayscaleSoftcopyPresentationStateStorage, "A presentation state"),
        (uid.TwelveLeadECGWaveformStorage, "A waveform"),
        (uid.EncapsulatedPDFStorage, "An encapsulated document"),
        (uid.SpatialRegistrationStorage, "A spatial registration"),
        (uid.RawDataStorage, "Raw data"),
    ],
)
def test_documents_are_no_images(one, sop_class, what):
    assert one(sop_class, pixels=False) == ("NOT_AN_IMAGE", what)


@pytest.mark.parametrize(
    ("sop_class", "name"),
    [
        (uid.RTPlanStorage, "RT Plan Storage"),
    ],
)
def test_other_objects_without_pixels_are_named(one, sop_class, name):
    code, detail = one(sop_class, pixels=False)
    assert (code, name in detail) == ("MODALITY_UNSUPPORTED", True)


def test_images_of_other_kinds_are_named_and_private_ones_are_not(one):
    code, detail = one(uid.NuclearMedicineImageStorage)
    assert (code, "Nuclear Medicine" in detail) == ("MODALITY_UNSUPPORTED", True)
    assert one("1.2.826.0.1.3680043.2.1") == (
        "MODALITY_UNSUPPORTED",
        "A kind of image not read yet",
    )


@pytest.mark.parametrize(
    ("word", "code", "what"),
    [
        ("LOCALIZER", "LOCALIZER", "A localizer"),
        ("PROJECTION IMAGE", "DERIVED", "A projection"),
        ("SCREEN SAVE", "DERIVED", "A saved screen"),
        ("DOSE_INFO", "DERIVED", "A page of dose information"),
    ],
)
def test_images_that_are_no_acquired_slices_are_kept_out_unless_allowed(one, word, code, what):
    tags = {"ImageType": ["ORIGINAL", "PRIMARY", word], "Modality": "CT"}
    tags |= {"RescaleSlope": 1, "RescaleIntercept": 0}
    assert one(uid.CTImageStorage, **tags) == (code, f"{what}, Image Type says")
    assert one(uid.CTImageStorage, allow={code}, **tags) is None


def test_a_secondary_capture_is_kept_out_unless_allowed(one):
    assert one(uid.SecondaryCaptureImageStorage) == ("DERIVED", "A secondary capture")
    assert one(uid.SecondaryCaptureImageStorage, allow={"DERIVED"}) is None


def test_colours_over_a_grey_picture_are_refused(one):
    code, _ = one(uid.UltrasoundImageStorage, PixelPresentation="MIXED")
    assert code == "COLOUR_UNSUPPORTED"


def test_a_report_in_the_series_of_its_images_does_not_cost_them(tmp_path, write_stack, make_slice):
    write_stack(tmp_path / "in", 4)
    report = make_slice(
        np.zeros((3, 4), np.uint16), SOPClassUID=uid.KeyObjectSelectionDocumentStorage
    )
    del report.PixelData, report.Rows, report.Columns
    report.save_as(tmp_path / "in" / "report", enforce_file_format=True)
    summary = ingest(tmp_path / "in", tmp_path / "store")
    assert summary.counts == {("ignored", "NOT_AN_IMAGE"): 1, ("used", ""): 4}
    details = Store.open(tmp_path / "store").ledger["detail"].tolist()
    assert "A key object selection" in details
