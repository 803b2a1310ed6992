"""Dtype policies by the names of `keras.mixed_precision`: `set_global_policy("mixed_bfloat16")`."""

from lamina.config import dtype_policy, set_dtype_policy
from lamina.dtype_policies import DTypePolicy, Policy, global_policy, set_global_policy
from lamina.optimizers import LossScaleOptimizer

__all__ = [
    "DTypePolicy",
    "LossScaleOptimizer",
    "Policy",
    "dtype_policy",
    "global_policy",
    "set_dtype_policy",
    "set_global_policy",
]
