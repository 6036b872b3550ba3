"""What a user may write in a spec. Unknown keys are refused; every field says its default and its meaning."""

from harness.spec.axes import Levels
from harness.spec.primary import Primary
from harness.spec.sections import Augment, Data, Model, OptimizerSpec, Pretrain, StepDecay, Train, Weights
from harness.spec.study import Spec, Throughput, Trial, TrickSpec, Tune

__all__ = [
    "Augment",
    "Data",
    "Levels",
    "Model",
    "OptimizerSpec",
    "Pretrain",
    "Primary",
    "Spec",
    "StepDecay",
    "Throughput",
    "Train",
    "Trial",
    "TrickSpec",
    "Tune",
    "Weights",
]
