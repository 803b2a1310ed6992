"""In which dtype a layer computes and in which it keeps its weights."""

from lamina import config
from lamina.backend import standardize_dtype

_MIXED = {"mixed_float16": ("float16", "float32"), "mixed_bfloat16": ("bfloat16", "float32")}


class DTypePolicy:
    """A pair of dtypes.

    Args:
        name: a dtype (both are it), or `"mixed_float16"` / `"mixed_bfloat16"` (half-precision computation,
            float32 weights). `None` means `floatx`.
    """

    def __init__(self, name=None):
        name = config.floatx() if name is None else name
        if not isinstance(name, str):
            raise TypeError(
                f"'name' must be a string, such as 'mixed_float16'. Received: name={name} (of type "
                f"{type(name)})"
            )
        try:
            self._dtypes = _MIXED.get(name) or (standardize_dtype(name),) * 2
        except ValueError:
            raise ValueError(
                f"Cannot convert '{name}' to a mixed precision DTypePolicy. Valid policies include "
                "'mixed_float16', 'mixed_bfloat16', and the name of any float dtype such as 'float32'."
            ) from None
        self._name = name

    quantization_mode = None

    @property
    def name(self):
        """What it was made with."""
        return self._name

    @property
    def compute_dtype(self):
        """The dtype of computations, to which float inputs are cast."""
        return self._dtypes[0]

    @property
    def variable_dtype(self):
        """The dtype of weights."""
        return self._dtypes[1]

    def convert_input(self, x, autocast, dtype):
        """`x` as a tensor, cast to `dtype` if it is a float and `autocast` is on."""
        from lamina.layers.call import convert

        return convert(x, standardize_dtype(dtype), autocast)

    def get_config(self):
        """The arguments as a dict."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config):
        """Makes a policy from `get_config()`'s dict."""
        return cls(**config)

    def __eq__(self, other):
        return type(other) is type(self) and self._name == other._name

    def __hash__(self):
        return hash(self._name)

    def __repr__(self):
        return f'<DTypePolicy "{self._name}">'


FloatDTypePolicy = DTypePolicy
Policy = DTypePolicy
_settings = {"global": None}


def global_policy():
    """The policy of layers that are given none."""
    return _settings["global"] or DTypePolicy(config.floatx())


def set_global_policy(policy):
    """Sets the policy of layers that are given none; `None` means `floatx` again."""
    _settings["global"] = None if policy is None else get(policy)


def get(identifier):
    """The policy meant by `None`, a name, a dtype, a configuration or a policy."""
    if identifier is None:
        return global_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str):
        return DTypePolicy(identifier)
    try:
        return DTypePolicy(standardize_dtype(identifier))
    except ValueError:
        raise ValueError(
            "Cannot interpret `dtype` argument. Expected a string or an instance of DTypePolicy. Received: "
            f"dtype={identifier}"
        ) from None


def serialize(dtype_policy):
    """The policy as a dict."""
    from lamina.saving.serialization import serialize_keras_object

    return serialize_keras_object(dtype_policy)


def deserialize(config, custom_objects=None):
    """The policy that a dict describes. Quantized policies do not exist here."""
    from lamina.saving.serialization import deserialize_keras_object

    policy = deserialize_keras_object(
        config, custom_objects, module_objects={"DTypePolicy": DTypePolicy, "FloatDTypePolicy": DTypePolicy}
    )
    if not isinstance(policy, DTypePolicy):
        raise ValueError(f"Expected the configuration of a dtype policy. Received: {config}")
    return policy
