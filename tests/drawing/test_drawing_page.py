"""The page is made from invented content here; nothing of it is a measurement."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest

from medssl.drawing.page import (
    Card,
    Cards,
    Chart,
    Commands,
    Details,
    Fact,
    Group,
    Note,
    Picture,
    Report,
    Section,
    Table,
    render,
)

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
VOID = {"meta", "img", "br", "hr", "link"}


class _Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def page() -> str:
    table = Table(["Organ", "Dice"], [["<liver>", "0.5"], ["Mean", "0.5"]], "Made up.", 1, (1,))
    sections = [
        Section("one", "First & foremost", ["Use `medssl demo`, **now**.", Note("Made up.")]),
        Section("two", "Second", [Picture(PNG, "A pixel.", 'alt "text"'), table, table]),
        Section("three", "Third", [Details("More", [Commands([("a < b", "Compare")])])]),
    ]
    return render(Report("T", "sub", "banner", [Fact("12", "patients")], sections, "foot", ["In."]))


def test_the_page_is_balanced_and_complete(page: str) -> None:
    parser = _Balance()
    parser.feed(page)
    assert parser.open == []
    text = "".join(parser.text)
    for expected in ("First & foremost", "<liver>", "a < b", "patients", "banner", "foot", "In."):
        assert expected in text


def test_nothing_is_fetched_and_no_script_runs(page: str) -> None:
    assert "<script" not in page
    assert "http" not in page
    assert "url(" not in page
    assert not re.search(r'src="(?!data:image/png;base64,)', page)
    assert not re.search(r'href="(?!#)', page)


def test_contents_lead_to_the_sections(page: str) -> None:
    for anchor in ("one", "two", "three"):
        assert f'href="#{anchor}"' in page
        assert f'<section id="{anchor}">' in page


def test_figures_and_tables_are_numbered(page: str) -> None:
    assert "<b>Figure 1.</b> A pixel." in page
    assert "<b>Table 1.</b>" in page
    assert "<b>Table 2.</b>" in page


def test_markup_and_escapes(page: str) -> None:
    assert "<code>medssl demo</code>, <strong>now</strong>" in page
    assert 'alt="alt &quot;text&quot;"' in page
    assert '<tr class=strong><td>Mean</td><td class="number">0.5</td></tr>' in page
    assert base64.b64encode(PNG).decode() in page


def test_the_same_report_gives_the_same_page(page: str) -> None:
    report = Report("T", "s", "b", [], [Section("a", "A", ["x"])], "f")
    assert render(report) == render(report)


def test_cards_groups_and_charts_are_escaped_and_balanced() -> None:
    chart = Chart('<svg class="chart"></svg>', "a < b")
    card = Card("<id>", ["1 & 2"], PNG, 'a "picture"', ["<odd>"], chart.svg)
    table = Table(["", "Bars"], [["x", chart]], "With a chart.")
    blocks = [Group("<group>", [Cards([card, Card("bare", [])], small=True), chart, table])]
    page = render(Report("T", "s", "b", [], [Section("a", "A", blocks)], "f", dark=True))
    parser = _Balance()
    parser.feed(page)
    assert parser.open == []
    text = "".join(parser.text)
    for expected in ("<id>", "1 & 2", "<odd>", "<group>", "a < b", "bare"):
        assert expected in text
    assert page.count("<img") == 1
    assert page.count(chart.svg) == 3
    assert 'alt="a &quot;picture&quot;"' in page
    assert '<td class="number"><svg' in page
    assert '<body class="dark">' in page
