"""``medssl split``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

Stated = Literal["keep", "mend", "ignore"]

if TYPE_CHECKING:
    from medssl.store import Store
    from medssl.store.named_splits import SplitOptions


def split(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store made by ingest.")],
    name: Annotated[str, typer.Option(help="Its name; verbs use `default` unasked.")] = "default",
    fractions: Annotated[
        str | None,
        typer.Option(help="Shares of the subjects. [default: train=0.7,validation=0.1,test=0.2]"),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="K folds instead: every subject tests exactly once.")
    ] = None,
    stratify: Annotated[
        str | None,
        typer.Option(help="Balance the sides by this label, or by modality or label-map."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(help="Keep together all of one site, scanner, manufacturer, ...: a column."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another split.")] = 0,
    keep: Annotated[
        str | None, typer.Option(help="Keep the places of this older split; place new subjects.")
    ] = None,
    stated: Annotated[
        Stated,
        typer.Option(
            help="The splits that tables state: keep them; or mend them, where they separate ids "
            "of one subject, towards the test side; or ignore them."
        ),
    ] = "keep",
    near_duplicates: Annotated[
        bool,
        typer.Option(help="Compare the images too; reads every volume, the first time."),
    ] = True,
    check: Annotated[
        bool, typer.Option("--check", help="Make nothing: run the guard on the splits there are.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Divide a store by subject, and find subjects that are there under two ids.

    The leakage guard runs first: ids, equal voxels and images that look alike tie subjects
    together, and no split separates them. The split is kept in STORE/splits/NAME; `pretrain`,
    `evaluate` and `finetune` hold out the same subjects by it.

    \b
    Example:
      medssl split STORE --stratify finding
      medssl split STORE --folds 5 --name cv
      medssl finetune segmentation STORE runs/fold0 split=cv:0
      medssl split STORE --by site --fractions train=0.5,test=0.5 --name other-site
      medssl split STORE --check
    """
    from medssl.config import load
    from medssl.store import Store
    from medssl.store.named_splits import SplitOptions

    opened = Store.open(store)
    if check:
        return _check(opened, near_duplicates, as_json)
    values = {
        "name": name,
        "fractions": _fractions(fractions),
        "folds": folds,
        "stratify": stratify,
        "by": by,
        "seed": seed,
        "keep": keep,
        "stated": stated,
        "near_duplicates": near_duplicates,
    }
    _make(opened, load(SplitOptions, values=values), as_json)


def _make(store: Store, options: SplitOptions, as_json: bool) -> None:
    from medssl.store.make_split import make_split
    from medssl.store.named_splits import DEFAULT, write_split
    from medssl.store.strata import absent, summary

    made = make_split(store, options)
    write_split(store, made)
    rows = summary(store.manifest, made.sides)
    warnings = absent(rows, options.by)
    if as_json:
        _json({**made.record.model_dump(mode="json"), "sides": rows, "warnings": warnings})
        return
    _show(f"split {options.name}: {made.record.subjects} subjects", rows)
    _show_findings(made.record.findings, "These count as one subject, and are on one side")
    for note in [*made.record.notes, *(f"Warning: {text}" for text in warnings)]:
        typer.echo(note)
    if options.folds:
        name = f"{options.name}:0"
        typer.echo(f"Its first fold: split={name} (pretrain, finetune), --split {name} (evaluate)")
    elif options.name == DEFAULT:
        typer.echo("pretrain, evaluate and finetune use it unasked.")
    else:
        name = options.name
        typer.echo(f"Use it: split={name} (pretrain, finetune), --split {name} (evaluate)")


def _fractions(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {key.strip(): float(value) for key, value in pairs}
    except ValueError:
        raise typer.BadParameter("such as train=0.7,validation=0.1,test=0.2") from None


def _check(store: Store, near_duplicates: bool, as_json: bool) -> None:
    from medssl.errors import MedsslError
    from medssl.store.leakage import separated
    from medssl.store.make_split import describe_finding, find_leaks
    from medssl.store.named_splits import DEFAULT, list_splits, read_split
    from medssl.store.splits import stated_splits

    findings, notes = find_leaks(store, near_duplicates)
    described = [describe_finding(finding) for finding in findings]
    sides = {name: read_split(store, name).sides for name in list_splits(store)}
    stated = stated_splits(store.manifest)
    if stated and DEFAULT not in sides:  # else no verb goes by them
        sides["(stated by tables)"] = dict.fromkeys(store.manifest["subject_id"], "train") | stated
    leaks = {n: len({f.subjects for f in separated(findings, s)}) for n, s in sides.items()}
    if as_json:
        _json({"findings": described, "notes": notes, "leaks": leaks})
    else:
        _show_findings(described, "Ids that seem to be one subject")
        for line in [
            *notes,
            *(f"{name}: {count} pairs separated" for name, count in leaks.items()),
        ]:
            typer.echo(line)
        if not findings:
            typer.echo("No subject was found under two ids.")
    broken = [name for name, count in leaks.items() if count]
    if broken:
        raise MedsslError(
            "SUBJECT_LEAK",
            f"{sum(leaks.values())} pairs of ids of one subject are separated",
            where=", ".join(broken),
            fix="Make these splits anew; `medssl split` keeps such pairs together.",
        )


def _json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=2))


def _show(title: str, rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    keys = list(rows[0]["classes"])
    for column in ("split", "subjects", "volumes", *keys):
        table.add_column(column, justify="right" if column in ("subjects", "volumes") else "left")
    for row in rows:
        counts = [_counts(row["classes"][key]) for key in keys]
        table.add_row(row["split"], str(row["subjects"]), str(row["volumes"]), *counts)
    Console().print(table)


def _counts(classes: dict[str, int], most: int = 10) -> str:
    if len(classes) > most:
        return f"{len(classes)} values"
    return ", ".join(f"{value}: {count}" for value, count in classes.items())


def _show_findings(findings: list[dict[str, Any]], title: str, most: int = 20) -> None:
    from rich.console import Console
    from rich.table import Table

    pairs: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in findings:
        pairs.setdefault(tuple(row["subjects"]), []).append(row)
    if not pairs:
        return
    table = Table(title=f"{title}: {len(pairs)} pairs", title_justify="left")
    for column in ("subjects", "volumes", "evidence", "score"):
        table.add_column(column)
    for subjects, rows in list(pairs.items())[:most]:
        kinds = "\n".join(f"{row['evidence']}: same {row['kind']}" for row in rows)
        scores = "\n".join(f"{row['score']:.6g}" for row in rows)
        table.add_row("\n".join(subjects), "\n".join(rows[0]["volumes"]), kinds, scores)
    Console().print(table)
    if len(pairs) > most:
        typer.echo(f"... and {len(pairs) - most} more; --json lists all")
