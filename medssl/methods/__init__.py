"""The self-supervised methods by name."""

from medssl.errors import MedsslError
from medssl.methods.base import Crops, Method, MethodConfig, Samples, Step
from medssl.methods.deepcluster import DeepCluster
from medssl.methods.intensity_config import check_views
from medssl.methods.mae import MAE
from medssl.methods.simclr import SimCLR
from medssl.methods.swav import SwAV

METHODS: dict[str, type[Method]] = {
    "deepcluster": DeepCluster,
    "mae": MAE,
    "simclr": SimCLR,
    "swav": SwAV,
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
