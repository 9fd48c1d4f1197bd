"""The page itself, run without a browser by Streamlit's own test driver."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from review_verdicts import Verdicts
from streamlit.testing.v1 import AppTest
from synthetic_results import BUNDLE


@pytest.fixture
def app(app_file: Path, results_folder: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("MEDSSL_REVIEW_RESULTS", str(results_folder))
    return AppTest.from_file(app_file, default_timeout=30)


def page(app: AppTest) -> str:
    """All text on the page."""
    blocks = [*app.get("html"), *app.markdown, *app.caption]
    texts = [block.proto.body for block in blocks]
    return "\n".join([*texts, *(message.value for message in [*app.error, *app.warning])])


def press(app: AppTest, label: str) -> AppTest:
    (button,) = [button for button in app.button if button.label == label]
    return button.click().run()


def progress(app: AppTest) -> str:
    (bar,) = app.get("progress")
    return bar.proto.text


def test_it_opens_on_the_first_case(app: AppTest) -> None:
    app.run()
    assert not app.exception
    assert not app.error
    assert app.radio(key="list").value == "case-a"
    assert progress(app) == "**0 of 3 reviewed**"
    # the centroid of the segmentation is voxel (2, 3, 4), counted from 1 on the page
    assert [app.slider(key=plane).value for plane in ("sagittal", "coronal", "axial")] == [3, 4, 5]
    assert len(app.get("image")) == 3
    text = page(app)
    assert "Research use only" in text
    assert "6 × 8 × 10 voxels" in text
    assert "0.324 ml" in text  # 27 voxels of 12 cubic mm
    assert "SLICE_MISSING" in text


def test_accept_is_saved_and_the_next_case_opens(app: AppTest, results_folder: Path) -> None:
    app.run()
    app.text_input(key="reviewer").set_value("Ada").run()
    app.text_area(key="comment-case-a").set_value("good borders")
    press(app, "Accept")
    (verdict,) = Verdicts.of_results(results_folder).history()
    assert (verdict.case_id, verdict.reviewer, verdict.decision) == ("case-a", "Ada", "accept")
    assert (verdict.comment, verdict.bundle_sha256) == ("good borders", BUNDLE)
    assert app.radio(key="list").value == "case-b"
    assert progress(app) == "**1 of 3 reviewed**"
    press(app, "Reject")
    press(app, "Accept")
    assert progress(app) == "**3 of 3 reviewed**"
    assert app.button(key="next").disabled
    decisions = [row.decision for row in Verdicts.of_results(results_folder).history()]
    assert decisions == ["accept", "reject", "accept"]
    assert not app.exception


def test_without_a_name_nothing_is_saved(app: AppTest, results_folder: Path) -> None:
    app.run()
    press(app, "Accept")
    assert "Enter your name" in page(app)
    assert app.radio(key="list").value == "case-a"
    assert Verdicts.of_results(results_folder).history() == []


def test_each_reviewer_has_their_own_progress(app: AppTest, results_folder: Path) -> None:
    Verdicts.of_results(results_folder).add("case-a", "Ben", "reject", "leak", BUNDLE)
    app.run()
    app.text_input(key="reviewer").set_value("Ada").run()
    assert progress(app) == "**0 of 3 reviewed**"
    app.text_input(key="reviewer").set_value(" Ben ").run()
    assert progress(app) == "**1 of 3 reviewed**"
    assert "state reject" in page(app)


def test_changing_the_case_moves_slices_and_shows_all_labels(app: AppTest) -> None:
    app.run()
    app.slider(key="axial").set_value(1).run()
    app.checkbox(key="label-1").uncheck().run()
    app.radio(key="list").set_value("case-c").run()
    assert "<span class='case'>case-c</span>" in page(app)
    assert app.slider(key="axial").value == 5
    assert app.checkbox(key="label-1").value is True
    press(app, "Next unreviewed")
    assert app.radio(key="list").value == "case-a"


def test_go_to_a_label(app: AppTest) -> None:
    app.run()
    app.button(key="go-2").click().run()
    assert [app.slider(key=plane).value for plane in ("sagittal", "coronal", "axial")] == [5, 7, 8]


def test_window_presets_and_manual(app: AppTest) -> None:
    app.run()
    assert app.selectbox(key="preset").value == "Soft tissue"
    app.selectbox(key="preset").set_value("Lung").run()
    assert app.number_input(key="centre").value == -600
    assert app.number_input(key="width").value == 1500
    app.number_input(key="centre").set_value(-500.0).run()
    assert app.selectbox(key="preset").value == "Manual"
    app.radio(key="list").set_value("case-b").run()
    assert app.number_input(key="centre").value == -500  # stays for the next CT


def test_a_broken_case_leaves_the_others_usable(app: AppTest, results_folder: Path) -> None:
    (results_folder / "cases" / "case-a" / "segmentation.nii.gz").unlink()
    app.run()
    assert "RESULTS_INVALID" in page(app)
    assert str(results_folder) not in page(app)
    assert not app.get("image")
    assert "Accept" not in [button.label for button in app.button]
    app.radio(key="list").set_value("case-b").run()
    assert not app.error
    assert len(app.get("image")) == 3
    app.radio(key="list").set_value("case-a").run()
    app.radio(key="list").set_value("case-b").run()
    assert app.slider(key="axial").value == 5


def test_a_count_that_disagrees_is_told(app: AppTest, results_folder: Path) -> None:
    file = results_folder / "cases" / "case-a" / "case.json"
    case = json.loads(file.read_text())
    case["labels"]["1"]["voxels"] = 26
    file.write_text(json.dumps(case))
    assert "disagree" in page(app.run())


def test_no_results_folder(app_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSSL_REVIEW_RESULTS", str(tmp_path))
    app = AppTest.from_file(app_file, default_timeout=30).run()
    assert "RESULTS_INVALID" in page(app)
    assert not app.exception
