"""`Trainer`: compile, fit, evaluate and predict. The half of a model that is about training."""

import numpy as np

from lamina import config, ops, tree
from lamina import metrics as metrics_module
from lamina.engine import scope
from lamina.engine.tape import GradientTape
from lamina.engine.trace import compile_function
from lamina.engine.tracebacks import boundary, warn
from lamina.trainers.building import forward
from lamina.trainers.compile_utils import CompileLoss, CompileMetrics, batch_count
from lamina.trainers.data import unpack_x_y_sample_weight
from lamina.trainers.loops import Loops
from lamina.trainers.loss_advice import forgotten_flatten, loss_advice


class Trainer(Loops):
    """Mixed into `Model`. `train_step`, `test_step`, `predict_step`, `compute_loss` and `compute_metrics` may
    be overridden.

    A step is traced once into one function of the engine that computes the outputs, the loss, its gradients,
    the optimizer's updates and the metrics; after that, a batch is one call. With `run_eagerly=True` it runs
    op by op and gives the same numbers.
    """

    # On the class, so that a model whose `__init__` has not run far says "not compiled" instead of
    # AttributeError.
    compiled = False
    # Let `fit` and `evaluate` take NaN and infinities in the data of a model made for them.
    allow_nan = False
    optimizer = loss = None
    stop_training = stop_evaluating = stop_predicting = False
    steps_per_execution = 1
    run_eagerly = False
    jit_compile = True
    train_function = test_function = predict_function = None
    _compile_loss = _compile_metrics = _loss_tracker = _compile_config = _initial_epoch = None

    # -------------------------------------------------------------------------------------- compile

    @boundary
    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        auto_scale_loss=True,
    ):
        """Says how to train.

        Args:
            optimizer: an optimizer, or its name.
            loss: a loss, its name, or a function `f(y_true, y_pred)`; for several outputs a list or dict
                of them.
            loss_weights: factors of the losses: a list or dict.
            metrics: a list; for several outputs a list or dict of lists. "accuracy" picks the kind that
                fits the shapes.
            weighted_metrics: likewise, for metrics that get the sample weights.
            run_eagerly: run op by op, for debugging.
            steps_per_execution: batches between two calls of batch callbacks.
            jit_compile: accepted; every step is compiled unless `run_eagerly`.
            auto_scale_loss: with a `mixed_float16` policy, wrap the optimizer in a `LossScaleOptimizer`.

        Example: `model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])`
        """
        from lamina import optimizers

        given = {k: v for k, v in locals().items() if k not in ("self", "optimizers", "auto_scale_loss")}
        given["optimizer"] = optimizer = optimizers.get(optimizer)
        if isinstance(steps_per_execution, bool) or int(steps_per_execution) < 1:
            raise ValueError(
                f"`steps_per_execution` should be a positive integer. Received: {steps_per_execution!r}"
            )
        policy = getattr(getattr(self, "dtype_policy", None), "name", None)
        scaled = isinstance(optimizer, optimizers.LossScaleOptimizer)
        if auto_scale_loss and policy == "mixed_float16" and optimizer is not None and not scaled:
            optimizer = optimizers.LossScaleOptimizer(optimizer, name="loss_scale_optimizer")
        names = getattr(self, "output_names", None)
        has_metrics = metrics is not None or weighted_metrics is not None
        self._set_training(
            optimizer=optimizer,
            loss=loss,
            run_eagerly=bool(run_eagerly),
            steps_per_execution=int(steps_per_execution),
            jit_compile=not run_eagerly if jit_compile == "auto" else bool(jit_compile),
            stop_training=False,
            compiled=True,
            _advised=False,
            _compile_loss=None if loss is None else CompileLoss(loss, loss_weights, names),
            _compile_metrics=CompileMetrics(metrics, weighted_metrics, output_names=names)
            if has_metrics
            else None,
            _loss_tracker=metrics_module.Mean(name="loss"),
            _compile_config=given,
            _compiled_trainable={id(layer): layer.trainable for layer in self._flatten_layers()},
        )
        self.reset_functions()
        flatten = forgotten_flatten(self)
        if flatten:
            warn(flatten)

    def _advise(self):
        """Warns once what of the last layer does not fit the loss."""
        if not self._advised:
            for text, fix in loss_advice(self):
                warn(f"{text} Fix: {fix}.")
            self._set_training(_advised=True)

    def reset_functions(self):
        """Forgets the traced steps: the next call traces anew, as needed when the model has changed."""
        self._set_training(train_function=None, test_function=None, predict_function=None)
        self._set_training(_short_predict=None, _short_steps={}, _fresh_steps={})

    def _set_training(self, **attributes):
        """Sets attributes that belong to training: not parts of the layer, and no reason to trace it anew."""
        self.__dict__.update(attributes)

    def get_compile_config(self):
        """What was given to `compile`, as plain values; empty when not compiled."""
        from lamina.saving.serialization import serialize_keras_object

        if not self.compiled or self._compile_config is None:
            return {}
        return {key: serialize_keras_object(value) for key, value in self._compile_config.items()}

    @boundary
    def compile_from_config(self, config):
        """Compiles with the values of `get_compile_config`."""
        from lamina.saving.serialization import deserialize_keras_object

        if type(self).compile is not Trainer.compile:
            warn(
                "`compile()` was not called as part of model loading because the model's `compile()` "
                "method is custom. Override `get_compile_config()` and `compile_from_config(config)`, or "
                "call `compile()` "
                "after loading.",
            )
            return
        self.compile(**{key: deserialize_keras_object(value) for key, value in config.items()})
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    @property
    def metrics(self):
        """The loss tracker, the compiled metrics, the means of several losses, the metrics of layers."""
        found = [*self._own_metrics()]
        for layer in self._flatten_layers(include_self=False):
            if not isinstance(layer, Trainer):  # a nested model's training is its own
                found.extend(layer.metrics)
        return found

    def _own_metrics(self):
        if self.compiled:
            yield self._loss_tracker
            if self._compile_metrics is not None:
                yield self._compile_metrics
            if self._compile_loss is not None:
                yield from self._compile_loss.metrics
        yield from self._metrics

    @property
    def metrics_names(self):
        """The names of `metrics`."""
        return [metric.name for metric in self.metrics]

    def reset_metrics(self):
        """Sets every metric back to its start."""
        for metric in self.metrics:
            metric.reset_state()

    def get_metrics_result(self):
        """The values of `metrics`, a dict from name to tensor."""
        results = {}
        for metric in self.metrics:
            result = metric.result()
            results.update(result if isinstance(result, dict) else {metric.name: result})
        return results

    # ---------------------------------------------------------------------------------------- steps

    def train_step(self, data):
        """A step of training on a batch `x`, `(x, y)` or `(x, y, sample_weight)`. Returns a dict of logs."""
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        with GradientTape() as tape:
            y_pred = forward(self, x, training=True)
            loss = self._compute_loss(x, y, y_pred, sample_weight, training=True)
            self._loss_tracker.update_state(loss, sample_weight=batch_count(x))
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_weights
        if variables:
            self.optimizer.apply(tape.gradient(scaled, variables), variables)
        else:
            warn(
                "The model does not have any trainable weights.",
            )
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def test_step(self, data):
        """One step of evaluation. Returns a dict of logs."""
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        y_pred = forward(self, x, training=False)
        loss = self._compute_loss(x, y, y_pred, sample_weight, training=False)
        self._loss_tracker.update_state(loss, sample_weight=batch_count(x))
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def predict_step(self, data):
        """The outputs for a batch."""
        return forward(self, unpack_x_y_sample_weight(data)[0], training=False)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The total loss, a scalar: that of `compile` plus what layers added (regularizers, `add_loss`)."""
        losses = [ops.sum(_as_float(loss)) for loss in self.losses]
        if self._compile_loss is not None:
            loss = self._compile_loss(y, y_pred, sample_weight)
            losses[:0] = [] if loss is None else [loss]
        if not losses:
            if training:
                raise ValueError("No loss to compute. Provide a `loss` argument in `compile()`.")
            return ops.zeros(())
        return losses[0] if len(losses) == 1 else ops.sum(ops.stack(losses))

    def _compute_loss(self, x, y, y_pred, sample_weight, training):
        if not _accepts_training(type(self).compute_loss):  # an override written before Keras 3.3
            return self.compute_loss(x, y, y_pred, sample_weight)
        return self.compute_loss(x, y, y_pred, sample_weight, training=training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Updates the compiled metrics; returns the values of all metrics, which become the logs."""
        if self._compile_metrics is not None:
            self._compile_metrics.update_state(y, y_pred, sample_weight)
        return self.get_metrics_result()

    # ------------------------------------------------------------------------------------ functions

    def make_train_function(self, force=False):
        """Makes `train_function(batch)` from `train_step`."""
        if self.train_function is None or force:
            self._set_training(train_function=self._compile_step(self.train_step))
        return self.train_function

    def make_test_function(self, force=False):
        """Makes `test_function(batch)` from `test_step`."""
        if self.test_function is None or force:
            self._set_training(test_function=self._compile_step(self.test_step))
        return self.test_function

    def make_predict_function(self, force=False):
        """Makes `predict_function(batch)`, which returns numpy arrays, from `predict_step`."""
        if self.predict_function is None or force:
            step = self._compile_step(self.predict_step)
            self._set_training(predict_function=step.call_numpy)
        return self.predict_function

    def _compile_step(self, step):
        if self.run_eagerly:
            return _EagerStep(step)
        batch_sizes = {spec.shape[0] for spec in getattr(self, "inputs", None) or ()} if self.built else set()
        return compile_function(step, static_batch=bool(batch_sizes) and None not in batch_sizes)

    def _assert_compile_called(self, method):
        if not self.compiled:
            raise ValueError(f"You must call `compile()` before calling `{method}()`.")
        if method != "fit" or not getattr(self, "_compiled_trainable", None):
            return
        changed = [
            layer.name
            for layer in self._flatten_layers()
            if self._compiled_trainable.get(id(layer), layer.trainable) != layer.trainable
        ]
        if changed:
            warn(
                f"A layer's `trainable` state has changed since the model was compiled: {changed}. "
                "Call `model.compile(...)` again so that the change takes effect.",
            )
            self._set_training(_compiled_trainable=None)  # once is enough


class _EagerStep:
    """A step that runs op by op on tensors."""

    def __init__(self, step):
        self._step = step

    def __call__(self, batch):
        with scope.flag("eager"):
            return self._step(tree.map_structure(ops.convert_to_tensor, batch, none_is_leaf=False))

    def call_numpy(self, batch):
        return tree.map_structure(np.asarray, self(batch))


def _as_float(loss):
    return loss if "float" in str(loss.dtype) else ops.cast(loss, config.floatx())


def _accepts_training(function):
    code = getattr(function, "__code__", None)
    if code is None:
        return True
    takes_keywords = code.co_flags & 0x08
    return bool(takes_keywords) or "training" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
