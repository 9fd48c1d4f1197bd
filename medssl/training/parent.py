"""The bundle whose frozen weights a method reads: it must fit the run, and is recorded by its
weights, not by where it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from medssl import config as configuration
from medssl.bundle import Bundle
from medssl.errors import MedsslError
from medssl.methods import MethodConfig, method_class

if TYPE_CHECKING:
    from medssl.training.pretrain import PretrainConfig

    C = TypeVar("C", bound=PretrainConfig)


def parent_of(config: PretrainConfig) -> Bundle | None:
    """The bundle that a resolved configuration names for its method; None where it names none.

    Raises:
        MedsslError: CONTRACT_MISMATCH where the bundle is used to other images, and what
            :meth:`Bundle.load` raises.
    """
    options = _options(config)
    if options.frozen_bundle() is None:
        return None
    bundle = Bundle.load(options.frozen_bundle() or "")
    contract = bundle.spec.contract
    asked = {"dims": config.dims, "spacing": config.spacing, "intensity": config.intensity}
    for name, value in asked.items():
        if getattr(contract, name) != value:
            raise MedsslError(
                "CONTRACT_MISMATCH",
                f"The bundle that the method reads was trained with another {name}",
                where=bundle.path.name,
                fix=f"Pretrain with the same {name} as it was.",
            )
    return bundle


def recorded(config: C, parent: Bundle | None) -> C:
    """The configuration as it is kept: the bundle by the hash of its weights."""
    if parent is None:
        return config
    named = _options(config).with_bundle(f"sha256:{parent.spec.weights_sha256}")
    return config.model_copy(update={"options": named.model_dump(mode="json")})


def _options(config: PretrainConfig) -> MethodConfig:
    return configuration.load(method_class(config.method).Config, values=config.options)
