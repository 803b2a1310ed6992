"""Where data enters a model."""

from lamina import backend
from lamina.engine.keras_tensor import KerasTensor
from lamina.engine.operation import Node
from lamina.engine.tracebacks import boundary
from lamina.errors import ShapeError
from lamina.layers.layer import Layer


class InputLayer(Layer):
    """Holds the symbolic tensor of one model input; usually made by `Input`.

    `shape` is without the batch axis, `batch_shape` with it; None stands for a size that data decides.
    """

    def __init__(
        self,
        shape=None,
        batch_size=None,
        dtype=None,
        sparse=None,
        ragged=None,
        batch_shape=None,
        input_tensor=None,
        optional=False,
        name=None,
        **kwargs,
    ):
        shape = kwargs.pop("input_shape", shape)
        batch_shape = kwargs.pop("batch_input_shape", batch_shape)
        super().__init__(name=name, **kwargs)
        if sparse or ragged:
            raise ValueError(
                "Sparse and ragged inputs are not supported: `sparse` and `ragged` must be False."
            )
        if input_tensor is not None:
            _check_tensor(input_tensor, shape, batch_size, batch_shape, dtype)
        else:
            batch_shape = _batch_shape(shape, batch_size, batch_shape)
            input_tensor = KerasTensor(batch_shape, dtype, name=self.name)
        self._batch_shape, self._dtype = input_tensor.shape, input_tensor.dtype
        self.sparse = self.ragged = False
        self.optional = optional
        self.built = True
        Node(self, outputs=input_tensor)

    def call(self):
        """Nothing to compute: the data comes from outside."""

    @property
    def batch_shape(self):
        """The shape, batch axis included."""
        return self._batch_shape

    @property
    def dtype(self):
        """Name of the dtype that the data is cast to."""
        return self._dtype

    def get_config(self):
        return {
            "batch_shape": self.batch_shape,
            "dtype": self.dtype,
            "sparse": self.sparse,
            "ragged": self.ragged,
            "name": self.name,
            "optional": self.optional,
        }


def _batch_shape(shape, batch_size, batch_shape):
    if batch_shape is None and shape is None:
        raise ValueError("You must pass a `shape` argument.")
    for name, value in (("shape", shape), ("batch_size", batch_size)):
        if batch_shape is not None and value is not None:
            raise ValueError(f"You cannot pass both `{name}` and `batch_shape` at the same time.")
    try:
        if batch_shape is not None:
            return backend.standardize_shape(batch_shape)
        return (batch_size, *backend.standardize_shape(shape))
    except ShapeError as e:  # a number in place of a tuple
        e.layer, e.argument = "Input", "shape" if batch_shape is None else "batch_shape"
        raise


def _check_tensor(tensor, shape, batch_size, batch_shape, dtype):
    if not isinstance(tensor, KerasTensor):
        raise ValueError(
            "Argument `input_tensor` must be a KerasTensor. "
            f"Received invalid type: input_tensor={tensor} (of type {type(tensor)})"
        )
    for name, given, own in (
        ("batch_size", batch_size, tensor.shape[0] if tensor.shape else None),
        ("shape", shape if shape is None else tuple(shape), tensor.shape[1:]),
        ("batch_shape", batch_shape if batch_shape is None else tuple(batch_shape), tensor.shape),
        ("dtype", dtype, tensor.dtype),
    ):
        if given is not None and given != own:
            raise ValueError(
                "When providing the `input_tensor` argument, you cannot provide an incompatible "
                f"`{name}` argument: {given} was given, the tensor has {own}."
            )


@boundary
def Input(
    shape=None,
    batch_size=None,
    dtype=None,
    sparse=None,
    ragged=None,
    batch_shape=None,
    name=None,
    tensor=None,
    optional=False,
):
    """The symbolic tensor that a model begins with.

    Args:
        shape: sizes without the batch axis, such as `(28, 28, 1)`; None for a size that data decides.
        batch_size: the batch axis's size, where it is fixed; `batch_shape` says both at once.
        dtype: name of a dtype; None means `floatx`.
        name: the input's name, by which a dict of data finds it.
        tensor: an existing KerasTensor to wrap.
        optional: whether None may be fed.

    >>> x = Input((3,))
    >>> model = Model(x, layers.Dense(4)(x))
    """
    layer = InputLayer(
        shape=shape,
        batch_size=batch_size,
        dtype=dtype,
        sparse=sparse,
        ragged=ragged,
        batch_shape=batch_shape,
        input_tensor=tensor,
        optional=optional,
        name=name,
    )
    return layer.output
