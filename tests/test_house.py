"""The rules of the house: who may import whom, and what the code may not contain."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medssl.errors import CODES

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "medssl"

# room -> the rooms it may import. What is not listed is not allowed.
_BASE = {
    "bundle", "cluster", "config", "drawing", "errors", "imports", "processes", "progress",
    "resources", "store", "tracking",
}  # fmt: skip
_METHODS = _BASE | {"views", "networks", "losses", "methods"}
_VERBS = {"ingest", "training", "finetune", "evaluate", "predict"}
_TOP = _METHODS | _VERBS | {"phantom", "studies"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "cluster": {"errors"},
    "imports": set(),
    "processes": set(),
    "progress": set(),
    "resources": {"errors"},
    "drawing": set(),
    "config": {"errors", "resources"},
    "store": {"errors", "progress", "config"},
    "losses": {"errors", "processes"},
    "views": {"errors"},
    "networks": {"errors", "processes"},
    "card": set(),
    "bundle": {"errors", "config", "card", "store", "networks"},
    "tracking": {"errors", "progress", "config", "bundle"},
    "phantom": {"errors", "progress"},
    "methods": _METHODS,
    "ingest": _METHODS,
    "training": _METHODS,
    "evaluate": _METHODS | {"training"},
    "finetune": _METHODS | {"training", "evaluate"},
    # the sliding window that a model was validated with is the one it is deployed with
    "predict": _METHODS | {"ingest", "evaluate"},
    "studies": _METHODS | {"ingest", "training", "evaluate", "finetune"},
    "demo": _TOP,
    "cli": _TOP | {"demo"},
    "pipelines": _TOP | {"cli"},
    "apps": _TOP,
}

# dependency -> where it may be imported
HOMES: dict[str, tuple[str, ...]] = {
    "pydicom": ("medssl/ingest/", "medssl/predict/", "medssl/phantom/"),
    "pylibjpeg": ("medssl/ingest/",),
    "blosc2": ("medssl/store/arrays.py",),
    "highdicom": ("medssl/predict/dicom_seg.py",),
    "distributed": ("medssl/cluster.py",),
    "dask": ("medssl/cluster.py",),
    "lightning": ("medssl/training/", "medssl/finetune/"),
    "pytorch_lightning": (),
    "mlflow": ("medssl/tracking.py",),
    "streamlit": ("apps/",),
    "sqlalchemy": ("apps/",),
    "typer": ("medssl/cli/", "pipelines/"),
    "torchvision": (),
    "timm": (),
    "lightly": (),
}

PICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def _files(*folders: str) -> list[Path]:
    return [
        path
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "__pycache__" not in path.parts
    ]


CODE = _files("medssl", "apps", "pipelines")
MEDSSL = _files("medssl")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _room(path: Path) -> str:
    """The room a file is in: `medssl/store/arrays.py` -> store, `medssl/bundle.py` -> bundle."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "medssl":
        return parts[0]
    return "" if parts[1] == "__init__" else parts[1]


