"""lamina: Keras's API on a small Rust engine for the CPU.

    import lamina as keras

The input shape is the only shape to give; everything else is derived from it. Names are loaded when first
used.
"""

import importlib

__version__ = "0.1.0"

_MODULES = (
    "activations",
    "backend",
    "callbacks",
    "config",
    "constraints",
    "dtype_policies",
    "errors",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "mixed_precision",
    "models",
    "ops",
    "optimizers",
    "random",
    "regularizers",
    "saving",
    "tree",
    "utils",
)
_NAMES = {
    "Function": "engine.function",
    "GradientTape": "engine.tape",
    "Initializer": "initializers",
    "Input": "layers",
    "InputSpec": "layers",
    "KerasTensor": "engine.keras_tensor",
    "Layer": "layers",
    "Loss": "losses",
    "Metric": "metrics",
    "Model": "models",
    "Operation": "engine.operation",
    "Optimizer": "optimizers",
    "Regularizer": "regularizers",
    "Sequential": "models",
    "StatelessScope": "engine.scope",
    "Variable": "engine.variable",
    "DTypePolicy": "dtype_policies",
    "FloatDTypePolicy": "dtype_policies",
    "check": "trainers.review",
    "compile_function": "engine.trace",
    "grad": "engine.tape",
    "name_scope": "engine.scope",
    "value_and_grad": "engine.tape",
}
__all__ = [*_MODULES, *_NAMES, "__version__"]


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"lamina.{name}")
    if name in _NAMES:
        value = getattr(importlib.import_module(f"lamina.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    from lamina.errors import did_you_mean

    raise AttributeError(f"module 'lamina' has no attribute '{name}'.{did_you_mean(name, __all__)}")


def __dir__():
    return sorted(__all__)
