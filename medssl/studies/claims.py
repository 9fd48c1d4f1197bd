"""A claim of a paper put to the test: what was found, in a file, and the page made of the files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medssl.evaluate.report import plain
from medssl.evaluate.stats import PairedInterval, verdict
from medssl.studies.runs import write_whole

NOTE = "<!-- Written by tools/make_claims.py from docs/claims/; edit neither by hand. -->\n"


@dataclass(frozen=True)
class Finding:
    """One number with its 95 % interval, which the claim says is above 0.

    Attributes:
        statistic: what the number is.
        units: how many independent ones the interval is over; of: what they are.
        decides: whether the claim stands or falls with it; else it is told beside.
    """

    statistic: str
    mean: float
    low: float
    high: float
    units: int
    of: str = "seeds"
    decides: bool = True

    @classmethod
    def over_seeds(cls, statistic: str, found: PairedInterval, decides: bool = True) -> Finding:
        """The paired difference over seeds."""
        bounds = (found.mean, found.low, found.high, found.units)
        return cls(statistic, *bounds, decides=decides)

    @property
    def verdict(self) -> str:
        """See :func:`medssl.evaluate.stats.verdict`."""
        return verdict((self.low, self.high))

    def __str__(self) -> str:
        interval = f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        return f"{self.statistic}: {interval}, {self.units} {self.of}: {self.verdict}"


@dataclass(frozen=True)
class Claim:
    """What was claimed, and what came out.

    Attributes:
        name: of its file.
        statement: what the paper says, in a sentence; source: which paper, and where.
        command: what gives this result; setting: on what, how long.
        findings: what decides first.
        table: the numbers that the findings are made of, a few rows.
        notes: what this test cannot say.
    """

    name: str
    statement: str
    source: str
    command: str
    setting: str
    findings: list[Finding]
    table: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Supported where all findings that decide are; not supported where one of them is not."""
        found = {finding.verdict for finding in self.findings if finding.decides}
        if "not supported" in found:
            return "not supported"
        return "supported" if found == {"supported"} else "inconclusive"

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{self.statement} ({self.source})", f"{self.verdict}: {self.setting}"]
        return "\n".join([*lines, *(f"- {finding}" for finding in self.findings)])

    def write(self, file: Path) -> None:
        """Keep it as JSON."""
        write_whole(file, json.dumps(plain(asdict(self)), indent=1) + "\n")

    @classmethod
    def read(cls, file: Path) -> Claim:
        """What :meth:`write` kept; a bound that is null is infinite."""
        found = json.loads(file.read_text(encoding="utf-8"))
        findings = []
        for one in found.pop("findings"):
            low, high = one.pop("low"), one.pop("high")
            low = -float("inf") if low is None else low
            high = float("inf") if high is None else high
            findings.append(Finding(low=low, high=high, **one))
        return cls(findings=findings, **found)


def page(claims: Sequence[Claim]) -> str:
    """The page of all claims, in markdown."""
    lines = [
        NOTE,
        "# Claims put to the test",
        "",
        "What papers say of their methods, tested on the small real sets that medssl is tested",
        "with. *Supported*: the whole 95 % interval of what decides lies above 0. *Not supported*:",
        "none of it does. *Inconclusive*: 0 is inside, which says that this test could not tell. A",
        "verdict holds for the sizes stated here and is no verdict on the paper.",
        "",
        "| claim | source | verdict |",
        "| --- | --- | --- |",
    ]
    lines += [f"| [{c.statement}](#{c.name}) | {c.source} | **{c.verdict}** |" for c in claims]
    for claim in claims:
        lines += ["", f"## {claim.name}", "", f"{claim.statement} ({claim.source})", ""]
        lines += [f"    {claim.command}", "", claim.setting, ""]
        lines += ["| statistic | mean [95 % CI] | units | decides | verdict |", "| --- " * 5 + "|"]
        for f in claim.findings:
            interval = f"{f.mean:+.3f} [{f.low:+.3f}, {f.high:+.3f}]"
            decides = "yes" if f.decides else "no"
            lines.append(
                f"| {f.statistic} | {interval} | {f.units} {f.of} | {decides} | {f.verdict} |"
            )
        lines += _table(claim.table)
        if claim.notes:
            lines += ["", *(f"- {note}" for note in claim.notes)]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    names = list(rows[0])
    lines = ["", "| " + " | ".join(names) + " |", "| --- " * len(names) + "|"]
    for row in rows:
        cells = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
