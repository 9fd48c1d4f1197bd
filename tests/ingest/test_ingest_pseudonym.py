from __future__ import annotations

import hashlib
import hmac

import pytest

from medssl.errors import MedsslError
from medssl.ingest.pseudonym import Pseudonymizer, load_key

KEY = bytes(range(32))


def test_subject_is_the_truncated_hmac():
    expected = hmac.new(KEY, b"subject\0P1", hashlib.sha256).hexdigest()[:12]
    assert Pseudonymizer(KEY).subject("P1") == f"sub-{expected}"
    assert Pseudonymizer(KEY).subject(" P1 ") == f"sub-{expected}"


def test_another_key_or_kind_gives_another_pseudonym():
    names, others = Pseudonymizer(KEY), Pseudonymizer(KEY[::-1])
    assert names.subject("1") != others.subject("1")
    assert names.study("1")[4:] != names.series("1")[4:]


def test_path_hides_names_and_keeps_folders_and_plain_endings():
    names = Pseudonymizer(KEY)
    hidden = names.path("Doe_Jane/CT/MR.1.2.840.113")
    assert hidden.count("/") == 2
    assert all(word not in hidden for word in ("Doe", "Jane", "CT", "840"))
    assert names.path("Doe_Jane/b.nii.gz").endswith(".nii.gz")
    assert names.path("Doe_Jane/b.nii.gz").split("/")[0] == hidden.split("/")[0]


def test_key_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "private" / "site.key"
    key = load_key(path)
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path) == key


@pytest.mark.parametrize("text", ["", "abc", "zz" * 32, "00" * 31])
def test_damaged_key_is_refused(tmp_path, text):
    path = tmp_path / "site.key"
    path.write_text(text)
    with pytest.raises(MedsslError) as caught:
        load_key(path)
    assert caught.value.code == "KEY_INVALID"


def test_missing_key_is_refused_where_it_may_not_be_made(tmp_path):
    with pytest.raises(MedsslError, match="KEY_INVALID"):
        load_key(tmp_path / "site.key", create=False)
