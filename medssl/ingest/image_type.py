"""What Image Type and Frame Type say of an image."""

from __future__ import annotations

from collections.abc import Collection

from medssl.errors import MedsslError

# Third and later values of Image Type (PS3.3 C.7.6.1.1.2) of images that are no acquired slices.
_PROJECTIONS = frozenset(
    {"PROJECTION IMAGE", "MIP", "MINIP", "MIN IP", "SCREEN SAVE", "DOSE_INFO", "SCREENSHOT"}
)


def refuse_image_type(image_type: list[str], allow: Collection[str] = ()) -> tuple[str, ...]:
    """Raise for an Image Type or Frame Type of what is no acquired slice.

    Returns:
        the codes of ``allow`` that were needed.

    Raises:
        MedsslError: LOCALIZER, DERIVED.
    """
    found = {
        "LOCALIZER": bool({"LOCALIZER", "SCOUT"} & set(image_type)),
        "DERIVED": bool(_PROJECTIONS & set(image_type)),
    }
    codes = tuple(code for code, present in found.items() if present)
    for code in codes:
        if code not in allow:
            raise MedsslError(code, "Image Type says so: localizer, projection or screen")
    return codes
