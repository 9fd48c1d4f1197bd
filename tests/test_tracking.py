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
