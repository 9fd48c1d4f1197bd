"""`medssl locate`: scanner space, the files' own voxels, the map, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from known_places import KnownPlaces
from typer.testing import CliRunner

from medssl.bundle import Architecture, Bundle, BundleSpec, EncoderSpec, InputContract
from medssl.cli import app
from medssl.errors import MedsslError
from medssl.networks import PlaceEmbedding, build_encoder
from medssl.predict.locate import locate_point
from medssl.store.intensity import IntensityContract

# Axes of the second file run to the left, to the feet and to the front, and are turned a little.
TURN = np.array([[0.995, -0.0998, 0.0], [0.0998, 0.995, 0.0], [0.0, 0.0, 1.0]])
SIZES = {"dim": 2, "fine_stride": 1, "width": 4}


def numbered(*shape: int) -> np.ndarray:
    numbers = np.random.default_rng(0).permutation(int(np.prod(shape)))
    return (numbers * (9999 / numbers.size)).round().astype(np.int16).reshape(shape)


def make_bundle(path: Path, dims: int, embedding: bool = True) -> Path:
    encoder = EncoderSpec(name="unet", dims=dims, options={"widths": [4, 8]})
    spec = BundleSpec(
        kind="encoder",
        architecture=Architecture(encoder=encoder, embedding=SIZES if embedding else None),
        contract=InputContract(
            dims=dims,
            patch_size=[8] * dims,
            intensity=IntensityContract(scheme="range", low=0, high=10_000),
        ),
    )
    network = PlaceEmbedding(build_encoder("unet", dims, 1, widths=[4, 8]), **SIZES)
    return Bundle.save(path, network, spec).path


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles whose embedding is right by construction."""
    monkeypatch.setattr(Bundle, "embedding", lambda b: KnownPlaces(b.spec.contract.dims))


@pytest.fixture
def scans(tmp_path: Path) -> tuple[Path, Path]:
    """Two files of one anatomy: in RAS, and in LIA, turned by 6 degrees and moved."""
    voxels, affine = numbered(12, 9, 10), np.diag([2.0, 1.0, 1.5, 1.0])
    affine[:3, 3] = [-10, 20, 5]
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "a.nii.gz")
    moved = affine.copy()
    moved[:3, :3] = TURN @ affine[:3, :3]
    moved[:3, 3] += [3, 5, 7]
    image = nib.Nifti1Image(voxels, moved)
    lia = nib.orientations.axcodes2ornt("LIA")
    start = nib.orientations.io_orientation(moved)
    turned = image.as_reoriented(nib.orientations.ornt_transform(start, lia))
    assert nib.aff2axcodes(turned.affine) == ("L", "I", "A")
    nib.save(turned, tmp_path / "b.nii.gz")
    return tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"


@pytest.mark.usefixtures("known")
def test_places_are_mm_of_the_scanner_and_voxels_of_the_files(tmp_path: Path, scans) -> None:
    bundle, (a, b) = make_bundle(tmp_path / "bundle", 3), scans
    voxel = np.array([7, 2, 8])
    start = nib.load(a).affine @ [*voxel, 1]
    found = locate_point(a, b, start[:3], bundle, device="cpu")
    second = nib.load(b)
    number = nib.load(a).get_fdata()[tuple(voxel)]
    assert second.get_fdata()[found.voxel] == number
    np.testing.assert_allclose(found.mm, (second.affine @ [*found.voxel, 1])[:3], atol=1e-2)
    np.testing.assert_allclose(found.asked_voxel, voxel, atol=1e-6)
    assert found.similarity == pytest.approx(1, abs=1e-4)
    assert found.return_mm == 0
    same = locate_point(a, b, voxel, bundle, voxel=True, device="cpu")
    assert same == found


@pytest.mark.usefixtures("known")
def test_the_map_lies_on_the_grid_of_b(tmp_path: Path, scans) -> None:
    bundle, (a, b) = make_bundle(tmp_path / "bundle", 3), scans
    out = tmp_path / "maps" / "like.nii.gz"
    found = locate_point(a, b, (7, 2, 8), bundle, voxel=True, map_path=out, device="cpu")
    written, second = nib.load(out), nib.load(b)
    np.testing.assert_allclose(written.affine, second.affine, atol=1e-5)
    values = written.get_fdata()
    assert values.shape == second.shape
    assert tuple(np.unravel_index(values.argmax(), values.shape)) == found.voxel
    angle = 0.9 * np.pi * (second.get_fdata() - 5000) / 5000
    number = nib.load(a).get_fdata()[7, 2, 8]
    expected = (np.cos(angle - 0.9 * np.pi * (number - 5000) / 5000) + 1) / 2
    np.testing.assert_allclose(values, expected, atol=1e-3)
    with pytest.raises(MedsslError, match="OUT_EXISTS"):
        locate_point(a, b, (7, 2, 8), bundle, voxel=True, map_path=out, device="cpu")
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        locate_point(a, b, (7, 2, 8), bundle, map_path=tmp_path / "like.png", device="cpu")


