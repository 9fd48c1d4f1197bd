"""The review app: look at each case in three planes, then accept or reject it.

Started by `medssl review RESULTS`, which names the folder in MEDSSL_REVIEW_RESULTS.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import review_panels as panels
import review_sidebar as sidebar
import streamlit as st
from PIL import Image, ImageDraw
from review_results import Case, Results, Volumes
from review_slices import window_presets
from review_verdicts import Verdicts

from medssl.drawing.planes import Window
from medssl.errors import MedsslError

Presets = dict[str, Window]


@st.cache_resource(show_spinner=False)
def open_verdicts(folder: str) -> Verdicts:
    return Verdicts.of_results(Path(folder))


@st.cache_resource(show_spinner=False)
def open_results(folder: str, written: float) -> Results:
    """`written`, the time of status.json, opens the folder anew after another `predict`."""
    return Results(Path(folder))


@st.cache_resource(show_spinner="Opening the case …", max_entries=4)
def open_case(folder: str, written: float, case_id: str) -> tuple[Case, Volumes, Presets]:
    results = open_results(folder, written)
    case, volumes = results.case(case_id), results.volumes(case_id)
    return case, volumes, window_presets(case.modality, volumes.image, case.window)


def _icon() -> Image.Image:
    """A tab icon drawn here: Streamlit would fetch an emoji or a Material icon from outside."""
    icon = Image.new("RGB", (32, 32), "#0e1216")
    ImageDraw.Draw(icon).ellipse((4, 4, 27, 27), outline="#3d8fd1", width=5)
    return icon


def main() -> None:
    st.set_page_config(page_title="medssl review", page_icon=_icon(), layout="wide")
    st.html(Path(__file__).with_name("review_style.css"))
    try:
        review(os.environ.get("MEDSSL_REVIEW_RESULTS", ""))
    except MedsslError as error:
        st.error(str(error))
    except Exception:
        # The reviewer needs no traceback, whoever runs the app does.
        logging.getLogger("medssl.review").exception("unexpected failure of the review app")
        st.error("This is a bug in medssl; the log of `medssl review` has the details.")


def review(folder: str) -> None:
    """The whole page, for one results folder."""
    status = Path(folder, "status.json")
    written = status.stat().st_mtime if status.is_file() else 0.0
    results = open_results(folder, written)
    verdicts = open_verdicts(folder)
    with st.sidebar:
        reviewer = sidebar.reviewer_and_notice()
        latest = verdicts.latest(results.bundle_sha256)
        states = {
            case_id: latest[case_id, reviewer].decision if (case_id, reviewer) in latest else ""
            for case_id in results.cases
        }
        case_id = sidebar.case_list(states)
        sidebar.rejected_inputs(results)
        sidebar.export(verdicts)
    if case_id is None:
        st.info("This results folder holds no case to review.")
        return
    try:
        case, volumes, presets = open_case(folder, written, case_id)
    except MedsslError as error:
        panels.header(case_id, states[case_id])
        st.error(str(error))
        return
    panels.start_case(case, volumes, presets)
    panels.header(case_id, states[case_id], case, volumes)
    style = panels.display_controls(presets)
    planes = st.container()
    left, right = st.columns([11, 9], gap="large")
    with left:
        colours = panels.label_table(case, volumes)
    with planes:
        panels.three_planes(volumes, replace(style, colours=colours))
    with right:
        panels.verdict_form(verdicts, case_id, reviewer, results.bundle_sha256, states)


main()
