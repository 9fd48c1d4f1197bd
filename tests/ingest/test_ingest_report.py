"""The page of a store: its counts, its escapes, its size, what may be missing, the right sides."""

from __future__ import annotations

import base64
import errno
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from medssl.drawing.montage import layout
from medssl.errors import Exit, MedsslError
from medssl.ingest.report import RejectedGroup, page_or_note, write, write_report
from medssl.ingest.report.kept import keep_refusals
from medssl.ingest.run import ingest
from medssl.store import PAGE_NAME, LedgerRow, Outcome, Store, StoreInfo, StoreWriter, VolumeRecord

HOSTILE = "<script>alert('x')</script>"
VOID = {"meta", "img"}


class Page(HTMLParser):
    """The text of a page, its pictures and its charts; fails where a tag is left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.pictures: list[Image.Image] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "link", "iframe", "object")
        if tag == "img":
            kind, _, data = dict(attrs)["src"].partition(",")
            assert kind == "data:image/png;base64"
            self.pictures.append(Image.open(io.BytesIO(base64.b64decode(data))))
        elif tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def add(writer, number, modality="MR", shape=(6, 7, 5), spacing=2.0, label=None, **record):
    name = f"v{number:04d}"
    defaults = {"subject_id": f"s{number // 2}", "study_id": "st", "series_id": f"se{number}"}
    image = np.random.default_rng(number).integers(-100, 200, (1, *shape)).astype(np.int16)
    affine = np.diag([1.0, 1.0, spacing, 1.0]) if len(shape) == 3 else None
    known = VolumeRecord(volume_id=name, modality=modality, **{**defaults, **record})
    writer.add_volume(known, image, affine, label, None if affine is not None else (0.2, 0.1))
    return LedgerRow(f"f{number}", Outcome.USED, volume_id=name)


@pytest.fixture
def store(tmp_path) -> Store:
    """Two MR volumes, one with a label map, a CT, a radiograph, and files of every outcome."""
    label = np.zeros((6, 7, 5), dtype=np.uint8)
    label[1:3, 2:5, 3] = 2
    info = StoreInfo(
        label_names={2: HOSTILE}, made_by={"verb": "ingest", "options": {"a": HOSTILE}}
    )
    with StoreWriter(tmp_path / "store", info) as writer:
        rows = [
            add(writer, 0, label=label, labels={HOSTILE: HOSTILE}, part="echo_time=5"),
            add(writer, 1, split="train", defects=["LOCALIZER"]),
            add(writer, 2, "CT", source="dicom"),
            add(writer, 3, "DX", shape=(9, 8), source="dicom"),
        ]
        refused = [("SLICE_MISSING", "2 slices are missing")] * 3 + [("DERIVED", HOSTILE)]
        rows += [LedgerRow(f"g{i}", Outcome.REJECTED, *why) for i, why in enumerate(refused)]
        rows += [LedgerRow("h", Outcome.DUPLICATE, "DUPLICATE", "", "v0000")]
        rows += [LedgerRow(f"i{i}", Outcome.IGNORED, "NOT_AN_IMAGE") for i in range(2)]
        return writer.finish(rows, len(rows))


def test_the_counts_add_up_to_the_files_found(store, tmp_path):
    write_report(store, tmp_path / "p.html")
    text = read(tmp_path / "p.html").text
    assert "4 used + 1 duplicate + 4 rejected + 2 ignored = 11 files" in text
    assert "found in all 11" in text
    assert "SLICE_MISSING: 3 files" in text
    assert "Fetch the series again" in text
    assert "What was found: 2 slices are missing." in text
    assert "4 of 4 shown" in text


def test_what_is_known_of_a_volume_stands_beside_it(store, tmp_path):
    write_report(store, tmp_path / "p.html")
    page = read(tmp_path / "p.html")
    assert len(page.pictures) == 4
    for expected in (
        "MR 3D, echo_time=5", "6 x 7 x 5 voxels", "1 x 1 x 2 mm", "subject s0", "split train",
        "W 400 L 40 HU", "Accepted defect LOCALIZER", "sides are not known", store.fingerprint(),
        "Radiological convention:",
    ):  # fmt: skip
        assert expected in page.text
    coloured = [p for p in page.pictures if np.asarray(p).max() >= 224]
    assert len(coloured) == 1  # the one with a label map


def test_nothing_of_the_input_becomes_markup(store, tmp_path):
    store.manifest["manufacturer"] = HOSTILE
    store.manifest.to_parquet(store.path / "manifest.parquet")
    group = RejectedGroup("DERIVED", HOSTILE, 1, np.zeros((4, 6), dtype=np.uint8))
    keep_refusals(store, 1, [group])
    write_report(store, tmp_path / "p.html", notes=[HOSTILE])
    page = read(tmp_path / "p.html")
    html = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert page.text.count(HOSTILE) >= 7
    assert "<script" not in html
    assert "http" not in html
    assert "url(" not in html
    assert not re.search(r'(src|href)="(?!data:image/png;base64,|#)', html)


def test_the_same_store_gives_the_same_page(store, tmp_path):
    picture = np.arange(60, dtype=np.uint8).reshape(6, 10)
    for name in ("a.html", "b.html"):
        groups = [RejectedGroup("SLICE_MISSING", "x", 3, picture)]
        keep_refusals(store, 1, groups)
        write_report(Store.open(store.path), tmp_path / name, notes=["n"])
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_store_is_as_valid_with_its_page(store):
    before = store.fingerprint()
    page_or_note(notes := [], store)
    assert notes == []
    again = Store.open(store.path)
    assert again.fingerprint() == before
    for name in again:
        again[name].verify()
    assert sorted(p.name for p in store.path.iterdir()) == [
        "arrays", "ingest.html", "labels", "ledger.parquet", "manifest.parquet", "store.json",
    ]  # fmt: skip


def test_columns_may_be_missing_and_others_may_be_there(store, tmp_path):
    bare = store.manifest.drop(
        columns=["part", "split", "defects", "source", "p005", "p500", "p995", "fg_mean", "min"]
    )
    bare = bare.drop(columns=[c for c in bare if c.startswith("label:")])
    bare["manufacturer"], bare["site"] = ["A", "B", None, "B"], "north"
    bare["defects"], bare["part"] = [None, ["DERIVED"], None, None], None
    bare.to_parquet(store.path / "manifest.parquet")
    write_report(Store.open(store.path), tmp_path / "p.html")
    text = read(tmp_path / "p.html").text
    assert "Manufacturer B 2" in text
    assert "Manufacturer not stated 1" in text
    assert "Site north 4" in text
    assert "99.5th percentile" not in text.split("What stands out")[0]


def test_spacings_that_differ_by_rounding_alone_are_the_same(tmp_path):
    with StoreWriter(tmp_path / "store", StoreInfo()) as writer:
        spacings = (3.4, float(np.nextafter(3.4, 4)))
        rows = [add(writer, i, spacing=mm) for i, mm in enumerate(spacings)]
        store = writer.finish(rows, 2)
    write_report(store, tmp_path / "p.html")
    assert "Spacing along z 3.4 3.4 3.4 3.4 3.4 mm all the same" in read(tmp_path / "p.html").text


def test_thumbnails_of_refused_series_are_shown(store, tmp_path):
    first, large = np.zeros((8, 12), np.uint8), np.full((500, 100), 9, np.uint8)
    groups = [
        RejectedGroup("SLICE_MISSING", "2 slices are missing", 2, first),
        RejectedGroup("SLICE_MISSING", "2 slices are missing", 1, large),
        RejectedGroup("DERIVED", "a screen", 1),
    ]
    keep_refusals(store, 1, groups)
    write_report(store, tmp_path / "p.html")
    page = read(tmp_path / "p.html")
    assert "SLICE_MISSING: 3 files in 2 groups" in page.text
    sizes = [picture.size for picture in page.pictures[:2]]
    assert sizes == [(12, 8), (25, 125)]
    assert len(page.pictures) == 6


def test_many_volumes_and_thumbnails_make_a_page_of_bounded_size(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (128, 128)).astype(np.uint8)
    with StoreWriter(tmp_path / "store", StoreInfo()) as writer:
        rows = [add(writer, i, shape=(4, 4, 4), source="dicom") for i in range(100)]
        rows += [LedgerRow(f"g{i}", Outcome.REJECTED, "DERIVED", f"d{i}") for i in range(200)]
        store = writer.finish(rows, 300)
    groups = [RejectedGroup("DERIVED", f"d{i}", 1, noise) for i in range(200)]
    keep_refusals(store, 1, groups)
    write_report(store, tmp_path / "p.html")
    page = read(tmp_path / "p.html")
    assert "60 of 100 shown" in page.text
    assert "60 of 200 pictures are shown" in page.text
    assert "188 other details 188" in page.text
    assert len(page.pictures) == 120
    assert (tmp_path / "p.html").stat().st_size < 15_000_000


def test_pictures_stop_where_they_weigh_too_much(store, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "MOST_BYTES", 1)
    write_report(store, tmp_path / "p.html")
    page = read(tmp_path / "p.html")
    assert "1 of 4 shown" in page.text
    assert len(page.pictures) == 1


def test_a_part_of_the_store_can_be_shown(store, tmp_path):
    write_report(store, tmp_path / "p.html", only=["v0002"])
    page = read(tmp_path / "p.html")
    assert "volumes of 4 in the store" in page.text
    assert "1 of 1 shown" in page.text
    assert "11 files" in page.text  # the ledger is of all


def test_a_page_is_there_whole_or_not_at_all(store, monkeypatch):
    page_or_note([], store)
    before = (store.path / PAGE_NAME).read_bytes()

    def broken(*_):
        raise OSError(errno.ENOSPC, "disk")

    monkeypatch.setattr(write.Path, "replace", broken)
    page_or_note(notes := ["other"], store)
    assert "DISK_FULL" in notes[1]
    assert (store.path / PAGE_NAME).read_bytes() == before
    assert not list(store.path.glob(".*"))


def test_a_damaged_array_is_named_and_gives_no_page(store, tmp_path):
    (store.path / "arrays" / "v0002.npy").write_bytes(b"no array")
    with pytest.raises(MedsslError) as raised:
        write_report(store, tmp_path / "p.html")
    assert (raised.value.code, raised.value.where) == ("STORE_CORRUPT", "v0002")
    assert not (tmp_path / "p.html").exists()


BLOB = np.array([12.0, 8.0, 10.0])
"""Right, anterior and superior of the middle, mm."""
STACKS = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "feet first, from below": ((-1, 0, 0), (0, 1, 0)),
}


def write_blob(folder, make_slice, across, down):
    """A cube of 40 mm, 1 mm voxels, bright within 4 mm of the blob; directions in LPS."""
    folder.mkdir()
    across, down = np.array(across, float), np.array(down, float)
    normal = np.cross(across, down)
    column, row = np.meshgrid(np.arange(40) - 19.5, np.arange(40) - 19.5)
    for i in range(40):
        origin = -19.5 * (across + down) + (i - 19.5) * normal
        lps = column[..., None] * across + row[..., None] * down + (i - 19.5) * normal
        near = np.linalg.norm(lps * [-1, -1, 1] - BLOB, axis=-1) < 4
        make_slice(
            np.where(near, 1000, 0).astype(np.uint16),
            position=tuple(origin), orientation=(*across, *down),
        ).save_as(folder / f"{i}.dcm", enforce_file_format=True)  # fmt: skip


@pytest.mark.parametrize("stack", STACKS)
def test_a_blob_in_the_patient_is_on_its_side_of_every_plane(tmp_path, make_slice, stack):
    """From DICOM to the page: where the patient has it is where the letters say it is."""
    write_blob(tmp_path / "in", make_slice, *STACKS[stack])
    summary = ingest(tmp_path / "in", tmp_path / "store", workers=1)
    assert summary.exit_code is Exit.DONE
    picture = np.asarray(read(tmp_path / "store" / PAGE_NAME).pictures[0])
    x, y, z = (BLOB + 20) / 40  # shares of the way to the right, the front and the top
    expected = {"axial": (1 - x, 1 - y), "coronal": (1 - x, 1 - z), "sagittal": (1 - y, 1 - z)}
    for panel in layout((40, 40, 40), (1, 1, 1)).panels:
        seen = picture[panel.top : panel.top + panel.height, panel.left : panel.left + panel.width]
        rows, columns = np.nonzero(seen > 150)
        place = (columns.mean() + 0.5) / panel.width, (rows.mean() + 0.5) / panel.height
        assert place == pytest.approx(expected[panel.plane], abs=0.02)


def test_ingest_writes_the_page_without_identifiers(tmp_path, write_stack):
    write_stack(tmp_path / "in" / "DOE_JANE", series="1.1", PatientBirthDate="19500102")
    write_stack(tmp_path / "in" / "gap", series="1.2", heights=[0, 2, 6])
    summary = ingest(tmp_path / "in", tmp_path / "store")
    assert summary.exit_code is Exit.SOME_REJECTED
    html = (tmp_path / "store" / PAGE_NAME).read_text(encoding="utf-8")
    assert "SLICE_MISSING" in html
    for canary in ("DOE", "Doe", "Jane", "JANE", "1950", "P1<", "1.2.3", str(tmp_path)):
        assert canary not in html


def test_a_page_that_fails_costs_neither_the_store_nor_the_exit_code(
    tmp_path, write_stack, monkeypatch
):
    def broken(*_, **__):
        raise RuntimeError("drawing")

    monkeypatch.setattr(write, "write_report", broken)
    write_stack(tmp_path / "in")
    summary = ingest(tmp_path / "in", tmp_path / "store")
    assert summary.exit_code is Exit.DONE
    assert "RuntimeError" in summary.notes[-1]
    assert len(Store.open(tmp_path / "store")) == 1
    assert not (tmp_path / "store" / PAGE_NAME).exists()


def test_a_store_that_is_added_to_gets_a_new_page(tmp_path, write_stack):
    write_stack(tmp_path / "in" / "a", series="1.1")
    ingest(tmp_path / "in", tmp_path / "store")
    page = tmp_path / "store" / PAGE_NAME
    assert "1 of 1 shown" in read(page).text
    write_stack(tmp_path / "in" / "b", series="1.2", heights=[0, 3, 6])
    ingest(tmp_path / "in", tmp_path / "store", add=True)
    added = page.read_bytes()
    assert "2 of 2 shown" in read(page).text
    assert "Files of 2 ingests; one that was read again" in read(page).text
    assert "added to batch 2, verb ingest" in read(page).text
    page.unlink()  # as if killed before it was drawn
    ingest(tmp_path / "in", tmp_path / "store", add=True)
    assert page.read_bytes() == added
