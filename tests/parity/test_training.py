"""fit, evaluate and predict against Keras: same weights, same batches, same numbers."""

import keras
import numpy as np
import pytest

import lamina

RNG = np.random.default_rng(11)
X = RNG.normal(size=(50, 6)).astype("float32")
REGRESSION = (X @ RNG.normal(size=(6, 2))).astype("float32")
LABELS = RNG.integers(0, 3, 50)
IMAGES = RNG.normal(size=(40, 8, 8, 2)).astype("float32")
WEIGHTS = RNG.uniform(0.1, 2.0, 50).astype("float32")


def twins(make, **compiled):
    """The same model in both libraries, with the same weights, compiled alike (values may be functions of the
    library).
    """
    models = [make(lib) for lib in (keras, lamina)]
    models[1].set_weights(models[0].get_weights())
    for net, lib in zip(models, (keras, lamina), strict=True):
        net.compile(**{k: v(lib) if callable(v) else v for k, v in compiled.items()})
    return models


def compare_fit(models, x, y, rtol=1e-4, **options):
    """Fits both and compares histories and final weights. `x` may be a function that makes data anew."""
    options = {"batch_size": 16, "epochs": 3, "shuffle": False, "verbose": 0, **options}
    if callable(x):
        del options["batch_size"]
    histories = []
    for net in models:
        data = (x() if callable(x) else x, y)
        histories.append(net.fit(*data, **options).history)
    expected, got = histories
    assert list(got) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, rtol=rtol, atol=1e-6, err_msg=name)
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4)


def mlp(lib, outputs=2, activation=None, **options):
    return lib.Sequential(
        [
            lib.Input((6,)),
            lib.layers.Dense(8, activation="tanh", **options),
            lib.layers.Dense(outputs, activation=activation),
        ]
    )


def classifier(lib):
    return mlp(lib, 3, "softmax")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_regression(optimizer):
    compare_fit(twins(mlp, optimizer=optimizer, loss="mse", metrics=["mae"]), X, REGRESSION)


def test_schedule_clipping_and_momentum():
    def optimizer(lib):
        rate = lib.optimizers.schedules.ExponentialDecay(0.1, 4, 0.5)
        return lib.optimizers.SGD(rate, momentum=0.9, nesterov=True, clipnorm=0.5)

    compare_fit(twins(mlp, optimizer=optimizer, loss="huber"), X, REGRESSION)


def test_sparse_labels_with_validation_split():
    # "crossentropy" is the sparse one, by the shapes.
    models = twins(classifier, optimizer="adam", loss="crossentropy", metrics=["accuracy"])
    compare_fit(models, X, LABELS, validation_split=0.3)


def test_one_hot_labels_with_weighted_metrics_and_class_weight():
    models = twins(
        classifier,
        optimizer="sgd",
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        weighted_metrics=["accuracy", "mse"],
    )
    compare_fit(models, X, np.eye(3, dtype="float32")[LABELS], class_weight={0: 0.5, 2: 3.0})


def test_binary_labels_with_sample_weight_and_weighted_validation():
    models = twins(
        lambda lib: mlp(lib, 1, "sigmoid"), optimizer="sgd", loss="binary_crossentropy", metrics=["acc"]
    )
    y = (LABELS > 1).astype("float32")
    compare_fit(models, X, y, sample_weight=WEIGHTS, validation_data=(X[:20], y[:20], WEIGHTS[:20]))


def test_convolution_normalization_and_regularizers():
    def make(lib):
        return lib.Sequential(
            [
                lib.Input((8, 8, 2)),
                lib.layers.Conv2D(4, 3, padding="same", kernel_regularizer="l2"),
                lib.layers.BatchNormalization(),
                lib.layers.ReLU(),
                lib.layers.MaxPooling2D(),
                lib.layers.Flatten(),
                lib.layers.Dense(3, activity_regularizer="l1", kernel_constraint="max_norm"),
            ]
        )

    def loss(lib):
        return lib.losses.SparseCategoricalCrossentropy(from_logits=True)

    models = twins(make, optimizer="sgd", loss=loss, metrics=["accuracy"])
    compare_fit(models, IMAGES, LABELS[:40], rtol=1e-3, validation_data=(IMAGES[:10], LABELS[:10]))


