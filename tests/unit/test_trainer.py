"""Training: compiled and op by op, built in and custom, whole and interrupted."""

import _thread
import threading

import numpy as np
import pytest

import lamina
from lamina import layers, losses, metrics, ops, optimizers

RNG = np.random.default_rng(5)
X = RNG.normal(size=(30, 4)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5], [0.0]])).astype("float32")


def mlp(cls=None, **options):
    return (cls or lamina.Sequential)(
        [lamina.Input((4,)), layers.Dense(8, activation="tanh", **options), layers.Dense(1)]
    )


def compiled(cls=None, **options):
    lamina.utils.set_random_seed(0)
    model = mlp(cls)
    model.compile(**{"optimizer": optimizers.SGD(0.05), "loss": "mse", "metrics": ["mae"], **options})
    return model


def fit(model, **options):
    return model.fit(
        X, Y, **{"batch_size": 8, "epochs": 3, "verbose": 0, "shuffle": False, **options}
    ).history


def assert_same(a, b, **tolerance):
    for u, v in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(u, v, **{"rtol": 1e-5, "atol": 1e-6, **tolerance})


def test_training_learns():
    history = fit(compiled(optimizer=optimizers.Adam(0.05)), epochs=60)
    assert history["loss"][-1] < 0.02 * history["loss"][0]


def test_the_same_seed_gives_the_same_numbers():
    def run():
        model = compiled()
        return fit(model, shuffle=True)["loss"], model.predict(X, verbose=0)

    (first, p), (second, q) = run(), run()
    assert first == second
    np.testing.assert_array_equal(p, q)


def noisy():
    model = lamina.Sequential(
        [
            lamina.Input((4,)),
            layers.Dense(16),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(1),
        ]
    )
    return model


def test_op_by_op_gives_the_same_numbers():
    runs = []
    for eager in (False, True):
        lamina.utils.set_random_seed(0)
        model = noisy()
        model.compile("adam", loss="mse", metrics=["mae"], run_eagerly=eager)
        runs.append((model, fit(model, epochs=2, validation_data=(X, Y))))
    (a, first), (b, second) = runs
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=1e-5)
    assert_same(a, b)
    np.testing.assert_allclose(a.predict(X, verbose=0), b.predict(X, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "optimizer",
    [optimizers.Adam, optimizers.AdamW, optimizers.RMSprop, lambda: optimizers.SGD(0.05, momentum=0.9)],
)
def test_wide_layers_train_as_they_do_op_by_op(optimizer):
    """Their weights lie packed from step to step. Whoever reads or sets them meanwhile does not see that."""
    rng = np.random.default_rng(0)
    x, y = rng.random((6, 32, 70), np.float32), rng.random((6, 32, 1), np.float32)

    def run(eager):
        lamina.utils.set_random_seed(1)
        model = lamina.Sequential(
            [lamina.Input((70,)), *(layers.Dense(256, activation="relu") for _ in range(3)), layers.Dense(1)]
        )
        model.compile(optimizer(), loss="mse", run_eagerly=eager)
        seen = []
        for step in range(6):
            seen.append(np.asarray(model.train_on_batch(x[step], y[step])))
            if step == 1:
                seen.extend(np.asarray(v) for v in model.optimizer.variables)
            if step == 2:
                seen.append(model.predict(x[0], verbose=0))
            if step == 3:
                model.set_weights([w * 0.9 for w in model.get_weights()])
        return [*seen, *model.get_weights()]

    for compiled, eager in zip(run(False), run(True), strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=2e-3, atol=2e-4)


def test_predicting_while_training():
    rng = np.random.default_rng(0)
    x, y = rng.random((64, 70), np.float32), rng.random((64, 1), np.float32)
    model = lamina.Sequential([lamina.Input((70,)), layers.Dense(256), layers.Dense(256), layers.Dense(1)])
    model.compile("adam", loss="mse")
    done = threading.Event()
    found = []

    def predict():
        while not done.is_set():
            found.append(np.isfinite(model.predict_on_batch(x)).all())
            found.append(all(np.isfinite(w).all() for w in model.get_weights()))

    other = threading.Thread(target=predict)
    other.start()
    losses = [float(model.train_on_batch(x, y)) for _ in range(200)]
    done.set()
    other.join()
    assert found and all(found)
    assert losses[-1] < losses[0]


def test_one_trace_serves_full_and_partial_batches(monkeypatch):
    traced = []

    class Counting(lamina.Sequential):
        def train_step(self, data):
            traced.append(1)
            return super().train_step(data)

    fit(compiled(Counting))  # batches of 8, 8, 8, 6
    assert len(traced) == 1


def test_a_model_of_fixed_batch_size_trains():
    model = lamina.Sequential([lamina.Input(batch_shape=(10, 4)), layers.Dense(1)])
    model.compile("sgd", loss="mse")
    model.fit(X, Y, batch_size=10, verbose=0)
    assert model.predict(X, batch_size=10, verbose=0).shape == (30, 1)


# ------------------------------------------------------------------------------------------- custom
# training


class Custom(lamina.Sequential):
    """The step of the guides: tape, gradients, optimizer, metrics."""

    def train_step(self, data):
        x, y = data
        with lamina.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics if m.name == "loss"}


