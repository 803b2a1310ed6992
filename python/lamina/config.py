"""Settings that hold for the whole process, as in `keras.config`.

>>> from lamina import config
>>> config.floatx()
'float32'
"""

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_settings = {
    "floatx": "float32",
    "epsilon": 1e-7,
    "image_data_format": "channels_last",
    "interactive_logging": True,
    "traceback_filtering": True,
}


def floatx():
    """The dtype that floats get when none is given: `"float32"` unless `set_floatx` said otherwise."""
    return _settings["floatx"]


def set_floatx(value):
    """Sets the default float dtype: `"float16"`, `"bfloat16"`, `"float32"` or `"float64"`."""
    if value not in _FLOATS:
        raise ValueError(f"Unknown `floatx` value: {value}. Expected one of {_FLOATS}")
    from lamina.engine import runtime

    runtime.set_floatx(str(value))
    _settings["floatx"] = str(value)


def epsilon():
    """The fuzz factor of numeric expressions, 1e-7 by default."""
    return _settings["epsilon"]


def set_epsilon(value):
    """Sets the fuzz factor of numeric expressions."""
    _settings["epsilon"] = float(value)


def image_data_format():
    """`"channels_last"` (the default) or `"channels_first"`."""
    return _settings["image_data_format"]


def set_image_data_format(data_format):
    """Sets what layers do with `data_format=None`."""
    _settings["image_data_format"] = standardize_data_format(data_format)


def standardize_data_format(data_format):
    """The data format meant by an argument; `None` means the configured one."""
    if data_format is None:
        return image_data_format()
    name = str(data_format).lower()
    if name not in ("channels_first", "channels_last"):
        raise ValueError(
            "The `data_format` argument must be one of {'channels_first', 'channels_last'}. Received: "
            f"data_format={data_format}"
        )
    return name


def enable_interactive_logging():
    """Progress bars redraw themselves (the default)."""
    _settings["interactive_logging"] = True


def disable_interactive_logging():
    """Progress is logged in plain lines."""
    _settings["interactive_logging"] = False


def is_interactive_logging_enabled():
    """Whether progress bars may redraw themselves."""
    return _settings["interactive_logging"]


def enable_traceback_filtering():
    """Errors show the user's own lines, without the frames of lamina in between (the default)."""
    _settings["traceback_filtering"] = True


def disable_traceback_filtering():
    """Errors show every frame, lamina's too."""
    _settings["traceback_filtering"] = False


def is_traceback_filtering_enabled():
    """Whether errors hide the frames of lamina."""
    return _settings["traceback_filtering"]


def backend():
    """The name of the engine that computes: `"lamina"`."""
    return "lamina"


def dtype_policy():
    """The dtype policy of layers that are given none."""
    from lamina import dtype_policies

    return dtype_policies.global_policy()


def set_dtype_policy(policy):
    """Sets the dtype policy of layers that are given none: a name such as `"mixed_bfloat16"`, or a
    `DTypePolicy`.
    """
    from lamina import dtype_policies

    dtype_policies.set_global_policy(policy)
