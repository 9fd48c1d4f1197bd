"""From a pseudonym back to the files: with the ledger and its own key only."""

from __future__ import annotations

import os
import stat

import pytest
from typer.testing import CliRunner

from medssl.cli import app
from medssl.errors import MedsslError
from medssl.ingest.pseudonym import load_key
from medssl.ingest.reidentify import reidentify
from medssl.ingest.run import ingest
from medssl.store import Store


@pytest.fixture
def made(tmp_path, write_stack):
    """A store of a plain series and of one that holds two volumes; and its private folder."""

    def twice(index, data):
        data.EchoTime, data.PatientID, data.StudyInstanceUID = 10 + index // 3, "P2", "1.99"

    write_stack(tmp_path / "in" / "DOE_JANE", series="1.7")
    heights = [0.0, 2.0, 4.0, 0.0, 2.0, 4.0]
    write_stack(tmp_path / "in" / "ROE", heights=heights, series="1.8", change=twice)
    ingest(tmp_path / "in", tmp_path / "store")
    return tmp_path / "store", tmp_path / "store.private"


def test_ids_lead_back_to_their_files(made):
    path, private = made
    manifest = Store.open(path).manifest
    assert len(manifest) == 3
    for _, row in manifest.iterrows():
        folder, count = ("ROE", 6) if row["part"] else ("DOE_JANE", 4)
        for column in ("volume_id", "series_id", "subject_id"):
            files = reidentify(path, row[column], private, private / "site.key")
            assert {file.split("/")[0] for file in files} == {folder}
            assert len(files) == (3 if column == "volume_id" and row["part"] else count)


@pytest.mark.data
def test_volumes_that_share_a_file_lead_back_to_it(tmp_path, data_root):
    ingest(data_root / "dicom" / "vendors" / "philips_enhanced" / "fmri", tmp_path / "store")
    private = tmp_path / "store.private"
    volumes = Store.open(tmp_path / "store").manifest["volume_id"]
    assert len(volumes) > 1
    for volume in volumes:
        assert len(reidentify(tmp_path / "store", volume, private, private / "site.key")) == 1


def test_another_key_is_refused(made, tmp_path):
    path, private = made
    volume = Store.open(path).manifest["volume_id"][0]
    load_key(tmp_path / "other.key")
    with pytest.raises(MedsslError, match="KEY_MISMATCH"):
        reidentify(path, volume, private, tmp_path / "other.key")
    with pytest.raises(MedsslError, match="KEY_INVALID"):
        reidentify(path, volume, private, tmp_path / "none.key")
    assert not (tmp_path / "none.key").exists()


def test_an_unknown_id_and_a_ledger_moved_away_are_refused(made, tmp_path):
    path, private = made
    with pytest.raises(MedsslError, match="VOLUME_UNKNOWN"):
        reidentify(path, "vol-0", private, private / "site.key")
    with pytest.raises(MedsslError, match="INPUT_MISSING"):
        reidentify(path, "vol-0", tmp_path / "elsewhere", private / "site.key")


def test_the_verb_prints_the_paths(made, tmp_path):
    path, private = made
    safe = private.rename(tmp_path / "safe")
    subject = Store.open(path).manifest["subject_id"][0]
    done = CliRunner().invoke(app, ["reidentify", str(path), subject, "--private", str(safe)])
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) in (4, 6)
    assert CliRunner().invoke(app, ["reidentify", str(path), subject]).exit_code != 0


def test_all_that_is_private_is_its_owners_alone(made):
    _, private = made
    for place in [private, *private.rglob("*")]:
        mode = stat.S_IMODE(place.stat().st_mode)
        assert mode == (0o700 if place.is_dir() else 0o600)


def test_a_wide_umask_changes_nothing(tmp_path, write_stack):
    write_stack(tmp_path / "in")
    old = os.umask(0)
    try:
        ingest(tmp_path / "in", tmp_path / "store")
    finally:
        os.umask(old)
    private = tmp_path / "store.private"
    assert {stat.S_IMODE(p.stat().st_mode) for p in private.iterdir()} == {0o600}
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
