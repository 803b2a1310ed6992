"""Calling a model on a batch, and building it on one."""

from functools import partial

from lamina import tree
from lamina.engine.keras_tensor import KerasTensor
from lamina.engine.operation import Operation
from lamina.engine.trace import infer
from lamina.trainers.data import unpack_x_y_sample_weight


def forward(model, x, training):
    """The outputs of `model` for inputs `x`."""
    return model(x, training=training) if model._call_has_training_arg else model(x)


def build_on(model, batch):
    """Builds the model and its optimizer on the shapes of a batch, unless that is done."""
    # A model with only a `train_step` need not compute anything when called.
    if type(model).call is not Operation.call and not all(layer.built for layer in model._flatten_layers()):
        x = unpack_x_y_sample_weight(batch)[0]
        specs = tree.map_structure(
            lambda a: KerasTensor((None, *a.shape[1:]), str(a.dtype)), x, none_is_leaf=False
        )
        infer(partial(forward, model, training=False), (specs,))
    optimizer = model.optimizer
    if optimizer is not None and model.built and not getattr(optimizer, "built", True):
        optimizer.build(model.trainable_variables)
