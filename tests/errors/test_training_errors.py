"""What a user reads when the data, the targets or the arguments of training are wrong: said before anything
is computed.
"""

import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.errors import ShapeError

X = np.zeros((20, 4), dtype="float32")


def net(outputs=3, activation="softmax", loss="sparse_categorical_crossentropy", inputs=(4,), **compiled):
    model = lamina.Sequential(
        [lamina.Input(inputs), layers.Flatten(), layers.Dense(outputs, activation=activation)]
    )
    model.compile("sgd", loss=loss, **compiled)
    return model


def unchanged(model, call):
    """Runs `call`, which must raise, and checks that no weight has moved."""
    before = model.get_weights()
    with pytest.raises((ValueError, KeyError, TypeError)) as caught:
        call()
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    return caught


def test_methods_before_compile():
    model = lamina.Sequential([lamina.Input((4,)), layers.Dense(1)])
    for name, args in (
        ("fit", (X, X)),
        ("evaluate", (X, X)),
        ("train_on_batch", (X, X)),
        ("test_on_batch", (X, X)),
    ):
        with pytest.raises(ValueError, match=rf"must call `compile\(\)` before calling `{name}\(\)`"):
            getattr(model, name)(*args)
    assert model.predict(X, verbose=0).shape == (20, 1)


def test_counts_of_samples():
    model = net()
    message = str(unchanged(model, lambda: model.fit(X, np.zeros(19), verbose=0)).value)
    assert "'x' sizes: 20" in message
    assert "'y' sizes: 19" in message


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_no_samples(method):
    model = net()
    with pytest.raises(ValueError, match="contains no samples"):
        getattr(model, method)(X[:0], np.zeros(0), verbose=0)


@pytest.mark.parametrize(
    ("inputs", "shape", "fix"),
    [
        ((4,), (4,), "x[None]"),
        ((28, 28, 1), (28, 28, 1), "x[None]"),
        ((28, 28, 1), (28, 28), "x[None, ..., None]"),
    ],
)
@pytest.mark.parametrize("method", ["predict", "predict_on_batch"])
def test_one_sample_without_its_batch_axis(inputs, shape, fix, method):
    model = net(inputs=inputs)
    with pytest.raises(ShapeError, match="one sample without its batch axis") as caught:
        getattr(model, method)(np.zeros(shape, "float32"))
    assert fix in str(caught.value)
    assert f"found ndim={len(shape)}" in str(caught.value)
    assert eval(f"np.zeros({shape}, 'float32')[{fix[2:-1]}]").ndim == len(inputs) + 1


def test_a_batch_of_numbers_for_a_model_of_one_feature_is_no_single_sample():
    model = net(inputs=(1,))
    with pytest.warns(UserWarning, match="was read as"):
        assert model.predict(np.zeros(1, "float32"), verbose=0).shape == (1, 3)
    assert model.predict(np.zeros(7, "float32"), verbose=0).shape == (7, 3)


def test_a_list_of_samples_is_no_batch():
    model = net()
    caught = unchanged(model, lambda: model.fit([X[0], X[1], X[2]], np.zeros(3), verbose=0))
    assert "np.stack(x)" in str(caught.value)


def test_too_few_inputs():
    a, b = lamina.Input((4,), name="left"), lamina.Input((4,), name="right")
    model = lamina.Model([a, b], layers.Add()([a, b]))
    with pytest.raises(ValueError, match=r"(?s)expects 2 input\(s\).*1 input.*left.*right"):
        model.predict(X, verbose=0)


@pytest.mark.parametrize(("label", "row"), [(3, 0), (7, 11), (-1, 19)])
def test_labels_outside_the_classes(label, row):
    model = net()
    y = np.zeros(20, dtype="int64")
    y[row] = label
    for call in (
        lambda: model.fit(X, y, verbose=0),
        lambda: model.fit(X, y * 0, validation_data=(X, y), verbose=0),
        lambda: model.evaluate(X, y, verbose=0),
        lambda: model.train_on_batch(X, y),
        lambda: model.fit(((X, y) for _ in range(1)), verbose=0),
    ):
        message = str(unchanged(model, call).value)
        assert f"label {label} at row {row}" in message
    if label == 7:
        assert "Dense(8)" in message


def test_integer_labels_for_the_dense_loss():
    model = net(loss="categorical_crossentropy")
    message = str(unchanged(model, lambda: model.fit(X, np.zeros(20, "int64"), verbose=0)).value)
    assert "sparse_categorical_crossentropy" in message
    assert "to_categorical(y, 3)" in message


def test_one_hot_labels_for_the_sparse_loss():
    model = net()
    message = str(unchanged(model, lambda: model.fit(X, np.eye(3)[[0] * 20], verbose=0)).value)
    assert "categorical_crossentropy" in message
    assert "argmax(-1)" in message


