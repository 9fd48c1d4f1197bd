"""Which method helps with what?

Pretrains every method of medssl at equal encoder passes on each data set, and measures it beside
scratch (fine-tuned) and random weights (frozen) on segmentation, classification and regression with
few and many labels, on paired seeds. A comparison that was stopped goes on where it was; methods,
tasks and seeds can be added to it.

    python pipelines/compare_methods.py DATA OUT --config compare_methods/cpu
    python pipelines/compare_methods.py DATA OUT method=[simclr,mae] tasks=[pneumonia] --dry-run
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from medssl.cli.common import StudyKey, preset
from medssl.cli.ending import script
from medssl.config import load
from medssl.studies.compare import Comparison, comparison, report
from medssl.studies.settings import Study


def main(
    data: Annotated[Path, typer.Argument(help="The folder that holds the data sets' folders.")],
    out: Annotated[Path, typer.Argument(help="Where stores, runs, CSV and figure go.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value pairs.")] = None,
    config: Annotated[Path, typer.Option(help="Preset or YAML file.")] = Path(
        "compare_methods/cpu"
    ),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ingest, then say how much there is to do, and stop.")
    ] = False,
    key_file: StudyKey = None,
) -> None:
    """Compare methods at equal encoder passes."""
    study = load(Study, preset(config), overrides or [])
    found = comparison(study, data, out, key_file)
    typer.echo(what_there_is(found))
    if dry_run:
        return
    found.run(typer.echo)
    typer.echo(report(found))


def what_there_is(found: Comparison) -> str:
    """How many cells there are, what a method costs, and roughly how long the rest takes."""
    todo = Counter(cell.kind for cell in found.open_cells())
    seconds = found.estimate()
    lines = [f"{len(found.cells)} cells, {sum(todo.values())} to do:"]
    lines += [f"  {n} {kind}, roughly {seconds[kind] / 60:.0f} min" for kind, n in todo.items()]
    for name, bench in found.benches.items():
        for method, cost in bench.costs.items():
            lines.append(f"  {name}: {method} does {cost.passes:g} encoder passes a sample")
        for method, why in found.left_out[name].items():
            lines.append(f"  {name}: {method} is left out: {why}")
    return "\n".join(lines)


if __name__ == "__main__":
    script(main)