def _imports(tree: ast.Module, path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too, as absolute dotted names."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _wrong_rooms(tree: ast.Module, path: Path) -> list[str]:
    room = _room(path)
    allowed = ALLOWED.get(room, set()) | {room}
    wrong = []
    for module in _imports(tree, path):
        parts = module.split(".")
        if parts[0] == "medssl" and len(parts) > 1:
            # `from medssl import __version__` names no room
            if parts[1] in ALLOWED and parts[1] not in allowed:
                wrong.append(f"{_name(path)}: {room} imports {parts[1]}")
        elif parts[0] in ("apps", "pipelines") and parts[0] != room:
            wrong.append(f"{_name(path)}: imports {parts[0]}")
    return wrong


@pytest.mark.parametrize("path", CODE, ids=_name)
def test_imports_go_one_way(path: Path) -> None:
    wrong = _wrong_rooms(_tree(path), path)
    assert not wrong


def test_the_import_check_sees_what_it_should() -> None:
    path = PACKAGE / "losses" / "example.py"
    source = "def f():\n    from ..store import Store\n    import medssl.training.loop\n"
    wrong = _wrong_rooms(ast.parse(source), path)
    assert any("imports store" in line for line in wrong)
    assert any("imports training" in line for line in wrong)


def test_every_room_has_a_place_in_the_order() -> None:
    rooms = {_room(path) for path in CODE} - {""}
    assert rooms <= set(ALLOWED), "give the new room its place in ALLOWED"


def test_no_two_rooms_import_each_other() -> None:
    """ALLOWED lets the base rooms see one another; what they really do must have no circle."""
    graph: dict[str, set[str]] = {room: set() for room in ALLOWED}
    for path in CODE:
        for module in _imports(_tree(path), path):
            parts = module.split(".")
            if parts[0] == "medssl" and len(parts) > 1 and parts[1] in ALLOWED and _room(path):
                graph[_room(path)].add(parts[1])
    settled: set[str] = set()
    while ready := [r for r in graph if r not in settled and graph[r] - {r} <= settled]:
        settled.update(ready)
    assert settled == set(graph), f"rooms in a circle: {sorted(set(graph) - settled)}"


@pytest.mark.parametrize("path", CODE, ids=_name)
def test_every_dependency_has_one_home(path: Path) -> None:
    name = _name(path)
    for module in _imports(_tree(path), path):
        homes = HOMES.get(module.split(".")[0])
        assert homes is None or name.startswith(homes or ("nowhere",)), f"{name} imports {module}"


@pytest.mark.parametrize("path", CODE, ids=_name)
def test_nothing_is_pickled(path: Path) -> None:
    tree = _tree(path)
    assert not {module.split(".")[0] for module in _imports(tree, path)} & PICKLING
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {("torch", "load"), ("torch", "save")}
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False


@pytest.mark.parametrize("path", MEDSSL, ids=_name)
def test_a_file_fits_in_the_head_and_a_function_on_a_screen(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 300
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef):
            told = node.body[0] if ast.get_docstring(node) is not None else None
            docstring = (told.end_lineno or 0) - told.lineno + 1 if told else 0
            length = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring
            assert length < 70, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", CODE, ids=_name)
def test_no_silence_and_no_print(path: Path) -> None:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: a bare except"
            only = node.body[0] if len(node.body) == 1 else None
            assert not isinstance(only, ast.Pass), f"line {node.lineno}: an error is swallowed"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            printing = node.func.id == "print"
            assert not printing or _room(path) in ("cli", "pipelines"), f"print, line {node.lineno}"


def _codes_raised() -> dict[str, str]:
    """code -> one file that builds a MedsslError with it"""
    found: dict[str, str] = {}
    for path in CODE:
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                word = node.value
                if word in CODES and path.name != "errors.py":
                    found[word] = _name(path)
    return found


def test_no_error_code_is_left_over() -> None:
    unused = sorted(set(CODES) - set(_codes_raised()))
    assert not unused, "in CODES, but nothing raises or records them"


def test_every_raised_code_is_known() -> None:
    for path in CODE:
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "MedsslError":
                code = node.args[0]
                if isinstance(code, ast.Constant):
                    assert code.value in CODES, f"{_name(path)}:{node.lineno}"


HEAVY = {
    "torch", "monai", "lightning", "mlflow", "matplotlib", "pandas", "pydicom", "highdicom",
    "sklearn", "scipy", "SimpleITK", "streamlit", "sqlalchemy", "nibabel",
}  # fmt: skip

_PROBE = """
import sys, time
start = time.process_time()
{code}
print(time.process_time() - start)
print(" ".join(name for name in sys.modules if "." not in name))
"""

_HELP = """
import contextlib, io
sys.argv = ["medssl", "--help"]
from medssl.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
"""


@pytest.mark.parametrize("code", ["import medssl", _HELP], ids=["import", "help"])
def test_starting_is_quick(code: str) -> None:
    seconds = []
    for _ in range(3):
        script = _PROBE.format(code=code)
        run = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
        )
        spent, modules = run.stdout.strip().splitlines()[-2:]
        assert not HEAVY & set(modules.split())
        seconds.append(float(spent))
    # Processor time, best of three: the rule is about our imports, not about a busy machine.
    assert min(seconds) < 0.5


_TRACKED = """
import socket, sys, time
from pathlib import Path
asked, real = [], socket.getaddrinfo
def watched(host, *rest, **more):
    asked.append(host)
    return real(host, *rest, **more)
socket.getaddrinfo = watched
from medssl import tracking
with tracking.run("house", "calls-home", Path(sys.argv[1])) as run:
    run.log_metrics({"loss": 1.0})
time.sleep(1)
print("asked for", asked)
"""


def test_tracking_calls_nobody(tmp_path: Path) -> None:
    """MLflow reports its use to its makers unless told not to; a hospital's must not."""
    quiet = ("CI", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "MLFLOW_TRACKING_URI")
    env = {k: v for k, v in os.environ.items() if k not in quiet and "PYTEST" not in k}
    run = subprocess.run(
        [sys.executable, "-c", _TRACKED, str(tmp_path)],
        capture_output=True, text=True, check=True, cwd=ROOT, env=env,
    )  # fmt: skip
    assert run.stdout.strip() == "asked for []"


def test_the_reference_is_current() -> None:
    """docs/reference is written from the code by `make docs`."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import make_reference
    finally:
        sys.path.remove(str(ROOT / "tools"))
    for name, text in make_reference.pages().items():
        path = ROOT / "docs" / "reference" / name
        assert path.read_text(encoding="utf-8") == text, f"run `make docs`: {name} is out of date"


def test_every_error_code_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    missing = [code for code in CODES if f"`{code}`" not in page]
    assert not missing


def test_links_between_the_docs_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{_name(page)} -> {target}")
    assert not broken
