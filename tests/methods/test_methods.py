import pytest

from medssl.errors import MedsslError
from medssl.methods import METHODS, method_class
from medssl.methods.simclr import SimCLR


def test_methods_are_found_by_name():
    assert METHODS["simclr"] is SimCLR
    with pytest.raises(MedsslError, match="METHOD_UNKNOWN"):
        method_class("dino-9")
