"""Training under threads: the same bits whatever their number, and predictions from many at once."""

import threading

import numpy as np
import pytest

import lamina
from lamina import layers
from lamina.engine import runtime

RNG = np.random.default_rng(3)
X = RNG.normal(size=(100, 12, 12, 3)).astype("float32")
Y = RNG.integers(0, 5, 100)


def network():
    lamina.utils.set_random_seed(0)
    model = lamina.Sequential(
        [
            lamina.Input((12, 12, 3)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(64, activation="gelu"),
            layers.Dense(5, activation="softmax"),
        ]
    )
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture
def threads():
    before = runtime.num_threads()
    yield runtime.set_num_threads
    runtime.set_num_threads(before)


def test_the_number_of_threads_changes_no_bit(threads):
    runs = []
    for n in (1, 2, 4):
        threads(n)
        model = network()
        history = model.fit(X, Y, epochs=2, verbose=0).history
        runs.append((history, model.get_weights(), model.predict(X, verbose=0)))
    for history, weights, predictions in runs[1:]:
        assert history == runs[0][0]
        for a, b in zip(weights, runs[0][1], strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(predictions, runs[0][2])


def test_many_threads_may_predict_at_once():
    model = network()
    expected = model.predict(X, verbose=0)
    results, errors = {}, []

    def work(i):
        try:
            part = slice(10 * i, 10 * i + 10)
            for _ in range(20):
                results[i] = model.predict(X[part], batch_size=3 + i, verbose=0)
                np.testing.assert_allclose(results[i], expected[part], rtol=1e-5, atol=1e-6)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors
    assert len(results) == 8
