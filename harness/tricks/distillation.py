"""Knowledge distillation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from harness.recipe import Recipe, TeacherSpec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Distillation:
    """T²·ℓ(softmax(r/T), softmax(z/T)) beside the loss with the targets (He et al. 2018, §5.3; Hinton et al. 2015)."""

    temperature: float
    hard_weight: float
    soft_weight: float

    def __call__(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the soft term for logits z and teacher's logits r, both [N, K], averaged over the batch."""
        import torch.nn.functional as F  # here, so that listing the tricks does not wait for it

        soft_targets = F.softmax(teacher_logits / self.temperature, dim=1)
        return self.soft_weight * self.temperature**2 * F.cross_entropy(logits / self.temperature, soft_targets)


@dataclass(frozen=True)
class DistillationTrick:
    """Imitate the softened predictions of a teacher on the same, possibly mixed, images."""

    source: ClassVar[str] = "He et al. 2018, §5.3; Hinton et al. 2015"
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 20.0
    hard_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Of the loss with the targets; the paper's code has ½."""
    soft_weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    teacher: TeacherSpec = field(default_factory=TeacherSpec)

    def __call__(self, recipe: Recipe) -> Recipe:
        """Add the soft term to the loss, and own the recipe's teacher."""
        term = Distillation(self.temperature, self.hard_weight, self.soft_weight)
        return recipe.owning("teacher", self.teacher).adding("loss_terms", term)