def branches(lib):
    a, b = lib.Input((6,), name="a"), lib.Input((6,), name="b")
    shared = lib.layers.Dense(5, activation="relu", name="shared")
    joined = lib.layers.Concatenate(name="joined")([shared(a), shared(b)])
    value = lib.layers.Dense(2, name="value")(joined)
    kind = lib.layers.Dense(3, activation="softmax", name="kind")(joined)
    return lib.Model({"a": a, "b": b}, [value, kind])


TARGETS = {"value": REGRESSION, "kind": LABELS}


def test_dict_inputs_and_two_outputs_by_name():
    models = twins(
        branches,
        optimizer="adam",
        loss={"value": "mse", "kind": "sparse_categorical_crossentropy"},
        loss_weights={"value": 0.5, "kind": 2.0},
        metrics={"value": ["mae"], "kind": "accuracy"},
    )
    compare_fit(models, {"a": X, "b": X[::-1].copy()}, TARGETS, validation_split=0.2)


def test_two_outputs_by_order_with_a_weight_for_each():
    models = twins(
        branches,
        optimizer="sgd",
        loss=["mse", "sparse_categorical_crossentropy"],
        loss_weights=[0.1, 1.0],
        metrics=[["mse", "mae"], ["accuracy"]],
        weighted_metrics=[[], ["accuracy"]],
    )
    compare_fit(models, {"a": X, "b": X}, [REGRESSION, LABELS], sample_weight=[WEIGHTS, WEIGHTS[::-1].copy()])


def test_generators_and_datasets():
    def generate():
        while True:
            for start in range(0, 48, 16):
                yield X[start : start + 16], REGRESSION[start : start + 16], WEIGHTS[start : start + 16]

    models = twins(mlp, optimizer="adam", loss="mse", weighted_metrics=["mae"])
    compare_fit(models, generate, None, steps_per_epoch=2, validation_data=(X, REGRESSION), validation_freq=2)


def test_fewer_steps_than_batches():
    models = twins(mlp, optimizer="sgd", loss="mse")
    compare_fit(models, X, REGRESSION, steps_per_epoch=2, epochs=2)


def test_evaluate_predict_and_single_batches():
    theirs, ours = twins(
        classifier, optimizer="sgd", loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    np.testing.assert_allclose(
        ours.predict(X, batch_size=25, verbose=0),
        theirs.predict(X, batch_size=25, verbose=0),
        rtol=1e-5,
        atol=1e-6,
    )
    for call in (
        lambda net: net.evaluate(X, LABELS, sample_weight=WEIGHTS, batch_size=25, verbose=0),
        lambda net: net.train_on_batch(X, LABELS, class_weight={1: 4.0}),
        lambda net: net.test_on_batch(X, LABELS, WEIGHTS),
    ):
        np.testing.assert_allclose(call(ours), call(theirs), rtol=1e-5)
    assert ours.train_on_batch(X, LABELS, return_dict=True).keys() == {"loss", "accuracy"}
    assert ours.metrics_names == theirs.metrics_names


def test_subclassed_model_with_its_own_metric_and_loss():
    def make(lib):
        class Net(lib.Model):
            def __init__(self):
                super().__init__()
                self.hidden = lib.layers.Dense(4, activation="relu")
                self.out = lib.layers.Dense(2)
                self.norm = lib.metrics.Mean(name="norm")

            def call(self, x, training=None):
                y = self.out(self.hidden(x))
                self.add_loss(0.01 * lib.ops.mean(lib.ops.square(y)))
                return y

            def compute_metrics(self, x, y, y_pred, sample_weight=None):
                self.norm.update_state(lib.ops.abs(y_pred))
                return super().compute_metrics(x, y, y_pred, sample_weight)

        net = Net()
        net(X[:1])
        return net

    compare_fit(twins(make, optimizer="adam", loss="mse", metrics=["mse"]), X, REGRESSION)
