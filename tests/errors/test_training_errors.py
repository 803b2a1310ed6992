"""What a user reads when the data, the targets or the arguments of training are wrong: said before anything
is computed.
"""

import numpy as np
import pytest

import lamina
from lamina import layers

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


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_no_samples(method):
    model = net()
    with pytest.raises(ValueError, match="contains no samples"):
        getattr(model, method)(X[:0], np.zeros(0), verbose=0)


def test_a_batch_of_numbers_for_a_model_of_one_feature_is_no_single_sample():
    model = net(inputs=(1,))
    with pytest.warns(UserWarning, match="was read as"):
        assert model.predict(np.zeros(1, "float32"), verbose=0).shape == (1, 3)
    assert model.predict(np.zeros(7, "float32"), verbose=0).shape == (7, 3)


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


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_a_model_whose_call_returns_nothing(method):
    class Silent(lamina.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, x):
            self.dense(x)

    model = Silent()
    model.compile("sgd", "mse", metrics=["mae"])
    with pytest.raises(ValueError, match=r"`call` returned None.*without `return`"):
        getattr(model, method)(np.zeros((4, 3)), np.zeros((4, 1)), verbose=0)
