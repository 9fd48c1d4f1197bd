"""The wheel works with no checkout: its own files come with it, and nothing else does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
import urllib.request
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("apps", "configs", "pipelines")


def _hook_result(version: str) -> dict[str, str]:
    sys.path.insert(0, str(ROOT))
    try:
        from hatch_build import BundleFolders
    finally:
        sys.path.remove(str(ROOT))
    data: dict[str, dict[str, str]] = {"force_include": {}}
    BundleFolders(str(ROOT), {}, None, None, "", "wheel").initialize(version, data)
    return data["force_include"]


def test_editable_install_copies_nothing() -> None:
    assert _hook_result("editable") == {}
    assert set(_hook_result("standard")) == set(FOLDERS)


def test_constraints_pin_every_dependency_and_name_no_place() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        asked += extra
    known = {name.lower().replace("_", "-") for name in pins}
    missing = {word.split(">")[0].split("<")[0].split("=")[0].lower() for word in asked} - known
    assert not missing
    assert "+" not in pins["torch"], "a build tag would not resolve elsewhere"
    assert not [line for line in lines if "://" in line or " @ " in line]


def test_image_context_holds_the_package_and_no_data() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import try_dockerfile
    finally:
        sys.path.remove(str(ROOT / "tools"))
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    lines = [line for line in ignore if line and not line.startswith("#")]
    names = {path.relative_to(ROOT).as_posix() for path in try_dockerfile.context(lines)}
    needed = {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "constraints.txt"}
    assert needed | {"medssl/cli/__init__.py", "apps/review/app.py"} <= names
    tops = {name.split("/")[0] for name in names}
    assert tops <= needed | {"medssl", *FOLDERS}
    assert not [name for name in names if name.endswith((".nii.gz", ".dcm", ".safetensors"))]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by way of the source distribution, as a release is."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def medssl(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`medssl` of a new environment that sees our dependencies, but neither this checkout."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / "bin" / "python"
    install = ["-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index"]
    subprocess.run([sys.executable, *install, str(wheel)], check=True, capture_output=True)
    # A .pth file adds the folder alone: the editable install's own .pth is not read through it.
    site = next(home.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return home / "bin" / "medssl"


def _run(
    medssl: Path, *words: str, cwd: Path, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(medssl), *words], cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False
    )


def _files(folder: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.slow
def test_wheel_holds_the_package_and_its_folders_only(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in FOLDERS:
        assert {f"medssl/_bundled/{name}" for name in _files(folder)} <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"medssl"}
    assert not [name for name in names if name.endswith((".pyc", ".nii.gz", ".dcm", ".npz"))]
    assert [name for name in names if name.endswith("licenses/LICENSE")]


@pytest.mark.slow
def test_wheel_runs_away_from_the_checkout(medssl: Path, tmp_path: Path) -> None:
    place = subprocess.run(
        [
            str(medssl.with_name("python")),
            "-c",
            "import medssl, medssl.resources as r; print(medssl.__file__);"
            "print(r.find('apps/review/app.py')); print(len(r.names('configs', '.yaml')))",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert all(str(medssl.parent.parent) in line for line in place[:2])
    assert int(place[2]) == len([name for name in _files("configs") if name.endswith(".yaml")])

    assert "pretrain" in _run(medssl, "--help", cwd=tmp_path).stdout
    assert _run(medssl, "--version", cwd=tmp_path).stdout.startswith("medssl 0.")
    missing = _run(medssl, "pretrain", "no-store", "out", cwd=tmp_path)
    assert missing.returncode in (2, 6), missing.stderr
    assert "Traceback" not in missing.stderr


@pytest.mark.slow
def test_wheel_makes_the_demo_and_serves_the_review_app(medssl: Path, tmp_path: Path) -> None:
    demo = _run(medssl, "demo", "out", "--quick", cwd=tmp_path, seconds=600)
    assert demo.returncode == 0, demo.stderr
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    results = tmp_path / "out" / "results" / "pretrained"

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["review", str(results), "--port", str(port), "--no-browser"]
    server = subprocess.Popen([str(medssl), *words], cwd=tmp_path, env=dict(os.environ))
    try:
        address = f"http://127.0.0.1:{port}/_stcore/health"
        answer = ""
        for _ in range(60):
            try:
                answer = urllib.request.urlopen(address, timeout=5).read().decode()
                break
            except OSError:
                assert server.poll() is None, "the app ended by itself"
                time.sleep(1)
        assert answer == "ok"
    finally:
        server.terminate()
        server.wait(timeout=20)
