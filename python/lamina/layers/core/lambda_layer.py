"""A function as a layer."""

import inspect

from lamina import tree
from lamina.layers.layer import Layer
from lamina.saving.serialization import deserialize_keras_object, nested_tuples


class Lambda(Layer):
    """Call `function(inputs, **arguments)`, written with `lamina.ops`.

    `function` may take `mask` and `training` besides. `mask` is the output's mask, or a function (inputs,
    mask) that makes it. `output_shape` (without the batch axis, or a function of the input shape) says the
    shape where it cannot be found by tracing the function. Weights made by the function are not tracked:
    write a Layer for that.

    A registered function is saved by name. A bare `lambda` has no name to find it by, and code is never read
    from a file: give it back with `custom_objects`.

    >>> layers.Lambda(lambda x: x ** 2)(Input((3,))).shape
    (None, 3)
    """

    def __init__(self, function, output_shape=None, mask=None, arguments=None, **kwargs):
        super().__init__(**kwargs)
        if not callable(function):
            raise TypeError(f"`function` must be callable. Received: function={function}")
        self.function = function
        self.arguments = arguments or {}
        self.mask = mask
        self.supports_masking = mask is not None
        self._output_shape = output_shape
        parameters = inspect.signature(function).parameters
        self._call_arguments = [name for name in ("mask", "training") if name in parameters]

    def call(self, inputs, mask=None, training=None):
        given = {"mask": mask, "training": training}
        return self.function(inputs, **self.arguments, **{name: given[name] for name in self._call_arguments})

    def compute_mask(self, inputs, mask=None):
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def get_config(self):
        config = super().get_config()
        return {k: v for k, v in config.items() if v is not None or k not in ("output_shape", "mask")}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for key in config.keys() & {"function", "output_shape", "mask", "arguments"}:
            config[key] = deserialize_keras_object(config[key], custom_objects=custom_objects)
        if isinstance(config.get("output_shape"), list):
            config["output_shape"] = nested_tuples(tuple(config["output_shape"]))
        return super().from_config(config)

    @property
    def _says_its_shape(self):
        return self._output_shape is not None

    def compute_output_shape(self, input_shape):
        if self._output_shape is None:
            return super().compute_output_shape(input_shape)
        if callable(self._output_shape):
            return self._output_shape(input_shape)
        batch = tree.flatten(input_shape)[0]
        return tree.map_shape_structure(lambda shape: (batch, *shape), self._output_shape)