def test_targets_that_would_broadcast():
    model = lamina.Sequential([lamina.Input((10, 4)), layers.Dense(1)])
    model.compile("sgd", loss="mse")
    caught = unchanged(model, lambda: model.fit(np.zeros((8, 10, 4)), np.zeros((8, 1)), verbose=0))
    assert isinstance(caught.value, ShapeError)


def test_two_columns_for_one_sigmoid():
    model = net(1, "sigmoid", "binary_crossentropy")
    message = str(unchanged(model, lambda: model.fit(X, np.zeros((20, 2)), verbose=0)).value)
    assert "Dense(2" in message


def test_validation_data_is_checked_before_the_first_step():
    model = net()
    caught = unchanged(
        model, lambda: model.fit(X, np.zeros(20), validation_data=(X[:, :3], np.zeros(20)), verbose=0)
    )
    assert "3" in str(caught.value)


def test_no_targets():
    model = net()
    assert "pass `y`" in str(unchanged(model, lambda: model.fit(X, verbose=0)).value)


def two_outputs(**compiled):
    x = lamina.Input((4,))
    model = lamina.Model(x, [layers.Dense(1, name="price")(x), layers.Dense(2, name="size")(x)])
    model.compile("sgd", **compiled)
    return model


@pytest.mark.parametrize(
    ("compiled", "y", "message"),
    [
        ({"loss": ["mse"] * 3}, [X[:, :1], X[:, :2]], "3 entries.*2 outputs: price, size"),
        (
            {"loss": {"price": "mse", "siz": "mse"}},
            [X[:, :1], X[:, :2]],
            "Expected keys .*'price', 'size'.*'siz'",
        ),
        (
            {"loss": ["mse", "mse"], "loss_weights": [1.0]},
            [X[:, :1], X[:, :2]],
            "must match the number of losses",
        ),
        ({"loss": "mse", "metrics": {"prise": ["mae"]}}, [X[:, :1], X[:, :2]], "Invalid `metrics`.*'price'"),
        ({"loss": "mse", "metrics": ["mae"]}, [X[:, :1], X[:, :2]], "Invalid `metrics`"),
        ({"loss": "mse"}, X[:, :1], "different structures.*price, size"),
        ({"loss": "mse"}, [X[:, :1]] * 3, "different structures"),
    ],
)
def test_structures_that_do_not_match_the_outputs(compiled, y, message):
    model = two_outputs(**compiled)
    with pytest.raises((ValueError, KeyError), match=f"(?s){message}"):
        model.fit(X, y, verbose=0)


@pytest.mark.parametrize(
    ("compiled", "message"),
    [
        ({"loss": "mean_square_error"}, "mean_squared_error"),
        ({"loss": "mse", "metrics": ["acuracy"]}, "accuracy"),
        ({"loss": "mse", "metrics": "mae"}, "`metrics` argument to be a list, tuple, or dict"),
        ({"loss": "mse", "weighted_metrics": "mae"}, "`weighted_metrics` argument"),
        ({"loss": "mse", "loss_weights": "heavy"}, "`loss_weights` argument"),
        ({"loss": "mse", "steps_per_execution": 0}, "steps_per_execution"),
        ({"optimizer": "adm"}, "adam"),
    ],
)
def test_bad_arguments_of_compile(compiled, message):
    model = lamina.Sequential([lamina.Input((4,)), layers.Dense(1)])
    with pytest.raises(ValueError, match=f"(?i){message}"):
        model.compile(**compiled)
    assert not model.compiled


def test_no_loss_to_train_on():
    model = lamina.Sequential([lamina.Input((4,)), layers.Dense(1)])
    model.compile("sgd", metrics=["mae"])
    with pytest.raises(ValueError, match="No loss to compute"):
        model.fit(X, X[:, :1], verbose=0)
    assert model.evaluate(X, X[:, :1], verbose=0, return_dict=True).keys() == {"loss", "mae"}


@pytest.mark.parametrize("freq", ["always", 1.5, True])
def test_a_bad_validation_freq(freq):
    model = net()
    with pytest.raises(ValueError, match="validation_freq"):
        model.fit(X, np.zeros(20), validation_data=(X, np.zeros(20)), validation_freq=freq, verbose=0)


def test_a_step_that_returns_no_dict():
    class Odd(lamina.Sequential):
        def train_step(self, data):
            return lamina.ops.sum(data[0])

    model = Odd([lamina.Input((4,)), layers.Dense(1)])
    model.compile("sgd", loss="mse")
    with pytest.raises(TypeError, match="dict of logs"):
        model.fit(X, X, verbose=0)


def test_changing_trainable_after_compile_warns_once():
    model = net()
    model.fit(X, np.zeros(20), verbose=0)
    model.layers[-1].trainable = False
    with pytest.warns(UserWarning, match="trainable"):
        model.fit(X, np.zeros(20), verbose=0)
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    before = model.get_weights()
    with pytest.warns(UserWarning, match="does not have any trainable weights"):
        model.fit(X, np.zeros(20), verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
