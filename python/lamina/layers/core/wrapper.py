"""The base of layers that wrap another layer."""

from lamina.layers.layer import Layer
from lamina.saving.serialization import deserialize_keras_object


class Wrapper(Layer):
    """Keeps another layer as `layer` and builds it with its own input shape. For subclasses."""

    def __init__(self, layer, **kwargs):
        if not isinstance(layer, Layer):
            raise ValueError(
                f"Layer {layer} supplied to `{type(self).__name__}` isn't a supported layer type. Please "
                "ensure wrapped layer is an instance of `lamina.layers.Layer`."
            )
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape=None):
        if not self.layer.built:
            self.layer.build(input_shape)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        wrapped = {
            name: deserialize_keras_object(config[name], custom_objects=custom_objects)
            for name in ("layer", "backward_layer")
            if config.get(name) is not None
        }
        return super().from_config({**config, **wrapped})