def test_a_custom_step_trains_as_the_built_in_one():
    ours, custom = compiled(), compiled(Custom)
    fit(ours)
    history = fit(custom)
    assert list(history) == ["loss"]
    assert_same(ours, custom)


def test_a_step_with_its_own_loss_and_metric_and_no_compiled_loss():
    class Own(lamina.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)
            self.tracker = metrics.Mean(name="my_loss")

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            x, y = data

            def objective():
                return ops.mean(ops.square(self(x, training=True) - y))

            with lamina.GradientTape() as tape:
                loss = objective()
            self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
            self.tracker.update_state(loss)
            return {"my_loss": self.tracker.result()}

        @property
        def metrics(self):
            return [self.tracker]

    model = Own()
    model.compile(optimizer=optimizers.SGD(0.1))
    history = model.fit(X, Y, epochs=5, verbose=0).history
    assert list(history) == ["my_loss"]
    assert history["my_loss"][-1] < history["my_loss"][0]


def test_two_networks_without_a_call_train_each_other():
    """A step may drive several optimizers; the model itself computes nothing."""

    class Pair(lamina.Model):
        def __init__(self):
            super().__init__()
            self.a, self.b = mlp(), mlp()

        def compile(self, first, second):
            super().compile()
            self.first, self.second = first, second

        def train_step(self, data):
            x, y = data
            logs = {}
            for name, net, optimizer in (("a", self.a, self.first), ("b", self.b, self.second)):
                with lamina.GradientTape() as tape:
                    loss = ops.mean(ops.abs(net(x) - y))
                optimizer.apply(tape.gradient(loss, net.trainable_weights), net.trainable_weights)
                logs[name] = loss
            return logs

    model = Pair()
    model.compile(optimizers.SGD(0.05), optimizers.Adam(0.05))
    history = model.fit(X, Y, epochs=5, verbose=0).history
    assert history["a"][-1] < history["a"][0]
    assert history["b"][-1] < history["b"][0]


def test_the_size_of_the_batch_can_be_asked_for():
    class Sized(lamina.Sequential):
        def train_step(self, data):
            return {"rows": ops.convert_to_tensor(ops.shape(data[0])[0], dtype="float32")}

    model = compiled(Sized)
    seen = []
    model.fit(
        X,
        Y,
        batch_size=8,
        verbose=0,
        callbacks=[
            lamina.callbacks.LambdaCallback(on_train_batch_end=lambda i, logs: seen.append(logs["rows"]))
        ],
    )
    assert seen == [8, 8, 8, 6]


def test_test_step_and_predict_step_can_be_overridden():
    class Steps(lamina.Sequential):
        def test_step(self, data):
            return {"mean": ops.mean(data[0])}

        def predict_step(self, data):
            return {"twice": 2 * self(data)}

    model = compiled(Steps)
    assert model.evaluate(X, Y, batch_size=30, verbose=0) == pytest.approx(float(X.mean()), rel=1e-4)
    np.testing.assert_allclose(model.predict(X, verbose=0)["twice"], 2 * np.asarray(model(X)), rtol=1e-6)


