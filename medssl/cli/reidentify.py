"""``medssl reidentify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def reidentify(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store made by ingest.")],
    pseudonym: Annotated[
        str, typer.Argument(metavar="ID", help="A volume, subject, study or series id of it.")
    ],
    private: Annotated[
        Path | None, typer.Option(help="Folder of the private ledger; STORE.private by default.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Site key; site.key in that folder by default.")
    ] = None,
) -> None:
    """Print the real paths of the files that an id of a store stands for.

    For the site's own eyes: what it prints can name patients. It needs the private ledger and the
    key that made its pseudonyms, and refuses with any other key.

    \b
    Example:
      medssl reidentify store/ vol-0123456789abcdef
      medssl reidentify store/ sub-0123456789ab --private safe/store.private
    """
    from medssl.ingest.reidentify import reidentify as run
    from medssl.ingest.run import KEY_NAME, PRIVATE_SUFFIX

    folder = private or store.with_name(store.name + PRIVATE_SUFFIX)
    for path in run(store, pseudonym, folder, key_file or folder / KEY_NAME):
        typer.echo(path.encode("utf-8", "surrogateescape"))
