"""The self-supervised methods by name."""

from medssl.errors import MedsslError
from medssl.methods.alice import Alice
from medssl.methods.anatomical_embedding import AnatomicalEmbedding
from medssl.methods.barlow import Barlow
from medssl.methods.base import Crops, Method, MethodConfig, Samples, Step
from medssl.methods.byol import BYOL
from medssl.methods.dcl import DCL
from medssl.methods.deepcluster import DeepCluster
from medssl.methods.dense_contrast import DenseContrast
from medssl.methods.dino import DINO
from medssl.methods.directpred import DirectPred
from medssl.methods.global_local import GlobalLocal
from medssl.methods.gmml import GMML
from medssl.methods.hybrid import Hybrid
from medssl.methods.image_volume import ImageVolume
from medssl.methods.intensity_config import check_views
from medssl.methods.mae import MAE
from medssl.methods.mixed_barlow import MixedBarlow
from medssl.methods.moco import MoCo
from medssl.methods.mp3 import MP3
from medssl.methods.nnclr import NNCLR
from medssl.methods.pixpro import PixPro
from medssl.methods.relative_position import RelativePosition
from medssl.methods.ressl import ReSSL
from medssl.methods.rotation import Rotation
from medssl.methods.simclr import SimCLR
from medssl.methods.simmim import SimMIM
from medssl.methods.simsiam import SimSiam
from medssl.methods.sit import SiT
from medssl.methods.swav import SwAV
from medssl.methods.uni4eye import Uni4Eye
from medssl.methods.vicreg import VICReg

METHODS: dict[str, type[Method]] = {
    "mae": MAE,
    "simmim": SimMIM,
    "gmml": GMML,
    "simclr": SimCLR,
    "dcl": DCL,
    "moco": MoCo,
    "nnclr": NNCLR,
    "ressl": ReSSL,
    "byol": BYOL,
    "directpred": DirectPred,
    "simsiam": SimSiam,
    "vicreg": VICReg,
    "barlow": Barlow,
    "mixed_barlow": MixedBarlow,
    "swav": SwAV,
    "deepcluster": DeepCluster,
    "dino": DINO,
    "sit": SiT,
    "hybrid": Hybrid,
    "pixpro": PixPro,
    "dense_contrast": DenseContrast,
    "rotation": Rotation,
    "relative_position": RelativePosition,
    "mp3": MP3,
    "anatomical_embedding": AnatomicalEmbedding,
    "global_local": GlobalLocal,
    "uni4eye": Uni4Eye,
    "image_volume": ImageVolume,
    "alice": Alice,
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