def test_compute_loss_written_without_training():
    class Older(lamina.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return ops.mean(ops.abs(y - y_pred))

    model = compiled(Older, metrics=None)
    expected = np.abs(model.predict(X, verbose=0) - Y).mean()
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_layers_add_is_enough():
    class Summed(layers.Layer):
        def call(self, x):
            self.add_loss(ops.sum(x))
            return x

    model = lamina.Sequential([lamina.Input((4,)), layers.Dense(2), Summed(), layers.Dense(1)])
    model.compile(optimizers.SGD(0.01))
    before = model.get_weights()
    with pytest.warns(UserWarning, match="Gradients do not exist for variables .*dense_1"):
        model.fit(X, Y, batch_size=30, verbose=0)
    # The gradient of the sum: the sums of x for the kernel, the number of samples for the bias.
    np.testing.assert_allclose(
        before[0] - model.get_weights()[0], 0.01 * X.sum(0)[:, None] * np.ones(2), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(before[1] - model.get_weights()[1], [0.3, 0.3], rtol=1e-5)


def test_loops_by_hand():
    """A tape and `value_and_grad` take the same steps as `fit`."""
    reference, taped, functional = compiled(), compiled(), compiled()
    fit(reference, epochs=1)
    mse = losses.MeanSquaredError()
    for start in range(0, 30, 8):
        x, y = X[start : start + 8], Y[start : start + 8]
        with lamina.GradientTape() as tape:
            loss = mse(y, taped(x, training=True))
        taped.optimizer.apply(tape.gradient(loss, taped.trainable_variables), taped.trainable_variables)

        def objective(x=x, y=y):
            return mse(y, functional(x, training=True))

        variables = functional.trainable_variables
        _, gradients = lamina.value_and_grad(objective, variables=variables)()
        functional.optimizer.apply(gradients, variables)
    assert_same(reference, taped)
    assert_same(reference, functional)


# ---------------------------------------------------------------------------------------- loops and
# results


def test_weights_change_only_in_training():
    model = compiled()
    before = model.get_weights()
    model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0)
    model.test_on_batch(X, Y)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_evaluate_does_not_depend_on_the_batch_size():
    model = compiled()
    assert model.evaluate(X, Y, batch_size=7, verbose=0) == pytest.approx(
        model.evaluate(X, Y, batch_size=30, verbose=0), rel=1e-5
    )


def test_predictions_do_not_depend_on_the_batch_size():
    model = compiled()
    np.testing.assert_allclose(
        model.predict(X, batch_size=7, verbose=0), model.predict(X, batch_size=30, verbose=0), rtol=1e-6
    )


@pytest.mark.parametrize("n", [0, 1, 31])
def test_predict_on_any_number_of_samples(n):
    x = np.resize(X, (n, 4))
    assert compiled().predict(x, verbose=0).shape == (n, 1)
    assert compiled().predict_on_batch(x).shape == (n, 1)


def test_predict_keeps_the_structure_of_the_outputs():
    x = lamina.Input((4,))
    model = lamina.Model(x, {"a": layers.Dense(2)(x), "b": [layers.Dense(3)(x)]})
    outputs = model.predict(X, batch_size=8, verbose=0)
    assert outputs["a"].shape == (30, 2)
    assert outputs["b"][0].shape == (30, 3)
    assert type(outputs["a"]) is np.ndarray


def test_results_come_as_a_number_a_list_or_a_dict():
    model = compiled(metrics=None)
    assert isinstance(model.evaluate(X, Y, verbose=0), float)
    model = compiled(metrics=["mae", "mse"])
    loss, mae, mse = model.evaluate(X, Y, verbose=0)
    assert loss == pytest.approx(mse)
    assert model.evaluate(X, Y, verbose=0, return_dict=True) == {"loss": loss, "mae": mae, "mse": mse}
    assert isinstance(model.train_on_batch(X, Y), list)


def test_training_on_batches_by_hand_is_fit():
    a, b = compiled(), compiled()
    fit(a, epochs=1)
    for start in range(0, 30, 8):
        b.train_on_batch(X[start : start + 8], Y[start : start + 8])
    assert_same(a, b)


def test_compiling_again_starts_a_new_optimizer_and_keeps_the_weights():
    model = compiled(optimizer="adam")
    fit(model)
    weights = model.get_weights()
    model.compile("sgd", loss="mae")
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(model.optimizer.iterations) == 0
    assert list(fit(model)) == ["loss"]


def test_layers_added_after_training_count():
    model = compiled()
    fit(model)
    assert model.predict(X, verbose=0).shape == (30, 1)
    model.add(layers.Dense(3))
    assert model.predict(X, verbose=0).shape == (30, 3)
    model.pop()
    assert model.predict(X, verbose=0).shape == (30, 1)


def test_the_model_is_built_by_its_first_batch():
    model = lamina.Sequential([layers.Dense(3), layers.Dense(1)])
    model.compile("sgd", loss="mse")
    model.fit(X, Y, verbose=0)
    assert [w.shape for w in model.weights] == [(4, 3), (3,), (3, 1), (1,)]


def test_a_generator_that_ends_ends_training():
    model = compiled()
    with pytest.warns(UserWarning, match="ran out of data"):
        history = model.fit(((X, Y) for _ in range(2)), epochs=3, verbose=0)
    assert history.epoch == [0]


def test_compile_config_comes_back():
    model = compiled(optimizer=optimizers.Adam(0.01), metrics=["mae", metrics.MeanSquaredError()])
    config = model.get_compile_config()
    other = mlp()
    other.compile_from_config(config)
    assert other.optimizer.get_config() == model.optimizer.get_config()
    assert other.evaluate(X, Y, verbose=0, return_dict=True).keys() == {"loss", "mae", "mean_squared_error"}
    assert mlp().get_compile_config() == {}


# -------------------------------------------------------------------------------------- reliability


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_numbers_do_not_crash(bad):
    x = X.copy()
    x[3, 1] = bad
    model = lamina.Sequential([lamina.Input((4,)), layers.Dense(8, activation="relu"), layers.Dense(1)])
    model.compile("adam", loss="mse", metrics=["mae"])
    model.allow_nan = True
    history = model.fit(x, Y, verbose=0, epochs=2, validation_data=(x, Y)).history
    assert not np.isfinite(history["val_loss"][-1])
    assert model.predict(x, verbose=0).shape == (30, 1)


def test_interrupting_fit_keeps_whole_steps():
    model = compiled()
    started = threading.Event()

    class Wait(lamina.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            started.set()

    def interrupt():
        started.wait()
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, batch_size=1, epochs=100_000, verbose=0, callbacks=[Wait()])
    thread.join()
    assert int(model.optimizer.iterations) > 0
    assert all(np.isfinite(w).all() for w in model.get_weights())
    assert len(fit(model)["loss"]) == 3


def test_an_error_in_a_callback_leaves_a_usable_model():
    model = compiled()

    def fail(batch, logs):
        raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        fit(model, callbacks=[lamina.callbacks.LambdaCallback(on_train_batch_end=fail)])
    assert int(model.optimizer.iterations) == 1
    assert np.isfinite(fit(model)["loss"]).all()


def test_float64_and_integer_data():
    model = compiled()
    a = model.predict(X.astype("float64"), verbose=0)
    np.testing.assert_array_equal(a, model.predict(X, verbose=0))
    assert model.predict(np.arange(8).reshape(2, 4), verbose=0).dtype == "float32"


def test_steps_of_one_batch_are_traced_once_whatever_comes_between(monkeypatch):
    from lamina.engine import trace

    made = []

    class Counted(trace._Trace):
        def __init__(self, *args):
            made.append(args)
            super().__init__(*args)

    monkeypatch.setattr(trace, "_Trace", Counted)
    model = compiled(metrics=None)
    for _ in range(3):
        model.train_on_batch(X, Y)
        model.test_on_batch(X, Y)
    assert len(made) == 2


class MadeLate(metrics.Metric):
    """The mean of the targets, by variables made at the first update."""

    total = None

    def update_state(self, y_true, y_pred, sample_weight=None):
        if self.total is None:
            self.total = self.add_weight(name="total")
        self.total.assign_add(ops.mean(y_true))

    def result(self):
        return self.total


def test_metrics_made_by_the_first_step_start_anew_with_the_second():
    model = compiled(metrics=[MadeLate(name="late")])
    for k in (1, 2, 3):
        logs = model.train_on_batch(X, k * np.ones_like(Y), return_dict=True)
        assert logs["late"] == k
