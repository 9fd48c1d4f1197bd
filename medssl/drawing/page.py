"""A self-contained HTML page from plain data: no scripts, nothing fetched."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption; `alt` says in words what it shows. `dark` frames it as an image."""

    png: bytes
    caption: str
    alt: str
    dark: bool = True


@dataclass(frozen=True)
class Chart:
    """A drawing of :mod:`medssl.drawing.charts`, with its caption."""

    svg: str
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header. Columns from `numbers_from` on are numbers, set to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str | Chart]]
    caption: str
    numbers_from: int = 1
    emphasise: Sequence[int] = ()
    """Rows (by number) that are set in bold: totals and means."""
    groups: Sequence[tuple[str, int]] = ()
    """A line above the header: texts and how many columns each one spans."""


@dataclass(frozen=True)
class Note:
    """A boxed remark that must not be missed."""

    text: str


@dataclass(frozen=True)
class Commands:
    """Lines to type in a terminal, each with what it does."""

    lines: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Details:
    """Something long that is folded away until the reader opens it."""

    title: str
    items: Sequence[Block]


@dataclass(frozen=True)
class Card:
    """One picture among many, with what is known of it.

    Attributes:
        title: short, such as an id.
        lines: of text below the picture.
        png: the picture; None where there is none. `alt` says in words what it shows.
        marks: words that must not be missed, set apart.
        svg: a chart of :mod:`medssl.drawing.charts`.
    """

    title: str
    lines: Sequence[str]
    png: bytes | None = None
    alt: str = ""
    marks: Sequence[str] = ()
    svg: str = ""


@dataclass(frozen=True)
class Cards:
    """Cards side by side, as many as fit; `small` ones are for thumbnails."""

    items: Sequence[Card]
    small: bool = False


@dataclass(frozen=True)
class Group:
    """A smaller heading, and what stands under it."""

    title: str
    blocks: Sequence[Block]


Block = str | Picture | Table | Note | Commands | Details | Chart | Cards | Group


@dataclass(frozen=True)
class Section:
    """A heading, an anchor for the contents, and what stands under it."""

    anchor: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Fact:
    """One number for the top of the page."""

    value: str
    label: str


@dataclass(frozen=True)
class Report:
    """Everything the page says."""

    title: str
    subtitle: str
    banner: str
    facts: Sequence[Fact]
    sections: Sequence[Section]
    footer: str
    lead: Sequence[str] = field(default_factory=tuple)
    dark: bool = False
    """Light on dark, to look at scans; paper stays white."""


def render(report: Report) -> str:
    """The page as HTML. Text is escaped; in it `code` and **strong** are marked up."""
    numbers = _Numbers()
    body = [_section(section, numbers) for section in report.sections]
    contents = "".join(
        f'<li><a href="#{html.escape(s.anchor)}">{_text(s.title)}</a></li>' for s in report.sections
    )
    facts = "".join(
        f"<div><dt>{_text(fact.label)}</dt><dd>{_text(fact.value)}</dd></div>"
        for fact in report.facts
    )
    theme = ' class="dark"' if report.dark else ""
    lead = "".join(f"<p>{_text(paragraph)}</p>" for paragraph in report.lead)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(report.title)}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body{theme}>\n"
        f'<div class="banner" role="note">{_text(report.banner)}</div>\n'
        f'<header><h1>{_text(report.title)}</h1><p class="subtitle">{_text(report.subtitle)}</p>'
        f'<dl class="facts">{facts}</dl><div class="lead">{lead}</div></header>\n'
        f'<nav aria-label="Contents"><ol>{contents}</ol></nav>\n'
        f"<main>\n{''.join(body)}</main>\n<footer>{_text(report.footer)}</footer>\n</body>\n</html>\n"
    )


class _Numbers:
    """Counts figures and tables through the page."""

    def __init__(self) -> None:
        self.figures = 0
        self.tables = 0


def _section(section: Section, numbers: _Numbers) -> str:
    blocks = "\n".join(_block(block, numbers) for block in section.blocks)
    anchor = html.escape(section.anchor)
    return f'<section id="{anchor}">\n<h2>{_text(section.title)}</h2>\n{blocks}\n</section>\n'


def _block(block: Block, numbers: _Numbers) -> str:
    match block:
        case str():
            return f"<p>{_text(block)}</p>"
        case Picture():
            return _picture(block, numbers)
        case Table():
            return _table(block, numbers)
        case Note():
            return f'<p class="note">{_text(block.text)}</p>'
        case Commands():
            lines = "".join(
                f"<dt>{_text(what)}</dt><dd><code>{html.escape(line)}</code></dd>"
                for line, what in block.lines
            )
            return f'<dl class="commands">{lines}</dl>'
        case Details():
            inner = "\n".join(_block(item, numbers) for item in block.items)
            return f"<details><summary>{_text(block.title)}</summary>\n{inner}\n</details>"
        case Chart():
            caption = f"<figcaption>{_text(block.caption)}</figcaption>" if block.caption else ""
            return f'<figure class="drawn">{block.svg}{caption}</figure>'
        case Cards():
            kind = "cards small" if block.small else "cards"
            return f'<div class="{kind}">{"".join(map(_card, block.items))}</div>'
        case Group():
            inner = "\n".join(_block(item, numbers) for item in block.blocks)
            return f'<div class="group"><h3>{_text(block.title)}</h3>\n{inner}\n</div>'


def _card(card: Card) -> str:
    picture = ""
    if card.png is not None:
        data = base64.b64encode(card.png).decode("ascii")
        picture = f'<img alt="{html.escape(card.alt)}" src="data:image/png;base64,{data}">'
    marks = "".join(f'<p class="mark">{_text(mark)}</p>' for mark in card.marks)
    lines = "".join(f"<p>{_text(line)}</p>" for line in card.lines)
    text = f"<h4>{_text(card.title)}</h4>{marks}{lines}{card.svg}"
    return f"<article>{picture}<div>{text}</div></article>"


def _picture(picture: Picture, numbers: _Numbers) -> str:
    numbers.figures += 1
    data = base64.b64encode(picture.png).decode("ascii")
    frame = "image" if picture.dark else "plot"
    caption = f"<b>Figure {numbers.figures}.</b> {_text(picture.caption)}"
    return (
        f'<figure class="{frame}"><img alt="{html.escape(picture.alt)}" '
        f'src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def _table(table: Table, numbers: _Numbers) -> str:
    numbers.tables += 1
    start = table.numbers_from

    def cells(row: Sequence[str | Chart], tag: str) -> str:
        marks = [' class="number"' if i >= start else "" for i in range(len(row))]
        inner = [cell.svg if isinstance(cell, Chart) else _text(cell) for cell in row]
        return "".join(
            f"<{tag}{mark}>{text}</{tag}>" for text, mark in zip(inner, marks, strict=True)
        )

    rows = "".join(
        f"<tr{' class=strong' if i in table.emphasise else ''}>{cells(row, 'td')}</tr>"
        for i, row in enumerate(table.rows)
    )
    above = "".join(
        f'<th colspan="{span}" class="group">{_text(text)}</th>' for text, span in table.groups
    )
    head = (f"<tr>{above}</tr>" if above else "") + f"<tr>{cells(table.header, 'th')}</tr>"
    return (
        '<div class="table"><table>'
        f"<caption><b>Table {numbers.tables}.</b> {_text(table.caption)}</caption>"
        f"<thead>{head}</thead><tbody>{rows}</tbody></table></div>"
    )


def _text(text: str) -> str:
    escaped = html.escape(text, quote=False)
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escaped)
