"""Fine-tuning with few labels: segmentation, classification and regression."""

from medssl.finetune.config import FinetuneConfig
from medssl.finetune.run import FinetuneResult, finetune

__all__ = ["FinetuneConfig", "FinetuneResult", "finetune"]
