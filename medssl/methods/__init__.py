"""The self-supervised methods by name."""

from medssl.errors import MedsslError
from medssl.methods.barlow import Barlow
from medssl.methods.base import Crops, Method, MethodConfig, Samples, Step
from medssl.methods.dcl import DCL
from medssl.methods.intensity_config import check_views
from medssl.methods.mae import MAE
from medssl.methods.mixed_barlow import MixedBarlow
from medssl.methods.nnclr import NNCLR
from medssl.methods.ressl import ReSSL
from medssl.methods.simclr import SimCLR
from medssl.methods.vicreg import VICReg

METHODS: dict[str, type[Method]] = {
    "barlow": Barlow,
    "dcl": DCL,
    "mae": MAE,
    "mixed_barlow": MixedBarlow,
    "nnclr": NNCLR,
    "ressl": ReSSL,
    "simclr": SimCLR,
    "vicreg": VICReg,
}


def method_class(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        MedsslError: METHOD_UNKNOWN, naming those there are.
    """
    if name not in METHODS:
        raise MedsslError(
            "METHOD_UNKNOWN", f"There is no method {name}", fix=f"There are: {', '.join(METHODS)}."
        )
    return METHODS[name]


__all__ = [
    "METHODS",
    "Crops",
    "Method",
    "MethodConfig",
    "Samples",
    "Step",
    "check_views",
    "method_class",
]
