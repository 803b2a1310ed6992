"""What must hold whatever happens: same bits, no crash, nothing lost."""

import concurrent.futures
import copy
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import lamina
from lamina import _core, layers


def cnn(seed=0):
    lamina.utils.set_random_seed(seed)
    return lamina.Sequential(
        [
            lamina.Input((12, 12, 3)),
            layers.Conv2D(20, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(64, activation="gelu"),
            layers.Dense(5, activation="softmax"),
        ]
    )


def data(n=64, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, 12, 12, 3), "float32"), rng.integers(0, 5, n)


@pytest.fixture
def threads():
    before = _core.num_threads()
    yield _core.set_num_threads
    _core.set_num_threads(before)


def test_training_has_the_same_bits_at_1_2_and_4_threads(threads):
    def train(n):
        threads(n)
        model, (x, y) = cnn(), data()
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        history = model.fit(x, y, batch_size=24, epochs=2, verbose=0).history
        return [w.tobytes() for w in model.get_weights()], history, model.predict(x, verbose=0).tobytes()

    one = train(1)
    assert one == train(2)
    assert one == train(4)


def test_the_same_seed_gives_the_same_run():
    def run():
        model, (x, y) = cnn(seed=3), data()
        model.compile("adam", "sparse_categorical_crossentropy")
        return model.fit(x, y, epochs=2, verbose=0).history["loss"]

    assert run() == run()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
def test_bad_numbers_do_not_crash(bad):
    model, (x, y) = cnn(), data(8)
    x[3, 4, 5, 1] = bad
    assert model.predict(x, verbose=0).shape == (8, 5)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.allow_nan = True
    model.fit(x, y, epochs=1, verbose=0)


def test_nan_reaches_the_output_of_its_own_row_only():
    model, (x, _) = cnn(), data(4)
    clean = model.predict(x, verbose=0)
    x[2, 0, 0, 0] = np.nan
    out = model.predict(x, verbose=0)
    assert np.isnan(out[2]).any()
    np.testing.assert_array_equal(out[[0, 1, 3]], clean[[0, 1, 3]])


def test_empty_batches():
    model = cnn()
    assert model(np.zeros((0, 12, 12, 3), "float32")).shape == (0, 5)
    assert model.predict_on_batch(np.zeros((0, 12, 12, 3), "float32")).shape == (0, 5)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_step_on_no_samples_changes_no_weight(optimizer):
    model = lamina.Sequential([lamina.Input((4,)), layers.Dense(3, activation="relu"), layers.Dense(1)])
    model.compile(optimizer, "mse")
    before, none = model.get_weights(), np.zeros((0, 4), "float32")
    assert float(lamina.ops.sum(none)) == 0
    assert float(model.train_on_batch(none, none[:, :1])) == 0
    assert float(model.test_on_batch(none, none[:, :1])) == 0
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_moving_statistics_do_not_follow_no_samples():
    model = cnn()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(np.zeros((0, 12, 12, 3), "float32"), np.zeros((0,), "int64"))
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_many_threads_call_one_model():
    model = cnn()
    batches = [data(n, seed=n)[0] for n in (1, 3, 8, 17) * 8]
    expected = [np.asarray(model(b)) for b in batches[:4]] * 8
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for out, right in zip(pool.map(lambda b: np.asarray(model(b)), batches), expected, strict=True):
            np.testing.assert_array_equal(out, right)


def test_models_copy_and_pickle():
    model, (x, y) = cnn(), data(8)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=1, verbose=0)
    expected = model.predict(x, verbose=0)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model, protocol=5))):
        np.testing.assert_array_equal(other.predict(x, verbose=0), expected)
        other.fit(x, y, epochs=1, verbose=0)  # it trains, and alone
        np.testing.assert_array_equal(model.predict(x, verbose=0), expected)


def test_a_failed_call_leaves_the_model_as_it_was():
    model, (x, y) = cnn(), data(8)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=1, verbose=0)
    before = model.get_weights()
    with pytest.raises((ValueError, IndexError)):
        model.fit(x, y + 100, epochs=1, verbose=0)
    with pytest.raises(ValueError):
        model.fit(x[:, :5], y, epochs=1, verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_ctrl_c_stops_fit_and_leaves_a_usable_model():
    model, (x, y) = cnn(), data(64)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=1, verbose=0)
    threading.Timer(0.4, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, epochs=100_000, verbose=0)
    assert time.perf_counter() - start < 10
    assert all(np.isfinite(w).all() for w in model.get_weights())
    model.fit(x, y, epochs=1, verbose=0)
    assert model.predict(x, verbose=0).shape == (64, 5)


def test_numpy_and_dlpack_share_memory():
    a = np.arange(12, dtype="float32").reshape(3, 4)
    t = _core.tensor(a)
    assert np.shares_memory(np.asarray(t), a)
    assert np.shares_memory(np.from_dlpack(t), a)
    assert not np.asarray(t).flags.writeable
    assert t.dtype == "float32"
    f = np.asfortranarray(a)
    np.testing.assert_array_equal(np.asarray(_core.tensor(f)), a)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_computes():
    script = """
        import os, numpy as np, lamina
        from lamina import layers
        model = lamina.Sequential([lamina.Input((512,)), layers.Dense(512), layers.Dense(512)])
        x = np.ones((256, 512), "float32")
        expected = model.predict(x, verbose=0)
        pid = os.fork()
        same = (model.predict(x, verbose=0) == expected).all()
        if pid == 0:
            os._exit(0 if same else 1)
        assert same
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=120)


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512", "amx"])
def test_every_instruction_set_agrees(isa, tmp_path):
    script = """
        import numpy as np, lamina, sys
        from lamina import layers
        lamina.utils.set_random_seed(1)
        model = lamina.Sequential([lamina.Input((9, 9, 3)), layers.Conv2D(7, 3, activation="tanh"),
                                   layers.DepthwiseConv2D(3, activation="silu"), layers.Flatten(),
                                   layers.LayerNormalization(), layers.Dense(5, activation="softmax")])
        rng = np.random.default_rng(0)
        small = model.predict(rng.random((4, 9, 9, 3), "float32"), verbose=0)
        # Large enough for the kernels that only large products have.
        model = lamina.Sequential([lamina.Input((160,)), layers.Dense(192, "tanh"), layers.Dense(5)])
        large = model.predict(rng.random((70, 160), "float32"), verbose=0)
        np.save(sys.argv[1], np.concatenate([small, large]))
    """
    outputs = []
    for name in ("scalar", isa):
        path = str(tmp_path / f"{name}.npy")
        environment = os.environ | {"LAMINA_ISA": name}
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), path], check=True, env=environment, timeout=120
        )
        outputs.append(np.load(path))
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-5, atol=1e-6)


def test_too_large_for_any_memory_is_an_error_and_the_process_lives_on():
    with pytest.raises(MemoryError, match=r"elements take 40000000\.0 GB"):
        lamina.ops.zeros((10**8, 10**8))
    with pytest.raises(MemoryError, match=r"results take 40000000\.0 GB"):
        lamina.ops.broadcast_to(lamina.ops.ones((1,)), (10**8, 10**8))
    assert float(lamina.ops.sum(lamina.ops.ones(3))) == 3.0
