import importlib.util
from pathlib import Path

from medssl.studies.claims import Claim, Finding, page

ROOT = Path(__file__).resolve().parents[2]


def claim(*findings):
    return Claim("name", "What is said", "a paper", "python x.py", "On what.", list(findings))


def finding(low, high, decides=True):
    return Finding("a - b", (low + high) / 2, low, high, 3, decides=decides)


def test_every_finding_that_decides_must_hold():
    yes, no, open_ = finding(0.1, 0.2), finding(-0.2, -0.1), finding(-0.1, 0.1)
    assert claim(yes, yes).verdict == "supported"
    assert claim(yes, no).verdict == "not supported"
    assert claim(yes, open_).verdict == "inconclusive"
    assert claim(open_, no).verdict == "not supported"
    assert claim(yes, finding(-0.2, -0.1, decides=False)).verdict == "supported"


def test_a_claim_comes_back_from_its_file(tmp_path):
    inf = float("inf")
    made = claim(finding(0.1, 0.2), Finding("alone", 1.0, -inf, inf, 1))
    made.write(tmp_path / "name.json")
    assert Claim.read(tmp_path / "name.json") == made


def test_the_page_tells_verdict_and_interval():
    text = page([claim(finding(-0.1, 0.3))])
    assert "| [What is said](#name) | a paper | **inconclusive** |" in text
    assert "| a - b | +0.100 [-0.100, +0.300] | 3 seeds | yes | inconclusive |" in text


def test_the_page_in_the_docs_is_what_the_results_make():
    spec = importlib.util.spec_from_file_location("make_claims", ROOT / "tools/make_claims.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    current = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert current == module.text(), "run `make docs`"
