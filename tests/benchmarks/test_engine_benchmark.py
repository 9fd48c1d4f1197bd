import runpy
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_two_loops_alternate(tmp_path, capsys):
    found = runpy.run_path(str(ROOT / "benchmarks" / "engine.py"), run_name="engine")
    case = replace(found["CASES"][0], steps=6)
    found["compare"](case, 1)
    cells = capsys.readouterr().out.strip().strip("|").split("|")
    assert len(cells) == 5
    assert all(float(cell) > 0 for cell in cells[1:])
