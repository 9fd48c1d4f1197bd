"""The left side of the review app: who reviews, which case, how far, what was rejected.

A case's state is "" (unreviewed), "accept" or "reject": the latest verdict of this reviewer.
"""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st
from review_results import Results
from review_verdicts import Verdicts, to_csv

STATE_NAMES = {"": "Unreviewed", "accept": "Accepted", "reject": "Rejected"}
# Shape as well as colour tells the states apart.
MARKS = {"": ":gray[○]", "accept": ":green[✓]", "reject": ":red[✗]"}
# A browser draws this many at ease; the search finds the rest.
MOST_LISTED = 200


def reviewer_and_notice() -> str:
    """Ask who reviews; returns the name with runs of spaces made one, "" until it is given."""
    st.html(
        "<h1>medssl review</h1><p class='notice'>Research use only. Not a medical device: "
        "not for diagnosis or treatment.</p>"
    )
    name = st.text_input("Reviewer", key="reviewer", placeholder="Your name", max_chars=255)
    return " ".join(name.split())


def case_list(states: Mapping[str, str]) -> str | None:
    """Progress, filter and list of cases; returns the selected case, None where there is none."""
    if not states:
        return None
    # The choice lives outside the radio's own key, which may not outlive a change of its options.
    if st.session_state.get("case") not in states:
        st.session_state["case"] = next_unreviewed(states, None) or next(iter(states))
    current: str = st.session_state["case"]
    reviewed = sum(state != "" for state in states.values())
    st.progress(reviewed / len(states), text=f"**{reviewed} of {len(states)} reviewed**")
    st.button(
        "Next unreviewed",
        key="next",
        icon=":material/skip_next:",
        width="stretch",
        on_click=_go_next,
        args=(dict(states),),
        disabled=next_unreviewed(states, current) is None,
    )
    listed = _filtered(states, current)
    st.session_state["list"] = current
    with st.container(height=330 if len(listed) > 14 else "content", border=False):
        st.radio(
            "Cases",
            listed,
            key="list",
            format_func=lambda case_id: f"{MARKS[states[case_id]]} {_plain(case_id)}",
            on_change=lambda: st.session_state.update(case=st.session_state["list"]),
        )
    return current


def next_unreviewed(states: Mapping[str, str], current: str | None) -> str | None:
    """The first unreviewed case after `current` and round to it; None where there is none."""
    cases = list(states)
    start = cases.index(current) + 1 if current is not None else 0
    others = cases[start:] + cases[:start]
    return next((case for case in others if states[case] == "" and case != current), None)


def rejected_inputs(results: Results) -> None:
    """Inputs that `medssl predict` could not use, with their codes."""
    if results.state != "done":
        st.warning(f"The prediction run is marked “{results.state or 'unknown'}”.")
    if not results.rejected:
        return
    with st.expander(f"Rejected inputs ({len(results.rejected)})"):
        for entry in results.rejected[:MOST_LISTED]:
            st.markdown(f"**{_plain(entry.case_id)}** · `{entry.code}`")
            if entry.detail:
                st.caption(_plain(entry.detail))
        if len(results.rejected) > MOST_LISTED:
            st.caption(f"and {len(results.rejected) - MOST_LISTED} more in status.json")


def export(verdicts: Verdicts) -> None:
    """Offer every verdict, history included, as CSV."""
    history = verdicts.history()
    st.download_button(
        "Export verdicts (CSV)",
        to_csv(history),
        file_name="verdicts.csv",
        mime="text/csv",
        icon=":material/download:",
        width="stretch",
        disabled=not history,
        on_click="ignore",
    )


def _filtered(states: Mapping[str, str], current: str) -> list[str]:
    """Cases that pass the search and the state filter; the current one always stays listed."""
    search, shown = "", "All"
    if len(states) > 8:
        left, right = st.columns(2, gap="small")
        search = left.text_input("Search", key="search", placeholder="Case id")
        shown = right.selectbox("Show", ["All", *STATE_NAMES.values()], key="show")
    passing = [
        case_id
        for case_id, state in states.items()
        if search.lower() in case_id.lower() and shown in {"All", STATE_NAMES[state]}
    ]
    kept = set(passing[:MOST_LISTED]) | {current}
    if len(passing) > MOST_LISTED:
        st.caption(f"{MOST_LISTED} of {len(passing)} listed. Search to narrow.")
    return [case_id for case_id in states if case_id in kept]


def _go_next(states: Mapping[str, str]) -> None:
    following = next_unreviewed(states, st.session_state["case"])
    if following is not None:
        st.session_state["case"] = following


def _plain(text: str) -> str:
    """Text with Markdown's signs escaped."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]()#+-.!$:~<>|" else sign for sign in text)
