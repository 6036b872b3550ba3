"""What a user may write in a spec. Unknown keys are refused; every field says its default and its meaning."""

from harness.spec.axes import Levels
from harness.spec.data import Data
from harness.spec.designs import DesignOf, Exclusion, Fraction, RandomOrders, Requirement
from harness.spec.primary import Primary
from harness.spec.sections import Augment, Compile, Model, OptimizerSpec, Pretrain, StepDecay, Train, TrickSpec, Weights
from harness.spec.study import WARM_UP, Spec, Throughput, Tune

__all__ = [
    "WARM_UP",
    "Augment",
    "Compile",
    "Data",
    "DesignOf",
    "Exclusion",
    "Fraction",
    "Levels",
    "Model",
    "OptimizerSpec",
    "Pretrain",
    "Primary",
    "RandomOrders",
    "Requirement",
    "Spec",
    "StepDecay",
    "Throughput",
    "Train",
    "TrickSpec",
    "Tune",
    "Weights",
]
