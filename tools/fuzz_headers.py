"""Feed made-up bytes to the header path, guided by what they reach (needs ``pip install atheris``).

Whatever the bytes, a file is slices or a refusal with a known code, and the lean walk says what
pydicom says. Ends at the first input for which that is not so, and leaves it in the current folder.

    python tools/fuzz_headers.py CORPUS -max_total_time=600 -max_len=8192

CORPUS is a folder of small DICOM files to start from; what is found to be interesting is added.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["medssl", "pydicom"]):
    from medssl.errors import CODES
    from medssl.ingest import slices
    from medssl.ingest.headers import Refused
    from medssl.ingest.lean import read_lean

_PLACE = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)) / "file"


def check(data: bytes) -> None:
    """Read one input twice: with the lean walk and without it."""
    _PLACE.write_bytes(data)
    slices.read_lean = read_lean
    found = slices.read_slices(_PLACE)
    if isinstance(found, Refused):
        assert found.code in CODES
    slices.read_lean = lambda *_: None
    assert found == slices.read_slices(_PLACE)


if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
