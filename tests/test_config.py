import pytest

from medssl.config import StrictModel, load
from medssl.errors import MedsslError


class Inner(StrictModel):
    rate: float = 1.0


class Outer(StrictModel):
    steps: int = 10
    inner: Inner = Inner()


def test_file_then_values_then_overrides(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("steps: 1\ninner: {rate: 2}\n")
    assert load(Outer, file) == Outer(steps=1, inner=Inner(rate=2))
    assert load(Outer, file, values={"steps": 5}).steps == 5
    assert load(Outer, file, ["steps=7", "inner.rate=3.5"], {"steps": 5}) == Outer(
        steps=7, inner=Inner(rate=3.5)
    )


@pytest.mark.parametrize(
    ("override", "near"), [("stepz=1", "steps"), ("inner.rat=1", "inner.rate")]
)
def test_unknown_key_names_the_nearest(override, near):
    with pytest.raises(MedsslError) as caught:
        load(Outer, None, [override])
    assert caught.value.code == "CONFIG_UNKNOWN_KEY"
    assert near in caught.value.fix


@pytest.mark.parametrize("override", ["steps=many", "steps", "steps.x=1: 2", "=3", "inner=[1"])
def test_bad_values_are_refused(override):
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        load(Outer, None, [override])


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "\x00"])
def test_unreadable_file(tmp_path, text):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(MedsslError, match="CONFIG_UNREADABLE"):
        load(Outer, file)
