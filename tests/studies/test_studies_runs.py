import pytest

from medssl.errors import MedsslError
from medssl.studies import runs
from medssl.studies.runs import pretrained, same_study, set_aside
from medssl.training.pretrain import PretrainConfig


def test_a_study_goes_on_only_under_its_own_configuration(tmp_path):
    same_study("one", tmp_path)
    same_study("one", tmp_path)
    with pytest.raises(MedsslError, match="RESUME_MISMATCH"):
        same_study("another", tmp_path)


def test_nothing_is_overwritten(tmp_path):
    folder = tmp_path / "run"
    for _ in range(2):
        folder.mkdir()
        set_aside(folder)
    assert {p.name for p in tmp_path.iterdir()} == {"run.stopped-0", "run.stopped-1"}


def test_a_pretraining_is_begun_gone_on_with_or_used(tmp_path, monkeypatch):
    asked = []

    def pretrain(store, out, config, *, resume, tracking_folder):
        asked.append(resume)
        (out / "bundle").mkdir(parents=True)

    monkeypatch.setattr(runs, "pretrain", pretrain)
    monkeypatch.setattr(runs.Bundle, "load", lambda path: None)
    folder, config = tmp_path / "run", PretrainConfig()
    folder.mkdir()
    (folder / "run.json").write_text("{}")  # stopped before its first checkpoint: set aside
    assert pretrained(tmp_path, folder, config, tmp_path) == folder / "bundle"
    assert (tmp_path / "run.stopped-0" / "run.json").exists()
    pretrained(tmp_path, folder, config, tmp_path)
    assert asked == [False]
    (folder / "bundle").rmdir()
    (folder / "checkpoints" / "step-1").mkdir(parents=True)
    pretrained(tmp_path, folder, config, tmp_path)
    assert asked == [False, True]
