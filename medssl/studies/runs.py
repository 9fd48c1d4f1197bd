"""One run of a study, or what is on disk of it; and the study that a folder belongs to."""

from __future__ import annotations

from pathlib import Path

from medssl.bundle import Bundle
from medssl.errors import MedsslError
from medssl.training.pretrain import PretrainConfig, pretrain


def same_study(text: str, out: Path) -> None:
    """Go on with a stopped study only under the configuration it was started with.

    Args:
        text: the configuration.
        out: the study's folder; keeps it as ``study.json``.

    Raises:
        MedsslError: RESUME_MISMATCH.
    """
    file = out / "study.json"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise MedsslError(
            "RESUME_MISMATCH",
            "The study in this folder was started with another configuration",
            where=out.name,
            fix="Give another folder, or the configuration it was started with.",
        )
    write_whole(file, text)


def set_aside(folder: Path) -> None:
    """Rename an unfinished run, so that nothing is overwritten."""
    if folder.exists():
        number = len(list(folder.parent.glob(f"{folder.name}.stopped-*")))
        folder.rename(folder.with_name(f"{folder.name}.stopped-{number}"))


def pretrained(store: Path, folder: Path, settings: PretrainConfig, tracking_folder: Path) -> Path:
    """The bundle of one pretraining: what is on disk, or what there is of it brought to its end.

    Raises:
        MedsslError: what :func:`medssl.training.pretrain.pretrain` raises.
    """
    bundle = folder / "bundle"
    if not bundle.exists():
        started = any((folder / "checkpoints").glob("*"))
        if not started:
            # stopped before its first checkpoint
            set_aside(folder)
        pretrain(store, folder, settings, resume=started, tracking_folder=tracking_folder)
    Bundle.load(bundle)
    return bundle


def write_whole(file: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
