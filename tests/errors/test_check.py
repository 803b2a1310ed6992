"""`lamina.check`: what `fit` would raise or warn about, all at once; and what it costs."""

import time

import numpy as np
import pytest

import lamina
from lamina import Input, layers
from lamina.errors import DataError, ShapeError
from lamina.trainers import checks

X = np.random.default_rng(0).random((20, 4), "float32")
Y = np.arange(20) % 3


def net(*stack, loss="sparse_categorical_crossentropy", shape=(4,)):
    made = lamina.Sequential([Input(shape), *stack])
    made.compile("sgd", loss=loss)
    return made


def softmax(units=3):
    return layers.Dense(units, activation="softmax", name="last")


def test_nothing_to_find():
    made = net(softmax())
    report = lamina.check(made, X, Y)
    assert report and not report.findings and str(report) == "nothing to complain about"
    report.raise_errors()
    assert made.optimizer.iterations == 0


def test_all_findings_at_once():
    made, bad = net(softmax()), X.copy()
    before = made.get_weights()
    bad[3, 1], bad[5, 2] = np.nan, np.inf
    report = lamina.check(made, bad, np.arange(20))
    assert not report and len(report.errors) == 2 and not report.warnings
    nan, label = report.errors
    assert nan.text.startswith("`x` holds NaN at row 3, column 1; 2 of its 80 values")
    assert "label 3 at row 3" in label.text and "`Dense(20)`" in label.fix
    assert "error: `x` holds NaN" in str(report) and "\n  fix: " in str(report)
    with pytest.raises(DataError, match="`x` holds NaN"):
        report.raise_errors()
    for a, b in zip(before, made.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("x", "y", "error", "words"),
    [
        (X[:, :3], Y, ShapeError, "expected shape=(None, 4), found shape=(20, 3)"),
        (X[0], Y, ShapeError, "incompatible shape (4,)"),
        (X, Y[:3], ValueError, "cardinality"),
        (X, np.eye(3)[Y], ShapeError, "must have the same shape"),
        ([["a", 1, 2, 3]], Y[:1], ValueError, "should hold numbers"),
        ([X, X], Y, ShapeError, "expects 1 input(s)"),
        ({1, 2}, None, ValueError, "Unrecognized data type"),
    ],
)
def test_what_fit_raises_is_found(x, y, error, words):
    made = net(softmax())
    report = lamina.check(made, x, y)
    assert type(report.errors[0].error) is error
    assert words in report.errors[0].text
    with pytest.raises(error) as caught:
        made.fit(x, y, verbose=0)
    assert str(caught.value) == str(report.errors[0].error)


LOSSES = lamina.losses
MISMATCHES = {
    "no activation": (
        lambda: layers.Dense(3, name="last"),
        "sparse_categorical_crossentropy",
        'activation="softmax"',
    ),
    "relu": (lambda: layers.Dense(3, "relu", name="last"), "categorical_crossentropy", "has activation relu"),
    "no sigmoid": (lambda: layers.Dense(1, name="last"), "binary_crossentropy", 'activation="sigmoid"'),
    "softmax twice": (
        softmax,
        LOSSES.SparseCategoricalCrossentropy(from_logits=True),
        "applies softmax, and",
    ),
    "sigmoid twice": (
        lambda: layers.Dense(1, "sigmoid", name="last"),
        LOSSES.BinaryCrossentropy(from_logits=True),
        "applies sigmoid, and",
    ),
    "softmax of one": (lambda: softmax(1), "binary_crossentropy", "which is always 1"),
    "one class": (
        lambda: layers.Dense(1, "sigmoid", name="last"),
        "sparse_categorical_crossentropy",
        "has 1",
    ),
}


@pytest.mark.parametrize(("last", "loss", "words"), MISMATCHES.values(), ids=MISMATCHES)
def test_the_last_layer_against_the_loss(last, loss, words):
    made = net(last(), loss=loss)
    y = np.eye(3)[Y] if loss == "categorical_crossentropy" else np.zeros(20)
    report = lamina.check(made, X, y)
    assert report and len(report.warnings) == 1
    assert words in str(report.warnings[0]) and "'last'" in report.warnings[0].text
    with pytest.warns(UserWarning, match="'last'") as seen:
        made.fit(X, y, epochs=2, verbose=0)
        made.fit(X, y, verbose=0)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("last", "loss"),
    [
        (softmax, "sparse_categorical_crossentropy"),
        (lambda: layers.Dense(3), LOSSES.SparseCategoricalCrossentropy(from_logits=True)),
        (
            lambda: layers.Dense(3, activation=lambda x: lamina.ops.softmax(x)),
            "sparse_categorical_crossentropy",
        ),
        (lambda: layers.Dense(1), "mse"),
        (lambda: layers.Dense(1, "sigmoid"), "binary_crossentropy"),
    ],
)
def test_losses_that_fit(last, loss):
    assert not lamina.check(net(last(), loss=loss), X, Y * 0).findings