@pytest.mark.usefixtures("known")
def test_images_of_one_slice(tmp_path: Path) -> None:
    affine = np.diag([0.5, 2.0, 3.0, 1.0])
    affine[:3, 3] = [4, 5, 6]
    voxels = numbered(14, 9)[..., None]
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "a.nii")
    nib.save(nib.Nifti1Image(voxels[::-1], affine), tmp_path / "b.nii")
    bundle, out = make_bundle(tmp_path / "bundle", 2), tmp_path / "like.nii"
    a, b = tmp_path / "a.nii", tmp_path / "b.nii"
    found = locate_point(a, b, (11, 3, 0), bundle, voxel=True, map_path=out, device="cpu")
    assert found.voxel == (2, 3, 0)
    assert found.asked_mm == (9.5, 11, 6)
    assert found.mm == (5, 11, 6)
    values = nib.load(out).get_fdata().reshape(14, 9)
    assert np.unravel_index(values.argmax(), values.shape) == (2, 3)
    with pytest.raises(MedsslError, match="POINT_OUTSIDE"):
        locate_point(a, b, (9.5, 11, 9), bundle, device="cpu")


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(("point", "voxel"), [((99, 20, 5), False), ((12, 0, 0), True)])
def test_a_point_outside_is_refused_with_what_there_is(tmp_path: Path, scans, point, voxel) -> None:
    bundle = make_bundle(tmp_path / "bundle", 3)
    with pytest.raises(MedsslError, match=r"POINT_OUTSIDE.*x -10 to 12, y 20 to 28, z 5 to 18"):
        locate_point(*scans, point, bundle, voxel=voxel, device="cpu")


def test_a_bundle_without_an_embedding_is_refused(tmp_path: Path, scans) -> None:
    bundle = make_bundle(tmp_path / "bundle", 3, embedding=False)
    with pytest.raises(MedsslError, match="EMBEDDING_MISSING.*anatomical_embedding"):
        locate_point(*scans, (0, 0, 0), bundle, voxel=True)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("voxels", "code"),
    [
        (np.full((9, 9, 9), np.nan, np.float32), "VOXELS_INVALID"),
        (np.zeros((9, 9, 9), np.int16), "VOLUME_EMPTY"),
        (np.arange(81, dtype=np.int16).reshape(9, 9, 1), "CONTRACT_MISMATCH"),
        (np.arange(1458, dtype=np.int16).reshape(9, 9, 9, 2), "TIME_SERIES_UNSUPPORTED"),
    ],
)
def test_scans_that_cannot_be_used_are_refused(tmp_path: Path, scans, voxels, code) -> None:
    bundle, other = make_bundle(tmp_path / "bundle", 3), tmp_path / "c.nii"
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), other)
    for name, pair in {"A": (other, scans[1]), "B": (scans[0], other)}.items():
        with pytest.raises(MedsslError, match=rf"{code}.*\(scan {name}\)") as refused:
            locate_point(*pair, (1, 1, 1), bundle, voxel=True, device="cpu")
        assert refused.value.exit_code == (2 if code == "CONTRACT_MISMATCH" else 4)


@pytest.mark.usefixtures("known")
def test_files_that_are_no_images_are_refused_without_their_names(tmp_path: Path, scans) -> None:
    bundle, other = make_bundle(tmp_path / "bundle", 3), tmp_path / "Findme_Never.nii"
    for code in ("INPUT_MISSING", "FILE_UNREADABLE"):
        with pytest.raises(MedsslError, match=code) as refused:
            locate_point(scans[0], other, (1, 1, 1), bundle, voxel=True, device="cpu")
        assert "Findme" not in str(refused.value)
        other.write_text("no image")


@pytest.mark.usefixtures("known")
def test_the_verb_prints_for_people_and_machines(tmp_path: Path, scans) -> None:
    bundle = make_bundle(tmp_path / "bundle", 3)
    arguments = ["locate", *map(str, scans), "--point", "4", "22", "17", "--bundle", str(bundle)]
    arguments += ["--device", "cpu"]
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["asked_voxel"] == [7, 2, 8]
    assert set(values) == {
        "asked_mm", "asked_voxel", "mm", "voxel", "similarity", "return_mm",
    }  # fmt: skip
    text = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    for words in ("in B, mm (RAS+)", "in B, voxel", "similarity", "there and back, mm"):
        assert words in text


def test_points_may_be_negative(tmp_path: Path) -> None:
    """Most of a head is: a minus sign is no option."""
    arguments = [
        "locate",
        "a",
        "b",
        "--point",
        "-4",
        "-22",
        "-17",
        "--bundle",
        str(tmp_path / "no"),
    ]
    with pytest.raises(MedsslError, match="INPUT_MISSING"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
