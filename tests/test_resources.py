"""medssl/resources.py: the folders beside the package, in a checkout and in a wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from medssl import resources
from medssl.errors import MedsslError


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder as a wheel leaves it: _bundled/ inside, no pyproject.toml beside."""
    package = tmp_path / "site-packages" / "medssl"
    (package / "_bundled" / "configs").mkdir(parents=True)
    (package / "_bundled" / "configs" / "a.yaml").write_text("seed: 1\n")
    monkeypatch.setattr(resources, "_PACKAGE", package)
    return package


def test_checkout_has_the_three_folders() -> None:
    root = Path(__file__).resolve().parent.parent
    assert resources.find("configs") == root / "configs"


def test_wheel_finds_its_own_copy(installed: Path) -> None:
    assert resources.find("configs/a.yaml") == installed / "_bundled" / "configs" / "a.yaml"
    assert resources.names("configs", ".yaml") == ["configs/a.yaml"]


def test_foreign_folder_in_site_packages_is_not_ours(installed: Path) -> None:
    foreign = installed.parent / "configs" / "foreign.yaml"
    foreign.parent.mkdir()
    foreign.write_text("")
    with pytest.raises(MedsslError, match="RESOURCE_MISSING"):
        resources.find("configs/foreign.yaml")


@pytest.mark.parametrize("bad", ["configs/none.yaml", "docs/x", "configs/../setup", "", "/etc"])
def test_anything_else_is_missing(bad: str) -> None:
    with pytest.raises(MedsslError) as caught:
        resources.find(bad)
    assert caught.value.code == "RESOURCE_MISSING"