def test_activations_as_layers():
    report = lamina.check(net(layers.Dense(3), layers.Softmax()), X, Y)
    assert not report.findings
    logits = LOSSES.SparseCategoricalCrossentropy(from_logits=True)
    assert lamina.check(net(layers.Dense(3), layers.Activation("softmax"), loss=logits), X, Y).warnings


@pytest.mark.parametrize("y", [2 * (Y > 0) - 1, Y + 1])
def test_targets_beyond_probabilities(y):
    made = net(layers.Dense(1, "sigmoid"), loss="binary_crossentropy")
    report = lamina.check(made, X, y)
    assert report and "outside 0..1" in report.warnings[0].text
    with pytest.warns(UserWarning, match=r"outside 0\.\.1"):
        made.fit(X, y, verbose=0)


def test_a_forgotten_flatten():
    made = lamina.Sequential([Input((8, 8, 1)), layers.Conv2D(2, 3), layers.Dense(3, activation="softmax")])
    with pytest.warns(UserWarning, match="Forgotten Flatten"):
        made.compile("sgd", loss="sparse_categorical_crossentropy")
    report = lamina.check(made, np.zeros((4, 8, 8, 1)), np.zeros(4))
    assert "forgotten Flatten" in str(report.errors[0].error)
    assert report.warnings[0].text.startswith("Forgotten Flatten")


def test_without_data_without_compile_and_unbuilt():
    assert not lamina.check(net(softmax())).findings
    plain = lamina.Sequential([layers.Dense(3)])
    report = lamina.check(plain, X, Y)
    assert report and [f.text for f in report.warnings] == ["The model is not compiled."]
    assert plain.built
    plain.compile("sgd", loss="mse")
    assert lamina.check(plain, X, X[:, :3])
    assert not lamina.check(plain, X, X)


def test_sources_of_batches():
    class Data(lamina.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return X, Y + 5

    report = lamina.check(net(softmax()), Data())
    assert "label 5 at row 0" in report.errors[0].text
    report = lamina.check(net(softmax()), iter([(X, Y + 5)]))
    assert "label 5 at row 0" in report.errors[0].text


def test_data_on_disk_is_not_read_twice(tmp_path):
    x = np.memmap(tmp_path / "x.bin", "float32", "w+", shape=(64, 4))
    x[40] = np.nan
    made = net(layers.Dense(1), loss="mse")
    assert lamina.check(made, x, np.zeros(64))  # the first 32 rows are good
    x[1] = np.nan
    assert "row 1" in lamina.check(made, x, np.zeros(64)).errors[0].text


def test_each_value_is_read_once(monkeypatch):
    looked_at = []
    isfinite = np.isfinite

    def counting(array):
        looked_at.append(np.size(array))
        return isfinite(array)

    made = net(layers.Dense(1), loss="mse")
    made.fit(X, Y, verbose=0)
    monkeypatch.setattr(checks.np, "isfinite", counting)
    made.fit(X, np.zeros(20, "float32"), epochs=3, verbose=0)
    assert sum(looked_at) == X.size + 20


def test_the_cost_is_small():
    """10,000 rows of 20 features: an epoch takes some 6 ms, the look at the data must stay far below."""
    x = np.random.default_rng(0).random((10000, 20), "float32")
    y = x[:, :1].copy()
    made = net(layers.Dense(64, "relu"), layers.Dense(64, "relu"), layers.Dense(1), loss="mse", shape=(20,))
    made.fit(x, y, verbose=0)

    def fastest(call, repeats):
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return min(times)

    # 0.7 % where nothing else runs; the bound leaves room for a busy machine.
    look = fastest(lambda: checks.check_batch(made, (x, y)), 50)
    assert look < 0.05 * fastest(lambda: made.fit(x, y, verbose=0), 5)


def test_what_does_not_fit_is_looked_at_for_nan_too():
    model = lamina.Sequential([lamina.Input((4,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    report = lamina.check(model, np.full((3, 5), np.nan), np.array([[0.0], [np.inf], [1.0]]))
    assert [f.text[:20] for f in report.errors] == [
        "Input 0 with name 'i",
        "`x` holds NaN at row",
        "`y` holds inf at row",
    ]
