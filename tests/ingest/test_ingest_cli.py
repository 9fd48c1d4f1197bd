from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def medssl(*arguments):
    program = Path(sys.executable).with_name("medssl")
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)


def test_ingest_and_export_through_the_entry_point(tmp_path, write_stack):
    write_stack(tmp_path / "in" / "good", series="1.1")
    write_stack(tmp_path / "in" / "gap", series="1.2", heights=[0, 2, 6])
    done = medssl("ingest", tmp_path / "in", tmp_path / "store")
    assert done.returncode == 3
    assert "SLICE_MISSING" in done.stdout
    assert done.stderr == ""
    as_json = medssl("ingest", tmp_path / "in" / "good", tmp_path / "other", "--json")
    assert as_json.returncode == 0
    assert json.loads(as_json.stdout)["volumes"] == 1
    exported = medssl("export", tmp_path / "store", tmp_path / "out", "--json")
    assert exported.returncode == 0
    assert json.loads(exported.stdout) == {"volumes": 1, "labels": 0, "subjects": 1}


def test_exit_codes(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("x")
    assert medssl("ingest", tmp_path / "in", tmp_path / "store").returncode == 4
    missing = medssl("ingest", tmp_path / "none", tmp_path / "store")
    assert missing.returncode == 2
    assert missing.stderr.startswith("INPUT_MISSING")
    wrong = medssl("ingest", tmp_path / "in", tmp_path / "s", "--label-name", "liver")
    assert wrong.returncode == 2
