"""`medssl review` checks folder and port first, then starts Streamlit with the right options."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from medssl.cli import app, review
from medssl.errors import MedsslError

STATUS = {"format_version": 1, "state": "done", "cases": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "status.json").write_text(json.dumps(STATUS))
    return tmp_path


class Server:
    """Stands for the Streamlit process; remembers how it was started."""

    started: tuple[list[str], dict[str, str]]

    def __init__(self, command: list[str], env: dict[str, str], **_: Any) -> None:
        Server.started = command, env

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self) -> int:
        return 0


def refused(*arguments: str) -> MedsslError:
    result = CliRunner().invoke(app, ["review", *arguments])
    assert isinstance(result.exception, MedsslError)
    return result.exception


def test_a_folder_that_is_missing_or_no_results_folder(tmp_path: Path) -> None:
    assert refused(str(tmp_path / "absent")).code == "INPUT_MISSING"
    assert refused(str(tmp_path)).code == "RESULTS_INVALID"


def test_the_exit_code_and_the_one_line_of_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from medssl.cli import main; main()", "review"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("RESULTS_INVALID: status.json is not there")
    assert done.stderr.count("\n") == 1


def test_a_port_in_use(folder: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert refused(str(folder), "--port", str(port)).code == "PORT_UNAVAILABLE"


def test_an_address_that_is_not_ours(folder: Path) -> None:
    assert refused(str(folder), "--host", "192.0.2.1").code == "PORT_UNAVAILABLE"


def test_how_streamlit_is_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", Server)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.chdir(folder.parent)
    arguments = ["review", folder.name, "--port", "8699", "--no-browser"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "http://127.0.0.1:8699" in result.output
    command, environment = Server.started
    assert command[:4] == [sys.executable, "-m", "streamlit", "run"]
    assert Path(command[4]).is_file()
    assert {
        "--server.address=127.0.0.1",
        "--server.port=8699",
        "--server.headless=true",
        "--browser.gatherUsageStats=false",
        "--server.showEmailPrompt=false",
    } <= set(command)
    assert environment[review.RESULTS_VARIABLE] == str(folder)
    assert environment["PATH"] == os.environ["PATH"]


def test_listening_beyond_this_machine_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", Server)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    result = CliRunner().invoke(app, ["review", str(folder), "--host", "0.0.0.0", "--port", "8698"])
    assert "Anyone who reaches this address" in result.output


def test_help_shows_an_example() -> None:
    result = CliRunner().invoke(app, ["review", "--help"])
    assert "medssl review predictions/" in result.output
