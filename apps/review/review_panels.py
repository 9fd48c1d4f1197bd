"""The main part of the review app: header, display controls, three planes, labels, verdict."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Mapping

import streamlit as st
from review_results import Case, Volumes
from review_sidebar import STATE_NAMES, next_unreviewed
from review_slices import Style, render
from review_verdicts import Verdicts

from medssl.drawing.planes import PLANES, Colour, Position, Window, label_colour, spacing_of

MANUAL = "Manual"


def start_case(case: Case, volumes: Volumes, presets: Mapping[str, Window]) -> None:
    """On a change of case: slices to the segmentation's centroid, every label shown.

    A window chosen for one case stays for the next of the same modality; presets that depend on
    the image are worked out anew.
    """
    state = st.session_state
    if state.get("shown") == case.case_id and "axial" in state:
        return
    _go_to(volumes.centroid())
    for value in _label_names(case, volumes):
        state[f"label-{value}"] = True
    same_modality = state.get("modality") == case.modality and "centre" in state
    if not same_modality or (state.get("preset") not in presets and state["preset"] != MANUAL):
        state["preset"] = next(iter(presets))
    if state["preset"] != MANUAL:
        _use_preset(presets)
    state["shown"], state["modality"] = case.case_id, case.modality


def header(
    case_id: str, state: str, case: Case | None = None, volumes: Volumes | None = None
) -> None:
    """Case id, its state, and how the image is made."""
    facts = []
    if case is not None and volumes is not None:
        grid = " × ".join(str(size) for size in volumes.image.shape)
        voxel = " × ".join(f"{size:.4g}" for size in spacing_of(volumes.affine))
        facts = [case.modality or "modality unknown", f"{grid} voxels", f"{voxel} mm"]
    st.html(
        f"<div><span class='case'>{html.escape(case_id)}</span>"
        f"<span class='state {state or 'unreviewed'}'>{STATE_NAMES[state]}</span>"
        f"<span class='facts'>{html.escape(' · '.join(facts))}</span></div>"
    )


def display_controls(presets: Mapping[str, Window]) -> Style:
    """Window and overlay controls; returns the style without its label colours."""
    columns = st.columns([3, 2.2, 2.2, 3, 2.6, 1.9], vertical_alignment="bottom", gap="medium")
    step = 10.0 ** math.floor(math.log10(max(window.width for window in presets.values()) / 50))
    decimals = f"%.{max(0, -round(math.log10(step)))}f"
    columns[0].selectbox(
        "Window", [*presets, MANUAL], key="preset", on_change=_use_preset, args=(presets,)
    )
    centre = columns[1].number_input(
        "Centre", key="centre", step=step, format=decimals, on_change=_use_manual
    )
    width = columns[2].number_input(
        "Width", key="width", min_value=step / 10, step=step, format=decimals, on_change=_use_manual
    )
    drawn = columns[4].segmented_control(
        "Overlay", ["Fill", "Outline"], default="Fill", key="drawn", label_visibility="collapsed"
    )
    outline = drawn == "Outline"
    opacity = columns[3].slider(
        "Overlay opacity", 0, 100, 40, 5, format="%d %%", key="opacity", disabled=outline
    )
    crosshair = columns[5].toggle("Crosshair", key="crosshair")
    return Style(Window(centre, width), opacity / 100, outline, crosshair=crosshair)


def three_planes(volumes: Volumes, style: Style) -> None:
    """Axial, coronal and sagittal side by side, each with its slider below."""
    state, shape = st.session_state, volumes.image.shape
    x, y, z = (state[plane] - 1 for plane in ("sagittal", "coronal", "axial"))
    for column, (plane, (axis, _, _)) in zip(st.columns(3), PLANES.items(), strict=True):
        with column:
            picture = render(
                volumes.image, volumes.segmentation, volumes.affine, plane, (x, y, z), style
            )
            # Lossless; light compression answers a slider several times sooner than the default.
            encoded = io.BytesIO()
            picture.save(encoded, "PNG", compress_level=1)
            st.image(encoded.getvalue(), width="stretch", alt=f"{plane} plane")
            label = f"{plane.capitalize()}, slice {state[plane]} of {shape[axis]}"
            if shape[axis] > 1:
                st.slider(label, 1, shape[axis], key=plane)
            else:
                st.caption(label)


def label_table(case: Case, volumes: Volumes) -> dict[int, Colour]:
    """Labels with colour, volume in ml, and a button to their centroid; returns those shown."""
    told = {label.value: label.voxels for label in case.labels}
    found = {value: count for value, count in volumes.counts.items() if value > 0}
    st.html("<h2>Labels</h2>")
    if any(told.get(value, 0) != found.get(value, 0) for value in told.keys() | found.keys()):
        st.warning("case.json and the segmentation disagree; the segmentation is shown.")
    shown: dict[int, Colour] = {}
    with st.container(height=230, border=False, key="labels"):
        for value, name in _label_names(case, volumes).items():
            _label_row(value, name, found.get(value, 0), volumes, shown)
        if not told and not found:
            st.caption("This case has no labels.")
    return shown


def _label_row(
    value: int, name: str, voxels: int, volumes: Volumes, shown: dict[int, Colour]
) -> None:
    colour = label_colour(value)
    row = st.columns([0.6, 5, 3, 2], vertical_alignment="center", gap="small")
    ticked = row[0].checkbox(f"Show {name}", key=f"label-{value}", label_visibility="collapsed")
    row[1].html(f"<span class='swatch' style='background: rgb{colour}'></span>{html.escape(name)}")
    row[2].html(f"<div class='number'>{millilitres(voxels * volumes.voxel_ml)} ml</div>")
    row[3].button(
        "Go to",
        key=f"go-{value}",
        type="tertiary",
        icon=":material/my_location:",
        on_click=lambda: _go_to(volumes.centroid(value)),
        disabled=voxels == 0,
        help=f"Slices through the centroid of {name}" if voxels else f"No {name} in this case",
    )
    if ticked:
        shown[value] = colour


def verdict_form(
    verdicts: Verdicts, case_id: str, reviewer: str, bundle_sha256: str, states: Mapping[str, str]
) -> None:
    """Comment, Accept and Reject; saves a verdict and moves on to the next unreviewed case."""
    st.html("<h2>Verdict</h2>")
    # Keys per case: a late click on the form of the case before must not judge this one.
    with st.form(f"verdict-{case_id}", border=False, clear_on_submit=bool(reviewer)):
        comment = st.text_area(
            "Comment",
            key=f"comment-{case_id}",
            placeholder="Comment (optional). Write nothing that identifies the patient.",
            label_visibility="collapsed",
            height=80,
        )
        left, right = st.columns(2)
        accept = left.form_submit_button(
            "Accept",
            key=f"accept-{case_id}",
            type="primary",
            icon=":material/check:",
            width="stretch",
        )
        reject = right.form_submit_button(
            "Reject", key=f"reject-{case_id}", icon=":material/close:", width="stretch"
        )
    if accept or reject:
        if not reviewer:
            st.warning("Enter your name as reviewer (top left) first.")
        else:
            decision = "accept" if accept else "reject"
            verdicts.add(case_id, reviewer, decision, comment, bundle_sha256)
            st.toast(f"{case_id}: {STATE_NAMES[decision].lower()}")
            st.session_state["case"] = next_unreviewed(states, case_id) or case_id
            st.rerun()
    history = verdicts.history(case_id)
    with st.expander(f"History of this case ({len(history)})"):
        for verdict in reversed(history):
            st.text(
                f"{verdict.created_at:%Y-%m-%d %H:%M} UTC  {verdict.reviewer}: "
                f"{STATE_NAMES[verdict.decision].lower()}"
                + (f", “{verdict.comment}”" if verdict.comment else "")
                + ("" if verdict.bundle_sha256 == bundle_sha256 else "  (another bundle)")
            )


def millilitres(volume: float) -> str:
    """A volume in ml with three significant digits at least, never in powers of ten."""
    decimals = 0 if volume >= 100 else 1 if volume >= 10 else 2 if volume >= 1 else 3
    return f"{volume:,.{decimals}f}"


def _label_names(case: Case, volumes: Volumes) -> dict[int, str]:
    """Value -> name of every label told of in case.json or found in the segmentation."""
    found = {value: f"label {value}" for value in volumes.counts if value > 0}
    return dict(sorted((found | {label.value: label.name for label in case.labels}).items()))


def _go_to(position: Position) -> None:
    for plane, (axis, _, _) in PLANES.items():
        st.session_state[plane] = position[axis] + 1


def _use_preset(presets: Mapping[str, Window]) -> None:
    window = presets.get(st.session_state["preset"])
    if window is not None:
        st.session_state.update(centre=float(window.centre), width=float(window.width))


def _use_manual() -> None:
    st.session_state["preset"] = MANUAL
