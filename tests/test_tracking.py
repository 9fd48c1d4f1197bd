import getpass
import re
import shutil
import socket
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from medssl import tracking


def test_a_run_holds_config_metrics_and_figures(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with tracking.run("exp", "name", tmp_path, tags={"kind": "test"}) as run:
        run.log_config({"steps": 3, "inner": {"rate": 0.5}})
        run.log_metrics({"loss": 2.0, "bad": float("nan"), "worse": float("inf")}, 7)
        run.log_figure(Figure(), "empty")
    client = MlflowClient(tracking.default_uri(tmp_path))
    found = client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"steps": "3", "inner.rate": "0.5"}
    assert found.data.metrics == {"loss": 2.0}
    assert client.get_metric_history(run.run_id, "loss")[0].step == 7
    names = {file.path for file in client.list_artifacts(run.run_id)}
    assert names == {"config.json", "figures"}
    assert found.data.tags.get("mlflow.user") is None

    with (
        pytest.raises(ZeroDivisionError),
        tracking.run("exp", "name", tmp_path, resume_run=run.run_id) as again,
    ):
        raise ZeroDivisionError
    assert again.run_id == run.run_id
    assert client.get_run(run.run_id).info.status == "FAILED"


def test_the_server_of_the_environment_is_used(tmp_path, monkeypatch):
    uri = tracking.default_uri(tmp_path / "elsewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with tracking.run("exp", "name", tmp_path / "here") as run:
        pass
    assert run.uri == uri
    assert not (tmp_path / "here").exists()


def test_a_run_says_which_code_made_it(tmp_path, monkeypatch):
    version = tracking.code_version()
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", version["git_revision"])
    assert re.match(r"\d+\.\d+", version["medssl_version"])
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert tracking.code_version()["git_revision"] == "unknown"


def test_an_installed_medssl_does_not_take_another_repository_for_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(tracking, "__file__", str(tmp_path / "site-packages/medssl/tracking.py"))
    assert tracking.code_version()["git_revision"] == "unknown"


def test_nothing_of_the_machine_or_a_patient_is_sent(blob_store, tmp_path, monkeypatch):
    """A whole run, in folders and with a store whose names would tell: none of them arrives."""
    from mlflow import MlflowClient

    from medssl.training.pretrain import PretrainConfig, pretrain

    place = tmp_path / "DOE^JANE-canary"
    place.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.default_uri(tmp_path))
    monkeypatch.chdir(place)
    small = {"encoder_options": {"widths": [4, 8]}, "device": "cpu", "steps": 2, "batch_size": 2}
    store = shutil.copytree(blob_store, place / "store")
    result = pretrain(store, place / "run", PretrainConfig(**small))
    client = MlflowClient(tracking.default_uri(tmp_path))
    run = client.get_run(result.mlflow_run)
    told = [*run.data.params.values(), *run.data.tags.values(), *run.data.metrics]
    sent = tmp_path / "sent"
    sent.mkdir()
    fetched = Path(client.download_artifacts(result.mlflow_run, "", str(sent)))
    for path in fetched.rglob("*"):
        told.append(path.relative_to(fetched).as_posix())
        if path.is_file():
            told.append(path.read_bytes().decode("latin-1"))
    assert {"data_fingerprint", "git_revision", "medssl_version"} <= set(run.data.tags)
    assert {"loss", "data_fraction", "samples_per_second"} <= set(run.data.metrics)
    assert any(name.startswith("bundle/") for name in told)
    assert any(name.startswith("previews/") for name in told)
    words = {"canary", "JANE", str(tmp_path), getpass.getuser(), socket.gethostname(), "vol-0"}
    # A short name of a machine, such as "vm", stands in any binary file.
    found = {word for word in words if len(word) > 4 for text in told if word in text}
    assert not found
