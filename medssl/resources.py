"""Files that live beside the package: the review app, the presets and the pipelines.

In a checkout they are the folders `apps/`, `configs/` and `pipelines/` of the repository; in an
installed wheel the same folders lie under `medssl/_bundled/` (put there by `hatch_build.py`).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from medssl.errors import MedsslError

FOLDERS = ("apps", "configs", "pipelines")
_PACKAGE = Path(__file__).resolve().parent


def _roots() -> list[Path]:
    """Folders that may hold FOLDERS: the wheel's own first, then the checkout."""
    roots = [_PACKAGE / "_bundled"]
    # Beside an installed package lies site-packages, where a foreign `configs/` may live: only a
    # folder with our pyproject.toml is a checkout.
    if (_PACKAGE.parent / "pyproject.toml").is_file():
        roots.append(_PACKAGE.parent)
    return roots


def find(relative: str) -> Path:
    """The file or folder `relative`, such as `configs/pretrain/mae3d.yaml`, wherever it was put.

    `relative` has forward slashes, starts with one of FOLDERS and does not climb out of it.
    Raises RESOURCE_MISSING where there is no such file.
    """
    parts = PurePosixPath(relative).parts
    if parts and parts[0] in FOLDERS and ".." not in parts:
        for root in _roots():
            path = root.joinpath(*parts)
            if path.exists():
                return path
    raise MedsslError(
        "RESOURCE_MISSING",
        "No such file comes with medssl",
        where=relative,
        fix="Install medssl again, or give the path of a file of your own.",
    )


def names(folder: str, suffix: str = "") -> list[str]:
    """The files under `folder` (recursively) that end in `suffix`, as arguments for `find`, sorted.

    Raises RESOURCE_MISSING where there is no such folder.
    """
    top = find(folder)
    return sorted(
        f"{folder}/{path.relative_to(top).as_posix()}"
        for path in top.rglob(f"*{suffix}")
        if path.is_file() and "__pycache__" not in path.parts
    )
