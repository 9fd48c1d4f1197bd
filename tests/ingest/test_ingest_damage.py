"""Damaged series: one correct volume or one rejection each; other readers beside, in one run.

``MEDSSL_UPDATE_DOCS=1`` writes the table to docs/reference/damaged-series.md; else it is compared.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest

from medssl.ingest.run import ingest
from medssl.store.export import export

sys.path.insert(0, str(Path(__file__).parent))
from damage import DAMAGES, Damage, is_right
from peers import PEERS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "damaged-series.md"
PEER_NAMES = list(PEERS)


def present(name: str) -> bool:
    if name == "dcm2niix":
        return Path(sys.executable).with_name("dcm2niix").exists()
    return importlib.util.find_spec(name) is not None if name == "dicom2nifti" else True


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder for every damage, "00", "01", ..."""
    root = tmp_path_factory.mktemp("damage") / "in"
    for number, damage in enumerate(DAMAGES):
        damage.write(root / f"{number:02d}")
    return root


@pytest.fixture(scope="module")
def answers(root, tmp_path_factory):
    """Per damage, in medssl's words: (volumes, all of them right, codes, exit code)."""
    found = []
    for number in range(len(DAMAGES)):
        work = tmp_path_factory.mktemp("store")
        summary = ingest(root / f"{number:02d}", work / "store")
        codes = sorted({code for _, code in summary.counts if code})
        right = True
        if summary.volumes:
            export(work / "store", work / "nifti")
            right = all(right_file(f) for f in (work / "nifti" / "images").rglob("*.nii*"))
        found.append((summary.volumes, right, codes, int(summary.exit_code)))
        assert sum(summary.counts.values()) == summary.found == files_in(root / f"{number:02d}")
    return found


def files_in(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def right_file(file: Path) -> bool:
    image = nib.load(file)
    return is_right(image.get_fdata(), image.affine)


@pytest.mark.parametrize("number", range(len(DAMAGES)), ids=[d.name for d in DAMAGES])
def test_each_is_correct_volumes_or_one_rejection(answers, number):
    damage = DAMAGES[number]
    volumes, right, codes, exit_code = answers[number]
    assert right
    assert (codes, exit_code) == ([damage.code] if damage.code else [], damage.exit_code)
    assert volumes <= damage.right
    assert volumes == damage.right or damage.code


def test_nothing_is_written_outside(answers, root):
    assert not list(root.parents[2].rglob("*evil*"))


def verdicts(name: str, root: Path) -> list[str]:
    script = Path(__file__).with_name("peers.py")
    done = subprocess.run(
        [sys.executable, script, name, root], capture_output=True, text=True, timeout=300
    )
    errors = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            answer = json.loads(line)
            errors[answer["folder"]] = answer["error"]
    return [
        verdict(damage, root.parent / name / f"{i:02d}", errors.get(f"{i:02d}", "crash"))
        for i, damage in enumerate(DAMAGES)
    ]


def verdict(damage: Damage, out: Path, error: str) -> str:
    files = sorted(out.rglob("*.nii")) if out.exists() else []
    right = [right_file(file) for file in files]
    if error == "crash":
        return "crash"
    if all(right) and len(right) == damage.right and damage.right:
        return "right"
    if all(right) and files:
        return f"{len(files)} of {damage.right} right" if damage.right else "guessed"
    if not files:
        return "error" if error else "nothing"
    if error:
        return "**wrong**, and an error"
    fine = sum(right) if damage.right else 0
    wrong = "**wrong, silently**"
    return f"{fine} right, {len(files) - fine} {wrong}" if fine else wrong


def table(answers, root) -> str:
    names = [name for name in PEER_NAMES if present(name)]
    columns = {name: verdicts(name, root) for name in names}
    lines = [
        "| what is wrong | medssl | exit | " + " | ".join(names) + " |",
        "| --- | --- | --- |" + " --- |" * len(names),
    ]
    for number, damage in enumerate(DAMAGES):
        volumes, _, codes, exit_code = answers[number]
        parts = [f"{volumes} right" if volumes > 1 else "right"] if volumes else []
        parts += [f"`{code}`" for code in codes]
        own = ", ".join(parts)
        rest = " | ".join(columns[name][number] for name in names)
        lines.append(f"| {damage.name} | {own} | {exit_code} | {rest} |")
    return "\n".join(lines) + "\n"


def columns_of(text: str) -> dict[str, list[str]]:
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {name: [row[i] for row in rows[2:]] for i, name in enumerate(rows[0])}


def test_the_table_in_the_docs_is_what_happens(answers, root):
    found = table(answers, root)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition("| what is wrong |")
    after = rest.partition("\n\n")[2]
    if os.environ.get("MEDSSL_UPDATE_DOCS"):
        PAGE.write_text(f"{before}{found}\n{after}", encoding="utf-8")
    written = columns_of(PAGE.read_text(encoding="utf-8"))
    for name, column in columns_of(found).items():
        assert written[name] == column, name
