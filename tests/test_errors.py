import pytest

from medssl.errors import CODES, Exit, MedsslError


def test_text_names_code_place_and_remedy():
    error = MedsslError("SLICE_MISSING", "One slice is missing.", where="series-1", fix="Send it.")
    assert str(error) == "SLICE_MISSING: One slice is missing (series-1). Send it."
    assert error.exit_code == Exit.SOME_REJECTED


def test_unknown_code_is_a_bug():
    with pytest.raises(KeyError):
        MedsslError("NO_SUCH_CODE", "x")


def test_every_code_is_a_word_with_a_meaning():
    for code, entry in CODES.items():
        assert code == code.upper()
        assert " " not in code
        assert entry.meaning.endswith(".")
