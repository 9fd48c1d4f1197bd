"""Fine-tuning with few labels: segmentation and classification."""

from medssl.finetune.config import FinetuneConfig
from medssl.finetune.run import FinetuneResult, finetune

__all__ = ["FinetuneConfig", "FinetuneResult", "finetune"]
