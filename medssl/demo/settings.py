"""How large the demonstration is. The full one is sized for two cores and a few minutes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Roles:
    """How many synthetic patients of one kind train, validate and are held out."""

    train: int
    validation: int
    test: int

    def splits(self) -> list[str]:
        """The split of each patient, in order of their seeds."""
        return ["train"] * self.train + ["validation"] * self.validation + ["test"] * self.test


@dataclass(frozen=True)
class DemoSettings:
    """Numbers of patients, their grids (voxels, mm), and the length of each training."""

    torsos: Roles = Roles(8, 1, 3)
    heads: Roles = Roles(5, 0, 1)
    torso_shape: tuple[int, int, int] = (84, 64, 44)
    torso_spacing: tuple[float, float, float] = (4.5, 4.5, 5.0)
    head_shape: tuple[int, int, int] = (64, 82, 54)
    head_spacing: tuple[float, float, float] = (2.8, 2.8, 3.3)
    patch: tuple[int, int, int] = (32, 32, 32)
    widths: tuple[int, ...] = (16, 32, 64)
    batch_size: int = 2
    mask_cell: int = 8
    labelled: int = 2
    pretrain_steps: int = 240
    pretrain_lr: float = 5e-3
    finetune_steps: int = 280
    finetune_lr: float = 1.2e-2
    validations: int = 4
    nsd_tolerance_mm: float = 5.0
    seed: int = 0
    quick: bool = field(default=False)


FULL = DemoSettings()

QUICK = DemoSettings(
    torsos=Roles(3, 1, 1),
    heads=Roles(1, 0, 1),
    torso_shape=(72, 54, 32),
    torso_spacing=(5.2, 5.2, 7.0),
    head_shape=(48, 60, 36),
    head_spacing=(3.7, 3.7, 5.0),
    patch=(32, 32, 16),
    widths=(16, 32),
    pretrain_steps=20,
    finetune_steps=50,
    validations=2,
    nsd_tolerance_mm=6.0,
    quick=True,
)
"""For continuous integration: every stage runs, nothing is learned well."""
