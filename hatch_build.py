"""Put the folders outside the package into the wheel, so that an installed medssl has them too.

They go to `medssl/_bundled/` (see `medssl/resources.py`). An editable install reads the checkout
itself; copying them there as well would leave stale files behind, so this hook skips it.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUNDLED = ("apps", "configs", "pipelines")


class BundleFolders(BuildHookInterface):  # type: ignore[type-arg]
    """Adds apps/, configs/ and pipelines/ to a standard wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        for folder in BUNDLED:
            build_data["force_include"][folder] = f"medssl/_bundled/{folder}"
