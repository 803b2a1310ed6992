"""A layer applied to each step of a sequence by itself."""

from lamina import ops
from lamina.engine.scope import state
from lamina.errors import ShapeError
from lamina.layers.core.lambda_layer import Lambda
from lamina.layers.core.wrapper import Wrapper
from lamina.layers.normalization.batch_normalization import BatchNormalization
from lamina.layers.recurrent.steps import over_time


class TimeDistributed(Wrapper):
    """Apply the same layer, with the same weights, to each time step.

    Input: (batch, time, ...). Output: (batch, time, ...), where the wrapped layer turns (batch, ...) into the
    rest. A mask (batch, time) goes to a layer that takes one, and on.
    Raises: ShapeError when the input has fewer than three axes, or when the mask does not fit it.

    >>> layers.TimeDistributed(layers.Conv2D(64, 3))(Input((10, 128, 128, 3))).shape
    (None, 10, 126, 126, 64)
    """

    def __init__(self, layer, **kwargs):
        super().__init__(layer, **kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        shape = self._step_shape(input_shape)
        # Where steps are joined with samples, the wrapped layer sees other batch sizes.
        super().build((None, *shape[1:]) if _is_per_sample(self.layer, training=False) else shape)

    def _step_shape(self, shape):
        if not isinstance(shape, (tuple, list)) or len(shape) < 3:
            raise ShapeError(
                "`TimeDistributed` Layer should be passed an `input_shape` with at least 3 dimensions, "
                f"received: {shape}",
                layer=self,
                argument="inputs",
                got=tuple(shape),
                expected="at least 3 axes: (batch, time, ...)",
                cause="without a time axis there is nothing to distribute over",
                fix=f"use the wrapped layer '{self.layer.name}' itself, or `x[:, None]` for a single step",
            )
        return (shape[0], *shape[2:])

    def call(self, inputs, training=None, mask=None):
        self._step_shape(inputs.shape)
        self._check_mask(mask, inputs)
        if state.shapes_only:
            return over_time(self._step(inputs[:, 0], None if mask is None else mask[:, 0], training), inputs)
        batch, steps = inputs.shape[:2]
        if steps is not None and _is_per_sample(self.layer, training):
            # Steps of different samples are as good as samples: all at once.
            joined = self._step(_joined(inputs), None if mask is None else _joined(mask), training)
            return ops.reshape(joined, (-1 if batch is None else batch, steps, *joined.shape[1:]))
        outputs = [
            self._step(inputs[:, t], None if mask is None else mask[:, t], training)
            for t in range(ops.shape(inputs)[1])
        ]
        return ops.stack(outputs, axis=1)

    def _step(self, inputs, mask, training):
        kwargs = {}
        if mask is not None and self.layer._call_has_mask_arg:
            kwargs["mask"] = mask
        if self.layer._call_has_training_arg:
            kwargs["training"] = training
        return self.layer(inputs, **kwargs)

    def _check_mask(self, mask, inputs):
        if mask is None:
            return
        shape = tuple(mask.shape)
        fits = len(shape) >= 2 and all(
            a == b or None in (a, b) for a, b in zip(shape[:2], inputs.shape, strict=False)
        )
        if not fits:
            raise ShapeError(
                f"The `mask` passed to the `TimeDistributed` layer has a shape {shape} that is incompatible "
                f"with the input shape {tuple(inputs.shape)}.",
                layer=self,
                argument="mask",
                got=shape,
                expected=f"a mask that starts with (batch, time) = {tuple(inputs.shape[:2])}",
            )


def _joined(x):
    """(batch, time, ...) as (batch * time, ...)."""
    return ops.reshape(x, (-1, *x.shape[2:]))


def _is_per_sample(layer, training):
    """Whether this is known to treat each sample of a batch by itself, whatever their number."""
    sequential = hasattr(layer, "_stack")
    if not (sequential or type(layer).__module__.startswith("lamina.layers.")) or isinstance(layer, Lambda):
        return False
    if getattr(layer, "stateful", False) or (training and isinstance(layer, BatchNormalization)):
        return False
    return all(_is_per_sample(inner, training) for inner in (layer.layers if sequential else layer._layers))
