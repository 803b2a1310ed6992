"""Utilities, with the names of `keras.utils`."""

import importlib

# Looked up when first used: some of these modules import others that use this package.
_PUBLIC = {
    "lamina.backend": ("clear_session", "is_keras_tensor", "standardize_dtype"),
    "lamina.plot": ("plot_model",),
    "lamina.utils.graph_utils": ("get_source_inputs",),
    "lamina.saving.registration": (
        "CustomObjectScope",
        "custom_object_scope",
        "get_custom_objects",
        "get_registered_name",
        "get_registered_object",
        "register_keras_serializable",
    ),
    "lamina.saving.serialization": ("deserialize_keras_object", "serialize_keras_object"),
    "lamina.trainers.data": ("pack_x_y_sample_weight", "unpack_x_y_sample_weight"),
    "lamina.trainers.py_dataset": ("PyDataset",),
    "lamina.config": (
        "disable_interactive_logging",
        "enable_interactive_logging",
        "is_interactive_logging_enabled",
    ),
    "lamina.utils.numerical_utils": ("normalize", "pad_sequences", "to_categorical"),
    "lamina.utils.progbar": ("Progbar",),
    "lamina.utils.rng_utils": ("set_random_seed",),
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}
_HOME["Sequence"] = "lamina.trainers.py_dataset"

__all__ = list(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), "PyDataset" if name == "Sequence" else name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
